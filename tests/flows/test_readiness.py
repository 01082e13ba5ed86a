"""Readiness: 503 exactly while paid work would be refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

from proxy.flows.readiness import refusals
from tests.running import configured, running


def test_reasons_are_the_codes_that_paid_work_would_get(tmp_path: Path) -> None:
    async def story() -> None:
        config = configured(tmp_path, [("api", "http://127.0.0.1:9")])
        async with running(config) as proxy:
            assert await refusals(proxy.house) == []
            proxy.house.draining = True
            assert await refusals(proxy.house) == ["draining"]
            proxy.house.database.close()
            assert await refusals(proxy.house) == ["draining", "ledger_unavailable"]

    asyncio.run(story())
