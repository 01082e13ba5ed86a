"""The end of a followed job: what `/content` gave, and the settlement under the fence."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.core import clip
from proxy.core.failure import Reason
from proxy.core.job import Absent
from proxy.core.pursuit import Met, NotReady
from proxy.core.rotation import Answered, Silent, Unreachable
from proxy.flows.conclude import Collected, collect, conclude, lose
from tests.gateways import Act, Gateway, answers, bytes_then, closed_port, gateways, head, refusal
from tests.jobs import FAST, LINK, Started, hasty, not_found, started
from tests.running import Running, running
from tests.store.vaults import SMALL


@asynccontextmanager
async def a_job(tmp_path: Path, **groups: Any) -> AsyncIterator[tuple[Started, Gateway]]:
    """A job that nobody polls, and its gateway."""
    async with AsyncExitStack() as stack:
        (api,) = await stack.enter_async_context(gateways("api"))
        config = hasty(tmp_path, ("api", api.url), ("off", closed_port()), **groups)
        proxy = await stack.enter_async_context(running(config))
        yield await started(proxy, followed=False), api


def film(length: int = len(SMALL), *, stated: bool = True) -> Act:
    if stated:
        return bytes_then(head(200, ("Content-Length", str(length))) + SMALL)
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMALL), SMALL)
    return bytes_then(head(200, ("Transfer-Encoding", "chunked")) + chunk)


CONTENTS: list[tuple[str, Act, Collected | Met]] = [
    ("a link", answers(200, {"url": LINK}), Collected(LINK)),
    ("not ready", refusal(400, "Task is not completed yet"), NotReady()),
    ("no such job", not_found(), Absent()),
    ("a 500", refusal(500), Answered(500)),
    ("half a clip", film(len(SMALL) + 1), Silent("short")),
]


@pytest.mark.parametrize(
    ("act", "found"), [row[1:] for row in CONTENTS], ids=[row[0] for row in CONTENTS]
)
async def test_what_content_gives_is_a_clip_or_what_was_met_in_its_stead(
    tmp_path: Path, act: Act, found: Collected | Met
) -> None:
    async with a_job(tmp_path) as (job, api):
        api.does(act)
        assert await collect(job.proxy.house, "api", job.row) == found
        assert await job.proxy.house.vault.find(job.id) == []


async def test_content_of_a_gateway_that_nobody_answers_for_is_trouble(tmp_path: Path) -> None:
    async with a_job(tmp_path) as (job, _):
        assert await collect(job.proxy.house, "off", job.row) == Unreachable("refused")


@pytest.mark.parametrize("stated", [True, False], ids=["stated", "not stated"])
async def test_a_clip_that_is_too_large_to_be_kept_is_a_clip_all_the_same(
    tmp_path: Path, *, stated: bool
) -> None:
    vault = {"clip_bytes_max": len(SMALL) - 1}
    async with a_job(tmp_path, vault=vault) as (job, api):
        api.does(film(stated=stated))
        assert await collect(job.proxy.house, "api", job.row) == Collected()


@pytest.mark.parametrize(
    ("news", "state"),
    [(clip.Delivered(LINK), "delivered"), (clip.Failed(Reason.POLICY_OTHER), "failed")],
    ids=["delivered", "failed"],
)
async def test_an_end_is_settled_once_and_counted_once(
    tmp_path: Path, news: clip.Delivered | clip.Failed, state: str
) -> None:
    async with a_job(tmp_path) as (job, _):
        await conclude(job.proxy.house, job.row, news, "its words")
        await conclude(job.proxy.house, job.row, news, "other words")
        assert (await job.state(), await job.ended()) == (state, True)
        assert await job.proxy.charged() == (FAST if state == "delivered" else 0)
        assert await job.proxy.rows("SELECT vendor_text FROM clips") == [("its words",)]
        assert generations_ended(job.proxy, state) == 1


async def test_of_a_job_that_is_anothers_nothing_is_written_nor_counted(tmp_path: Path) -> None:
    async with a_job(tmp_path) as (job, _):
        stale = replace(job.row, fence=job.row.fence - 1)
        await conclude(job.proxy.house, stale, clip.Delivered(LINK))
        assert not await lose(job.proxy.house, stale, "absent")
        assert (await job.state(), await job.ended()) == ("queued", False)
        assert generations_ended(job.proxy, "delivered") == 0


async def test_a_lost_job_is_unknown_and_goes_on(tmp_path: Path) -> None:
    async with a_job(tmp_path) as (job, _):
        assert await lose(job.proxy.house, job.row, "absent")
        assert (await job.state(), await job.ended()) == ("unknown", False)
        await conclude(job.proxy.house, job.row, clip.Delivered(LINK))
        assert (await job.state(), await job.ended()) == ("delivered", True)


def generations_ended(proxy: Running, outcome: str) -> int:
    """How many the metrics have counted."""
    shown = proxy.house.metrics.render("")[0].decode()
    wanted = f'generation_seconds_count{{model="veo-3.1-fast",outcome="{outcome}"}} '
    line = next(line for line in shown.splitlines() if wanted in line)
    return int(float(line.split()[1]))
