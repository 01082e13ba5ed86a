"""The audit as a command: nothing to say of a whole ledger, and the row of a broken one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import text

from proxy.flows.audit import verify_ledger
from proxy.flows.tenants import add_key, add_tenant
from tests.operators import DELIVERED, FAILED, Desk, desk


def test_a_whole_ledger_has_no_findings_and_a_bent_one_names_its_row(tmp_path: Path) -> None:
    async def story(opened: Desk) -> None:
        operator = opened.operator
        await add_tenant(operator, "ads")
        key = await add_key(operator, "ads")
        clip_id, _ = await opened.buy("ads", key["id"], DELIVERED, FAILED)
        assert await verify_ledger(operator) == []
        bend = text("UPDATE clips SET reason = 'lost', state = 'unknown' WHERE id = :id")
        await operator.database.write(lambda tx: tx.execute(bend, {"id": clip_id}))
        findings = await verify_ledger(operator)
        assert clip_id in {finding["row"] for finding in findings}
        assert all(finding["check"] and finding["words"] for finding in findings)

    with desk(tmp_path) as opened:
        asyncio.run(story(opened))
