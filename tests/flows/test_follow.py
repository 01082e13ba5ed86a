"""Jobs are polled to their end: whatever the gateways say, whoever sees it, and once."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import aiohttp
import pytest

from proxy import logs
from proxy.core import clip
from proxy.core.failure import Reason
from proxy.flows.settle import Settlement, Settler
from proxy.flows.tend import begin
from proxy.sandbox import Sandbox
from proxy.sandbox.render import stamped
from proxy.store.database import Connection
from proxy.store.kept import VaultUnavailable
from proxy.store.processes import beat
from proxy.store.tables import JOBS
from tests.flows.test_settle import Away
from tests.gateways import (
    Act,
    Gateway,
    answers,
    bytes_then,
    closed_port,
    gateways,
    head,
    refusal,
    resets,
)
from tests.jobs import (
    FAST,
    LINK,
    POLL_SECONDS,
    Started,
    asked,
    completed,
    hasty,
    not_found,
    once,
    polls,
    said,
    started,
)
from tests.running import KEY_SEED, Running, running, until
from tests.store.vaults import SMALL

NOT_READY = refusal(400, "Task is not completed yet, current status: IN_PROGRESS")
PAGE = answers(200, b"<!doctype html><title>APIYI</title>")
READY = said("completed", progress=100)
SILENT = {"heartbeat_seconds": 1000, "orphan_seconds": 3000}
"""A process that says and does nothing by itself while a test lasts."""


def split(poll: Act, *contents: Act) -> Act:
    """`poll` for a job's state; for its `/content` one after the other, the last for ever."""
    left = list(contents)

    async def act(request: Any, writer: asyncio.StreamWriter) -> None:
        if not request.path.endswith("/content"):
            await poll(request, writer)
        else:
            await (left.pop(0) if len(left) > 1 else left[0])(request, writer)

    return act


@asynccontextmanager
async def one_gateway(tmp_path: Path, **groups: Any) -> AsyncIterator[tuple[Running, Gateway]]:
    """A quick proxy, and its only gateway."""
    async with AsyncExitStack() as stack:
        (api,) = await stack.enter_async_context(gateways("api"))
        config = hasty(tmp_path, ("api", api.url), **groups)
        yield await stack.enter_async_context(running(config)), api


async def settled(job: Started) -> tuple[str, int]:
    """What became of the clip, in a ledger that is whole, and what it was charged."""
    (state,) = await job.proxy.settled()
    return state, await job.proxy.charged()


SHAPES: list[tuple[str, str, str | None]] = [
    ("", "delivered", None),
    ("[[polled captured]] [[link signed]]", "delivered", None),
    ("[[polled documented]]", "delivered", None),
    ("[[polled documented]] [[content bytes]]", "delivered", None),
    ("[[polled documented]] [[content redirect]]", "delivered", None),
    ("[[polled documented]] [[content video-url]]", "delivered", None),
    ("[[polled documented]] [[not-ready 2]]", "delivered", None),
    ("[[polled documented]] [[fail]]", "failed", "policy_other"),
    ("[[polled task]]", "delivered", None),
    ("[[polled task]] [[fail]]", "failed", "policy_other"),
    ("[[polled newapi]]", "delivered", None),
    ("[[polled newapi]] [[fail]]", "failed", "policy_other"),
    ("[[created b]]", "delivered", None),
]


@asynccontextmanager
async def sandboxed(tmp_path: Path, **groups: Any) -> AsyncIterator[tuple[Running, Sandbox]]:
    async with Sandbox.start(speed=40, renderer=stamped) as sandbox:
        upstream = {"api_key": sandbox.api_key}
        config = hasty(tmp_path, *sandbox.urls.items(), upstream=upstream, **groups)
        async with running(config) as proxy:
            yield proxy, sandbox


async def ordered(sandbox: Sandbox, prompt: str, gateway: str = "api") -> str:
    """The vendor's id of a job that a gateway of the sandbox has begun."""
    body = {"model": "veo-3.1-fast", "prompt": prompt}
    headers = {"authorization": f"Bearer {sandbox.api_key}"}
    url = f"{sandbox.urls[gateway]}/v1/videos"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=body, headers=headers) as answer,
    ):
        told = await answer.json()
        return str(told.get("id") or told["task_id"])


@pytest.mark.parametrize(("words", "state", "reason"), SHAPES, ids=str)
async def test_every_shape_of_a_poll_comes_to_its_right_end(
    tmp_path: Path, words: str, state: str, reason: str | None
) -> None:
    async with sandboxed(tmp_path) as (proxy, sandbox):
        job = await started(proxy, await ordered(sandbox, f"a cat {words}"))
        await job.becomes(state)
        assert await settled(job) == (state, FAST if state == "delivered" else 0)
        assert await job.ended()
        found = await proxy.rows("SELECT clips.reason, ending, status FROM clips, generations")
        assert found == [(reason, "told", 200)]
        assert len(proxy.house.follower) == 0


async def test_a_failure_keeps_the_vendors_own_words(tmp_path: Path) -> None:
    async with one_gateway(tmp_path) as (proxy, api):
        api.does(said("failed", error="Content policy violation"))
        job = await started(proxy)
        await job.becomes("failed")
        words = "Content policy violation"
        assert await proxy.rows("SELECT vendor_text FROM clips") == [(words,)]
        assert await proxy.rows("SELECT reason, vendor_text FROM generations") == [
            ("policy_other", words)
        ]


async def test_a_vendors_id_can_be_anything_and_stays_one_part_of_the_path(tmp_path: Path) -> None:
    async with one_gateway(tmp_path) as (proxy, api):
        api.does(completed())
        job = await started(proxy, "a/../b?c=%2e#d")
        await job.becomes("delivered")
        path = api.requests[0].path
        assert (unquote(path), path.count("/")) == ("/v1/videos/a/../b?c=%2e#d", 3)


async def test_progress_is_written_down_goes_on_and_never_back(tmp_path: Path) -> None:
    async with one_gateway(tmp_path) as (proxy, api):
        api.does(said("queued"))
        job = await started(proxy)
        await asked(api, 2)
        assert (await job.state(), await job.percent()) == ("queued", 0)
        api.does(said("processing", progress="45%"))
        await job.becomes("in_progress")
        assert await job.percent() == 45
        api.does(said("processing", progress=12), said("queued"), said("processing", progress=60))
        await once(proxy, job.percent, lambda percent: percent != 45)
        assert await job.percent() == 60
        assert await job.state() == "in_progress"


async def test_what_is_answered_from_memory_knows_of_progress_as_soon_as_it_is_written(
    tmp_path: Path,
) -> None:
    async with one_gateway(tmp_path, limits={"video_memory_seconds": 3600}) as (proxy, api):
        api.does(said("processing", progress=10))
        job = await started(proxy)
        tenant = (await proxy.rows("SELECT tenant_id FROM clips"))[0][0]
        standings = proxy.house.standings

        async def percent() -> int | None:
            row = await standings.find(tenant, job.id)
            assert row is not None
            return row.percent

        await once(proxy, percent, lambda found: found == 10)
        api.does(said("processing", progress=20))
        await once(proxy, percent, lambda found: found == 20)


async def test_a_poll_without_news_writes_nothing(tmp_path: Path) -> None:
    async with one_gateway(tmp_path, limits=SILENT) as (proxy, api):
        api.does(said("processing", progress=45))
        job = await started(proxy)
        await job.becomes("in_progress")
        await until(lambda: len(proxy.house.follower._news) == 0)
        commits = proxy.house.database.commits
        await asked(api, 20)
        assert proxy.house.database.commits == commits


TRANSIENT: list[tuple[str, Act]] = [
    ("a not found", not_found()),
    ("a page", PAGE),
    ("a broken body", answers(200, b'{"id": "job", "status": "comp')),
    ("an empty body", answers(200, b"")),
    ("a 500", refusal(500)),
    ("a 502 of a CDN", answers(502, b"<html><h1>Bad Gateway</h1>")),
    ("a 429", refusal(429, "too many requests", "rate_limit")),
    ("a 400", refusal(400)),
    ("a reset", resets()),
    ("no HTTP", bytes_then(b"SSH-2.0-OpenSSH_9\r\n")),
    ("our key refused", refusal(401, "Invalid token", "invalid_api_key")),
    ("an error as success", answers(200, {"error": {"message": "balance", "code": "quota"}})),
    ("a body cut short", bytes_then(head(200, ("Content-Length", "99")) + b'{"id": "j')),
]


@pytest.mark.parametrize(
    "trouble", [act for _, act in TRANSIENT], ids=[name for name, _ in TRANSIENT]
)
async def test_trouble_of_whatever_kind_ends_no_job(tmp_path: Path, trouble: Act) -> None:
    limits = {"poll_pause_seconds_max": POLL_SECONDS}
    async with one_gateway(tmp_path, limits=limits) as (proxy, api):
        api.does(trouble)
        job = await started(proxy)
        await asked(api, 6)
        assert await job.state() == "queued"
        api.does(completed())
        await job.becomes("delivered")
        assert await settled(job) == ("delivered", FAST)


async def test_trouble_with_our_account_is_told_to_the_operator_once_in_a_while(
    tmp_path: Path,
) -> None:
    lines = io.StringIO()
    logs.configure(lines, json=True, strict=True)
    async with one_gateway(tmp_path) as (proxy, api):
        api.does(refusal(403, "user quota is not enough", "insufficient_user_quota"))
        job = await started(proxy)
        await asked(api, 5)
        told = [json.loads(line) for line in lines.getvalue().splitlines()]
        ours = [line for line in told if line["event"] == "vendor_account"]
        assert [(line["reason"], line["level"], line["gateway"]) for line in ours] == [
            ("balance", "warning", "api")
        ]
        assert await job.state() == "queued"


async def test_a_gateway_that_is_silent_is_left_for_another_and_found_again(tmp_path: Path) -> None:
    limits = {"poll_answer_seconds_max": 0.1, "breaker_faults": 2, "breaker_seconds": 0.1}
    well = asyncio.Event()

    async def sick(request: Any, writer: asyncio.StreamWriter) -> None:
        if not request.path.startswith("/v1/videos"):
            await (answers(200, {}) if well.is_set() else refusal(500))(request, writer)
        elif well.is_set():
            await said("queued")(request, writer)
        else:
            await asyncio.sleep(3600)

    async with gateways("api", "vip") as (api, vip):
        api.does(sick)
        vip.does(said("queued"))
        urls = [("api", api.url), ("vip", vip.url)]
        async with running(hasty(tmp_path, *urls, limits=limits)) as proxy:
            await started(proxy)
            await until(lambda: proxy.house.fleet.states()["api"] != "closed")
            silent = polls(api)
            await asked(vip, 20)
            assert polls(api) == silent
            well.set()
            await until(lambda: polls(api) > silent + 3)


async def test_one_gateway_that_does_not_know_a_job_does_not_end_it(tmp_path: Path) -> None:
    async with gateways("api", "vip", "b") as (api, vip, b):
        api.does(not_found())
        vip.does(not_found())
        b.does(refusal(500))
        urls = [(each.name, each.url) for each in (api, vip, b)]
        limits = {"breaker_faults": 1000}
        async with running(hasty(tmp_path, *urls, limits=limits)) as proxy:
            job = await started(proxy, age_seconds=120)
            await until(lambda: polls(api) > 4 and polls(vip) > 4 and polls(b) > 4)
            assert await job.state() == "queued"
            b.does(completed())
            await job.becomes("delivered")


async def test_a_job_that_no_gateway_knows_is_unknown_still_asked_for_and_found(
    tmp_path: Path,
) -> None:
    async with gateways("api", "vip") as (api, vip):
        api.does(not_found())
        vip.does(answers(400, {"code": "task_not_exist", "message": "task_not_exist"}))
        urls = [(each.name, each.url) for each in (api, vip)]
        async with running(hasty(tmp_path, *urls)) as proxy:
            job = await started(proxy, age_seconds=120)
            await job.becomes("unknown")
            assert not await job.ended()
            assert await settled(job) == ("unknown", 0)
            vip.does(said("processing", progress=30))
            await job.becomes("in_progress")
            vip.does(completed())
            await job.becomes("delivered")
            assert await settled(job) == ("delivered", FAST)
            assert await job.ended()


async def test_a_lost_job_is_taken_for_lost_by_whoever_comes_next(tmp_path: Path) -> None:
    async with one_gateway(tmp_path) as (proxy, api):
        api.does(said("queued"))
        job = await started(proxy, age_seconds=120, followed=False)
        lost = Settlement([(job.id, clip.Lost(Reason.LOST))], proxy.house.clock.now())
        assert await proxy.house.settler.settle(lost)
        await chore(proxy)
        await job.becomes("in_progress")


async def test_a_gateway_that_is_down_leaves_its_jobs_to_the_others(tmp_path: Path) -> None:
    async with gateways("vip") as (vip,):
        vip.does(completed())
        urls = [("api", closed_port()), ("vip", vip.url)]
        async with running(hasty(tmp_path, *urls)) as proxy:
            job = await started(proxy)
            await job.becomes("delivered")
            assert polls(vip) == 1


async def test_a_job_that_has_completed_is_not_delivered_before_its_link_or_bytes_are_in_hand(
    tmp_path: Path,
) -> None:
    async with one_gateway(tmp_path) as (proxy, api):
        api.does(split(READY, NOT_READY))
        job = await started(proxy)
        await asked(api, 20)
        assert await job.state() in {"queued", "in_progress"}
        assert await proxy.charged() == 0
        api.does(split(READY, answers(200, {"url": LINK})))
        await job.becomes("delivered")
        assert await proxy.rows("SELECT url FROM clips") == [(LINK,)]


def film(data: bytes = SMALL, length: int | None = None) -> Act:
    headers = (("Content-Type", "video/mp4"), ("Content-Length", str(length or len(data))))
    return bytes_then(head(200, *headers) + data)


async def test_bytes_from_content_are_kept_before_they_are_charged(tmp_path: Path) -> None:
    async with one_gateway(tmp_path) as (proxy, api):
        api.does(split(READY, film(SMALL[:-1], len(SMALL)), answers(200, b"no clip"), film()))
        job = await started(proxy)
        await job.becomes("delivered")
        assert await settled(job) == ("delivered", FAST)
        kept = "SELECT keepings.state, size_bytes, tries, url FROM keepings, clips"
        assert await proxy.rows(kept) == [("kept", len(SMALL), 0, None)]
        (stored,) = await proxy.house.vault.find(job.id)
        assert stored.kept.size_bytes == len(SMALL)


async def test_a_clip_that_cannot_be_kept_is_a_clip_all_the_same(tmp_path: Path) -> None:
    class Full:
        async def put(self, *_: object) -> None:
            raise VaultUnavailable("no space left on device")

    async with one_gateway(tmp_path) as (proxy, api):
        api.does(split(READY, film()))
        vault, proxy.house.vault = proxy.house.vault, Full()  # type: ignore[assignment]
        job = await started(proxy)
        await job.becomes("delivered")
        assert await settled(job) == ("delivered", FAST)
        assert (await proxy.rows("SELECT state FROM keepings")) == [("waiting",)]
        proxy.house.vault = vault


async def test_a_completed_job_costs_one_question_and_then_none(tmp_path: Path) -> None:
    async with one_gateway(tmp_path) as (proxy, api):
        api.does(split(READY, film()))
        job = await started(proxy)
        await job.becomes("delivered")
        other = await started(proxy, "other")
        await other.becomes("delivered")
        paths = [request.path for request in api.requests if "/job" in request.path]
        assert paths == ["/v1/videos/job", "/v1/videos/job/content"]


async def test_a_settlement_that_the_database_takes_late_is_written_once(tmp_path: Path) -> None:
    async with one_gateway(tmp_path) as (proxy, api):
        house = proxy.house
        api.does(said("queued"))
        job = await started(proxy)
        away = Away(house.database)
        house.settler = Settler(
            away,  # type: ignore[arg-type]
            house.metrics,
            house.background,
            0.05,
        )
        api.does(completed())
        await until(lambda: house.settler.late == 1)
        seen = polls(api)
        await chore(proxy)
        assert len(house.follower) == 0
        away.away = False
        await job.becomes("delivered")
        assert await settled(job) == ("delivered", FAST)
        assert polls(api) == seen


async def test_a_job_whose_name_was_written_late_is_followed_all_the_same(tmp_path: Path) -> None:
    async with one_gateway(tmp_path) as (proxy, api):
        api.does(completed())
        job = await started(proxy, followed=False)
        await chore(proxy)
        proxy.house.follower.follow(job.row)  # its submit says so as well
        await job.becomes("delivered")
        assert polls(api) == 1


async def test_no_more_jobs_are_followed_than_the_limit_and_the_others_have_their_turn(
    tmp_path: Path,
) -> None:
    async with one_gateway(tmp_path, limits={"jobs_followed_max": 1}) as (proxy, api):
        api.does(said("queued"))
        first, second = await started(proxy, "one"), await started(proxy, "two")
        await chore(proxy)
        await asked(api, 5)
        assert (len(proxy.house.follower), polls(api, "two")) == (1, 0)
        api.does(completed())
        await first.becomes("delivered")
        await chore(proxy)
        await second.becomes("delivered")


async def test_a_process_that_said_nothing_for_too_long_stops_asking(tmp_path: Path) -> None:
    async with one_gateway(tmp_path, limits=SILENT) as (proxy, api):
        api.does(said("queued"))
        house = proxy.house
        await started(proxy)
        await asked(api, 2)
        house.follower.renewed(house.clock.now() - timedelta(hours=1))
        await until(lambda: len(house.follower) == 0, seconds=5)
        before = polls(api)
        await chore(proxy)
        assert len(house.follower) == 0
        house.follower.renewed(house.clock.now())
        await chore(proxy)
        await until(lambda: polls(api) > before + 1)


async def test_what_was_taken_over_by_another_is_asked_for_no_more(tmp_path: Path) -> None:
    async with one_gateway(tmp_path) as (proxy, api):
        api.does(said("queued"))
        job = await started(proxy)
        await asked(api, 2)
        await given_to(proxy, "process_another")
        await chore(proxy)
        assert len(proxy.house.follower) == 0
        assert await job.state() == "queued"


async def given_to(proxy: Running, owner: str, *, alive: bool = True) -> None:
    """Every job is `owner`'s, as if it had taken it over."""
    now = proxy.house.clock.now()
    values = {"owner": owner, "fence": JOBS.c.fence + 1}

    def write(tx: Connection) -> None:
        tx.execute(JOBS.update().values(**values))
        if alive:
            beat(tx, owner, now)

    await proxy.house.database.write(write)


async def chore(proxy: Running) -> None:
    """What every heartbeat brings: the jobs are compared with their rows."""
    now = proxy.house.clock.now()
    await proxy.house.follower.take_over(now - timedelta(seconds=30))


@pytest.mark.parametrize(
    "end",
    [completed(), said("failed", error="no"), not_found()],
    ids=["delivered", "failed", "lost"],
)
async def test_a_stale_fence_settles_nothing(tmp_path: Path, end: Act) -> None:
    async with one_gateway(tmp_path) as (proxy, api):
        api.does(said("queued"))
        job = await started(proxy, age_seconds=120)
        await asked(api, 2)
        await given_to(proxy, "process_another")
        api.does(end)
        await until(lambda: len(proxy.house.follower) == 0)
        assert await job.state() == "queued"
        assert not await job.ended()


async def test_progress_of_a_job_that_is_anothers_is_not_written(tmp_path: Path) -> None:
    async with one_gateway(tmp_path) as (proxy, api):
        api.does(said("queued"))
        job = await started(proxy)
        await asked(api, 2)
        await given_to(proxy, "process_another")
        api.does(said("processing", progress=50))
        await until(lambda: len(proxy.house.follower._news) == 1)
        await until(lambda: len(proxy.house.follower._news) == 0)
        assert (await job.state(), await job.percent()) == ("queued", 0)


async def test_a_crash_before_the_settlement_costs_a_question_and_one_after_it_none(
    tmp_path: Path,
) -> None:
    async with gateways("api") as (api,):
        api.does(said("processing", progress=20))
        config = hasty(tmp_path, ("api", api.url))
        async with running(config) as proxy:
            job = await started(proxy)
            await job.becomes("in_progress")
        async with running(config, bytes([9]) * 32) as proxy:
            await given_to(proxy, "process_that_was_killed", alive=False)
        api.does(completed())
        async with running(config, bytes([8]) * 32) as proxy:
            again = Started(proxy, job.row)
            await again.becomes("delivered")
            assert await settled(again) == ("delivered", FAST)
        before = polls(api)
        async with running(config, bytes([7]) * 32) as proxy:
            await begin(proxy.house, alone=True)
            assert len(proxy.house.follower) == 0
            assert await settled(Started(proxy, job.row)) == ("delivered", FAST)
        assert polls(api) == before


async def test_what_a_shutdown_lets_go_is_nobodys(tmp_path: Path) -> None:
    async with one_gateway(tmp_path) as (proxy, api):
        api.does(said("processing", progress=20))
        job = await started(proxy)
        await until(lambda: len(proxy.house.follower._news) > 0)
        await proxy.house.follower.let_go()
        before = polls(api)
        assert await proxy.rows("SELECT owner, percent FROM jobs") == [(None, 20)]
        late = await started(proxy, "late")
        await chore(proxy)
        await once(
            proxy,
            lambda: proxy.rows("SELECT owner FROM jobs WHERE upstream_id = 'late'"),
            lambda rows: rows == [(None,)],
        )
        assert polls(api) <= before
        assert {await job.state(), await late.state()} == {"in_progress", "queued"}


async def test_a_drain_is_not_held_up_by_questions(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def hangs(*_: object) -> None:
        await gate.wait()

    async with one_gateway(tmp_path) as (proxy, api):
        api.does(hangs)
        await started(proxy)
        await until(lambda: polls(api) == 1)
        assert len(proxy.house.background) == 0
        began = proxy.house.clock.monotonic()
        await proxy.house.follower.let_go()
        assert await proxy.house.background.drain(30) == 0
        assert proxy.house.clock.monotonic() - began < 10
        gate.set()


async def test_a_step_that_crashes_is_told_and_the_job_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashes: list[str] = []
    monkeypatch.setattr(logs, "crash", lambda task, error: crashes.append(repr(error)))

    class Broken:
        asked = 0

        async def ask(self, *_: object) -> None:
            self.asked += 1
            raise ZeroDivisionError

    async with one_gateway(tmp_path) as (proxy, _):
        broken = Broken()
        proxy.house.follower._questions = broken  # type: ignore[assignment]
        await started(proxy)
        await until(lambda: broken.asked >= 3)
        assert set(crashes) == {"ZeroDivisionError()"}


@asynccontextmanager
async def replicas(
    tmp_path: Path, postgres_url: str, count: int, urls: Sequence[tuple[str, str]], **limits: Any
) -> AsyncIterator[list[Running]]:
    """So many servers on one database."""
    async with AsyncExitStack() as stack:
        made = []
        for number in range(count):
            config = hasty(
                tmp_path / str(number),
                *urls,
                database={"url": postgres_url},
                secrets={"key": "0123456789abcdef" * 2},
                limits=limits,
            )
            seed = KEY_SEED if not number else bytes([number]) * 32
            made.append(await stack.enter_async_context(running(config, seed)))
        yield made


async def test_replicas_that_see_the_same_end_settle_it_once(
    tmp_path: Path, postgres_url: str
) -> None:
    async with gateways("api") as (api,):
        api.does(said("queued"))
        async with replicas(tmp_path, postgres_url, 2, [("api", api.url)]) as (one, two):
            jobs = [await started(one, f"job-{number}") for number in range(20)]
            for job in jobs:
                two.house.follower.follow(job.row)
            await until(lambda: all(polls(api, job.row.upstream_id) > 1 for job in jobs))
            api.does(completed())
            for job in jobs:
                await job.becomes("delivered")
            assert await one.settled() == ["delivered"] * 20
            assert await one.charged() == 20 * FAST


async def test_a_dead_process_leaves_its_jobs_to_the_living_within_one_lease(
    tmp_path: Path, postgres_url: str
) -> None:
    async with gateways("api") as (api,):
        api.does(completed())
        quickly = {"heartbeat_seconds": 0.1, "orphan_seconds": 0.5}
        urls = [("api", api.url)]
        async with replicas(tmp_path, postgres_url, 2, urls, **quickly) as (one, two):
            began = one.house.clock.monotonic()
            jobs = [
                await started(one, f"job-{number}", owner="process_dead", followed=False)
                for number in range(10)
            ]
            for job in jobs:
                await job.becomes("delivered")
            assert one.house.clock.monotonic() - began < 10
            assert await two.charged() == 10 * FAST
        assert all(polls(api, job.row.upstream_id) == 1 for job in jobs)


async def test_no_job_is_asked_for_by_two_processes_nor_twice_an_interval(
    tmp_path: Path, postgres_url: str
) -> None:
    seen: dict[str, list[float]] = {}
    pace = 0.4

    async def notes(request: Any, writer: asyncio.StreamWriter) -> None:
        at = asyncio.get_running_loop().time()
        seen.setdefault(request.path, []).append(at)
        await said("queued")(request, writer)

    async with gateways("api") as (api,):
        api.does(notes)
        urls = [("api", api.url)]
        quickly = {"heartbeat_seconds": 0.1, "orphan_seconds": 2}
        async with AsyncExitStack() as stack:
            both = []
            for number in range(2):
                config = hasty(
                    tmp_path / str(number),
                    *urls,
                    database={"url": postgres_url},
                    secrets={"key": "0123456789abcdef" * 2},
                    limits=quickly,
                    follow={"poll_seconds": pace},
                )
                both.append(
                    await stack.enter_async_context(running(config, bytes([number + 1]) * 32))
                )
            one, two = both
            for number in range(20):
                await started(one, f"job-{number}")
            await until(lambda: len(seen) == 20 and all(len(at) > 2 for at in seen.values()))
            await one.house.follower.let_go()
            await until(lambda: len(two.house.follower) == 20)
            counts = {path: len(at) for path, at in seen.items()}
            await until(lambda: all(len(seen[path]) > count + 2 for path, count in counts.items()))
        # What was sent in time may be read late, so one more may fit; two who ask are twice that.
        for at in seen.values():
            assert len(at) >= 6
            assert len(at) - 1 <= (at[-1] - at[0]) / pace + 1
