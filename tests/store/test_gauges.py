from __future__ import annotations

from pathlib import Path

from proxy.core.budget import month_of
from proxy.store.gauges import budgets_used, unfinished_by_model
from tests.gateways import gateways, resets, streams
from tests.running import configured, running
from tests.streams import chinese


async def test_the_metrics_see_what_is_open_and_how_much_of_a_budget_is_used(
    tmp_path: Path,
) -> None:
    async with gateways("api") as (api,):
        api.does(streams(chinese()), resets())
        config = configured(tmp_path, [("api", api.url)])
        async with running(config, clips_per_month=8, micros_per_month=600_000) as proxy:
            await proxy.add_key(seed=bytes([5]) * 32)
            await proxy.chat()
            await proxy.chat()
            assert await proxy.settled() == ["delivered", "unknown"]
            house = proxy.house
            assert await house.database.read(unfinished_by_model) == {"veo-3.1-fast": 1}
            month = month_of(house.clock.now())
            used = await house.database.read(lambda tx: budgets_used(tx, month))
            assert used == {"team-0": 0.5}
            assert await house.database.read(lambda tx: budgets_used(tx, "2001-01")) == {
                "team-0": 0.0
            }
