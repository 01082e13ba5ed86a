"""The chores: signs of life, the dead's unfinished work, old unknowns."""

from __future__ import annotations

import asyncio
import io
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy import logs
from proxy.core import clip
from proxy.core.failure import Reason
from proxy.flows import tend as chores
from proxy.flows.settle import Settlement
from proxy.flows.tend import sweep_orphans, tend, write_off
from proxy.store.tables import JOBS
from tests.archiving import Shifted
from tests.gateways import gateways, resets, streams
from tests.jobs import FAST, Started, asked, completed, hasty, polls, said, started
from tests.running import KEY_SEED, Running, ask, configured, running, until
from tests.streams import chinese, chunk, frame


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


async def test_keys_and_answers_whose_time_is_over_are_forgotten(tmp_path: Path) -> None:
    async with gateways("api") as (api,):
        api.does(streams(chinese()))
        replay = {"idempotency_hours": 1}
        async with running(configured(tmp_path, [("api", api.url)], replay=replay)) as proxy:
            await proxy.chat(idempotency_key="k")
            await proxy.settled()
            house = proxy.house
            house.clock = Shifted(house.clock)
            for minutes, left in ((59, 1), (61, 0)):
                house.clock.seconds = 60.0 * minutes
                await tend(house, NothingUsed())  # type: ignore[arg-type]
                for table in ("idempotency_keys", "answers"):
                    assert await proxy.rows(f"SELECT COUNT(*) FROM {table}") == [(left,)]
            assert await proxy.states() == ["delivered"]


async def test_of_too_many_answers_the_oldest_is_forgotten(tmp_path: Path) -> None:
    async with gateways("api") as (api,):
        api.does(streams(chinese()))
        replay = {"answer_bytes_max": 5_000, "answers_bytes_max": 5_000}
        async with running(configured(tmp_path, [("api", api.url)], replay=replay)) as proxy:
            given = [await proxy.chat(ask(f"no. {number}")) for number in range(4)]
            await proxy.settled()
            assert await proxy.rows("SELECT COUNT(*) FROM answers") == [(4,)]
            await tend(proxy.house, NothingUsed())  # type: ignore[arg-type]
            left = await proxy.rows("SELECT generation_id, size_bytes FROM answers")
            assert sum(size for _, size in left) <= 5_000
            last = given[-1].headers["x-clipmeter-generation"]
            assert last in [generation for generation, _ in left]


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


async def test_a_job_that_is_given_up_is_asked_for_no_more_and_shown_with_what_it_may_have_cost(
    tmp_path: Path,
) -> None:
    lines = io.StringIO()
    logs.configure(lines, json=True, strict=True)
    follow = {"give_up_hours": 1}
    async with gateways("api") as (api,):
        api.does(said("processing", progress=30))
        async with running(hasty(tmp_path, ("api", api.url), follow=follow)) as proxy:
            house = proxy.house
            young = await started(proxy, "young", age_seconds=1800)
            old = await started(proxy, "old", age_seconds=3700)
            await old.becomes("unknown")
            await young.becomes("in_progress")
            await tend(house, NothingUsed())  # type: ignore[arg-type]
            assert (await old.state(), await old.ended()) == ("written_off", True)
            assert (await young.state(), await young.ended()) == ("in_progress", False)
            assert await proxy.settled() == ["written_off", "in_progress"]
            asked_before = polls(api, "old")
            await asked(api, 10)
            assert polls(api, "old") == asked_before
            assert await write_off(house) == 0
            shown = house.metrics.render("")[0].decode()
    assert "clipmeter_written_off_usd_total 0.15" in shown
    oldest = next(line for line in shown.splitlines() if line.startswith("clipmeter_job_oldest"))
    assert 1800 < float(oldest.split()[1]) < 1900
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    given_up = [line for line in told if line["event"] == "clip_written_off"]
    assert [(line["clip"], line["exposure_micros"], line["level"]) for line in given_up] == [
        (old.id, FAST, "warning")
    ]


async def test_a_clip_that_is_found_while_it_is_being_given_up_stays_found_and_followed(
    tmp_path: Path,
) -> None:
    async with gateways("api") as (api,):
        api.does(said("queued"))
        async with running(hasty(tmp_path, ("api", api.url))) as proxy:
            house = proxy.house
            job = await started(proxy, age_seconds=100 * 3600, followed=False)
            now = house.clock.now()
            lost = Settlement([(job.id, clip.Lost(Reason.LOST))], now)
            found = Settlement([(job.id, clip.Found(clip.Progressed(10)))], now)
            assert await house.settler.settle(lost)

            class FoundFirst:
                read = house.database.read

                async def write(self, fn: Any) -> Any:
                    await database.write(found.write)
                    return await database.write(fn)

            database, house.database = house.database, FoundFirst()  # type: ignore[assignment]
            assert await write_off(house) == 0
            house.database = database
            assert (await job.state(), await job.ended()) == ("in_progress", False)


@pytest.mark.parametrize("owner", ["process_dead", None], ids=["dead", "let go"])
async def test_a_start_takes_over_the_jobs_of_who_was_there_before(
    tmp_path: Path, owner: str | None
) -> None:
    async with gateways("api") as (api,):
        api.does(said("queued"))
        config = hasty(tmp_path, ("api", api.url))
        async with running(config) as proxy:
            job = await started(proxy)
        if owner is not None:
            async with running(config, bytes([8]) * 32) as proxy:
                values = JOBS.update().values(owner=owner)
                await proxy.house.database.write(lambda tx: tx.execute(values))
        api.does(completed())
        async with running(config, bytes([9]) * 32) as proxy:
            await Started(proxy, job.row).becomes("delivered")
            assert await proxy.settled() == ["delivered"]


async def seen_at(proxy: Running) -> object:
    """When the process last said that it lives."""
    process = proxy.house.process_id
    rows = await proxy.rows(f"SELECT seen_at FROM processes WHERE id = '{process}'")
    return rows[0][0]


async def expect_a_beat(proxy: Running) -> None:
    before = await seen_at(proxy)
    deadline = time.monotonic() + 20
    while await seen_at(proxy) == before:
        assert time.monotonic() < deadline, "it is silent"


@pytest.fixture(params=["sqlite", "postgres"])
def quick(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A configuration's groups: either database, and a heart that beats fast."""
    groups: dict[str, Any] = {"limits": {"heartbeat_seconds": 0.02}}
    if request.param == "postgres":
        groups["database"] = {"url": request.getfixturevalue("postgres_url")}
        groups["secrets"] = {"key": "0123456789abcdef" * 2}
    return groups


async def test_a_process_says_that_it_lives_while_it_drains(
    tmp_path: Path, quick: dict[str, Any]
) -> None:
    beats = 0
    async with gateways("api") as (api,):
        async with running(configured(tmp_path, [("api", api.url)], **quick)) as proxy:

            async def long_answer() -> None:
                nonlocal beats
                await until(lambda: proxy.house.draining)
                for _ in range(3):
                    await expect_a_beat(proxy)
                    beats += 1

            proxy.house.background.start("long answer", long_answer())
        assert beats == 3


async def test_a_process_says_that_it_lives_while_it_is_long_at_its_chores(
    tmp_path: Path, quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_it, done = asyncio.Event(), asyncio.Event()

    async def endless(_house: object, _keys: object) -> None:
        at_it.set()
        await done.wait()

    monkeypatch.setattr(chores, "tend", endless)
    async with (
        gateways("api") as (api,),
        running(configured(tmp_path, [("api", api.url)], **quick)) as proxy,
    ):
        await at_it.wait()
        await expect_a_beat(proxy)
        await expect_a_beat(proxy)
        assert not done.is_set()
        done.set()


async def test_chores_that_crash_are_told_and_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashes: list[str] = []
    monkeypatch.setattr(logs, "crash", lambda task, error: crashes.append(f"{task}: {error!r}"))

    class Broken:
        taken = 0

        def take_last_used(self) -> dict[str, object]:
            self.taken += 1
            raise ZeroDivisionError

    limits = {"heartbeat_seconds": 0.01}
    async with gateways("api") as (api,):
        async with running(configured(tmp_path, [("api", api.url)], limits=limits)) as proxy:
            broken = Broken()
            chores.start(proxy.house, broken)  # type: ignore[arg-type]
            await until(lambda: broken.taken >= 3)
        assert crashes[:2] == ["chores: ZeroDivisionError()"] * 2
