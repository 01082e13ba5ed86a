"""Every invariant of the ledger, checked over the whole of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from proxy.flows.operator import Operator
from proxy.store.audit import verify


async def verify_ledger(operator: Operator) -> list[dict[str, Any]]:
    """The bad rows, none when all is well: each a `check`, a `row` and what is wrong in `words`."""
    findings = await operator.database.read(lambda tx: list(verify(tx)))
    return [asdict(finding) for finding in findings]
