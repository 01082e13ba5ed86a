"""The chores: signs of life, the dead's unfinished work, old unknowns."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from proxy.flows.tend import sweep_orphans, tend, write_off
from tests.gateways import gateways, resets, streams
from tests.running import KEY_SEED, configured, running, until
from tests.streams import chunk, frame


class NothingUsed:
    def take_last_used(self) -> dict[str, object]:
        return {}


async def test_the_running_work_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with gateways("api") as (api,):
        api.does(streams(frame(chunk("x")), frame(chunk("y")), gate=gate))
        async with running(configured(tmp_path, [("api", api.url)])) as proxy:
            async with proxy.asking() as response:
                await response.content.readany()
                house = proxy.house
                await tend(house, NothingUsed())  # type: ignore[arg-type]
                soon = house.clock.now() + timedelta(days=1)
                assert await sweep_orphans(house, soon) == 0
                assert await proxy.states() == ["generating"]
                gate.set()
                await response.read()
            assert await proxy.settled() == ["unknown"]


async def test_the_work_of_a_process_that_is_gone_becomes_unknown(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with gateways("api") as (api,):
        api.does(streams(frame(chunk("x")), gate=gate))
        async with running(configured(tmp_path, [("api", api.url)])) as proxy:
            async with proxy.asking() as response:
                await response.content.readany()
                await until(lambda: proxy.running == 1)
                house = proxy.house
                living, house.process_id = house.process_id, "process_another"
                now = house.clock.now()
                assert await sweep_orphans(house, now - timedelta(seconds=30)) == 0
                assert await sweep_orphans(house, now + timedelta(days=1)) == 1
                assert await proxy.states() == ["unknown"]
                house.process_id = living
                gate.set()
            assert await proxy.settled() == ["unknown"]


async def test_an_unknown_is_kept_until_it_is_old_and_then_written_off(tmp_path: Path) -> None:
    async with gateways("api") as (api,):
        api.does(resets())
        config = configured(tmp_path, [("api", api.url)])
        async with running(config, KEY_SEED, clips_per_month=1) as proxy:
            await proxy.chat()
            assert await proxy.settled() == ["unknown"]
            assert await write_off(proxy.house) == 0
            (await proxy.chat()).assert_error(429, "insufficient_quota")
        old = configured(tmp_path, [("api", api.url)], follow={"give_up_hours": 0.000001})
        async with running(old, bytes([9]) * 32) as proxy:
            assert await write_off(proxy.house) == 1
            assert await proxy.settled() == ["written_off"]
            assert await proxy.charged() == 0
            assert await proxy.rows("SELECT clips, micros FROM budgets") == [(0, 0)]
            await tend(proxy.house, NothingUsed())  # type: ignore[arg-type]
            shown = proxy.house.metrics.render("")[0].decode()
            assert 'outcome="written_off"' in shown
            assert 'clipmeter_tenant_budget_used_ratio{tenant="team-0"} 0.0' in shown
