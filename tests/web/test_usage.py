"""`GET /v1/usage`: a team's own numbers, and no other's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.gateways import gateways
from tests.running import Running, configured, running
from tests.web.test_typed import OTHER_SEED


async def usage(proxy: Running, query: str = "", key: str | None = None) -> dict[str, Any]:
    answer = await proxy.get(f"/v1/usage{query}", key)
    assert answer.status == 200, answer.body
    said: dict[str, object] = json.loads(answer.body)
    return said


async def test_a_team_sees_what_it_bought_and_what_is_left(tmp_path: Path) -> None:
    async with gateways("api") as (gateway,):
        config = configured(tmp_path, [(gateway.name, gateway.url)])
        async with running(config, clips_per_month=4, micros_per_month=1_000_000) as proxy:
            assert (await proxy.chat()).status == 200
            await proxy.settled()
            said = await usage(proxy)
            other = await proxy.add_key(seed=OTHER_SEED)
            nothing = await usage(proxy, key=other)
    assert said["object"] == "clipmeter.usage"
    assert [(row["model"], row["delivered"]) for row in said["rows"]] == [("veo-3.1-fast", 1)]
    assert said["totals"]["amount_usd"] == "0.15"
    assert said["budget"] == {
        "clips_per_month": 4,
        "clips_used": 1,
        "clips_left": 3,
        "usd_per_month": "1.00",
        "usd_used": "0.15",
        "usd_left": "0.85",
    }
    assert said["sandbox"] is False
    assert nothing["rows"] == []
    assert nothing["budget"]["clips_used"] == 0


async def test_another_month_can_be_asked_for(tmp_path: Path) -> None:
    async with running(configured(tmp_path, [("api", "http://127.0.0.1:9")])) as proxy:
        assert (await usage(proxy, "?month=2025-02"))["month"] == "2025-02"


@pytest.mark.parametrize("month", ["2025", "2025-13", "now", "2025-01-01", "%00"])
async def test_what_is_no_month_is_refused(tmp_path: Path, month: str) -> None:
    async with running(configured(tmp_path, [("api", "http://127.0.0.1:9")])) as proxy:
        answer = await proxy.get(f"/v1/usage?month={month}")
    answer.assert_error(400, "invalid_request")
    assert answer.error["param"] == "month"


async def test_without_the_ledger_nobody_guesses(tmp_path: Path) -> None:
    async with running(configured(tmp_path, [("api", "http://127.0.0.1:9")])) as proxy:
        assert (await proxy.get("/v1/usage")).status == 200
        proxy.house.database.close()
        answer = await proxy.get("/v1/usage")
    answer.assert_error(503, "ledger_unavailable", retry=True)
