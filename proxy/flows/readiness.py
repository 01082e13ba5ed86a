"""Would paid work be taken now? Asked by whatever sends callers to this process."""

from __future__ import annotations

import asyncio
from typing import Final

from proxy.flows.house import House
from proxy.store.database import LedgerUnavailable

LEDGER_SECONDS_MAX: Final = 2.0
"""How long the ledger may take to write nothing before it counts as away."""


async def refusals(house: House) -> list[str]:
    """Why paid work would be refused, by the error codes it would get; empty when it is taken."""
    reasons = ["draining"] if house.draining else []
    if not await _can_book(house):
        reasons.append("ledger_unavailable")
    return reasons


async def _can_book(house: House) -> bool:
    try:
        async with asyncio.timeout(LEDGER_SECONDS_MAX):
            await house.database.write(lambda _tx: None)
    except (LedgerUnavailable, TimeoutError):
        return False
    return True
