"""One question to one gateway: what it meets, and what that tells of the gateway."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy import logs
from proxy.core.job import Absent, Garbled, Job, JobState
from proxy.core.pursuit import Met
from proxy.core.refusal import Kind
from proxy.core.rotation import Answered, Silent, Unreachable
from proxy.flows.poll import Questions
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
    stalls,
)
from tests.jobs import hasty, not_found, said
from tests.running import Running, running

PATH = "/v1/videos/job"
BUSY = answers(
    429, {"error": {"message": "rate limit", "code": "rate_limit"}}, ("Retry-After", "7")
)
ZIPPED = answers(
    200, gzip.compress(b'{"id": "job", "status": "queued"}'), ("Content-Encoding", "gzip")
)
NO_CHANNEL = refusal(503, "no available channels", "no_available_channel")


@asynccontextmanager
async def asking(tmp_path: Path, **limits: Any) -> AsyncIterator[tuple[Running, Gateway]]:
    """A proxy that asks one gateway, and another that nobody answers for."""
    async with AsyncExitStack() as stack:
        (api,) = await stack.enter_async_context(gateways("api"))
        urls = [("api", api.url), ("off", closed_port())]
        config = hasty(tmp_path, *urls, limits={"poll_answer_seconds_max": 0.3, **limits})
        yield await stack.enter_async_context(running(config)), api


MEETINGS: list[tuple[str, Act, Met]] = [
    ("a word", said("processing", progress="45%"), Job("job", JobState.IN_PROGRESS, 45)),
    ("a word in gzip", ZIPPED, Job("job", JobState.QUEUED)),
    ("no such job", not_found(), Absent("video_not_found: video_not_found")),
    ("a page", answers(200, b"<html>"), Garbled("<html>")),
    ("busy", BUSY, Answered(429, Kind.RATE, retry_after_seconds=7)),
    ("no channel", NO_CHANNEL, Answered(503, Kind.NO_CHANNEL)),
    ("a proxy's 502", answers(502, b"<html>"), Answered(502, Kind.SERVER, maybe_accepted=True)),
    ("silence", stalls(), Silent("timeout")),
    ("a reset", resets(), Silent("reset")),
    ("no end", bytes_then(head(200, ("Content-Length", "9")) + b'{"id"', "stall"), Garbled()),
]


@pytest.mark.parametrize(
    ("act", "met"), [row[1:] for row in MEETINGS], ids=[row[0] for row in MEETINGS]
)
async def test_whatever_a_question_meets_comes_back_as_a_value(
    tmp_path: Path, act: Act, met: Met
) -> None:
    async with asking(tmp_path) as (proxy, api):
        api.does(act)
        found = await Questions(proxy.house).ask("api", PATH)
        if isinstance(met, Absent | Garbled):
            assert type(found) is type(met)
        else:
            assert found == met
        shown = proxy.house.metrics.render("")[0].decode()
        assert 'upstream_seconds_count{gateway="api",operation="poll"} 1.0' in shown


async def test_a_gateway_that_nobody_answers_for_is_unreachable(tmp_path: Path) -> None:
    async with asking(tmp_path) as (proxy, _):
        assert await Questions(proxy.house).ask("off", PATH) == Unreachable("refused")


async def test_an_answer_without_end_is_read_only_so_far(tmp_path: Path) -> None:
    async with asking(tmp_path, job_bytes_max=2000) as (proxy, api):
        questions = Questions(proxy.house)
        api.does(said("queued", prompt="x" * 1000))
        assert isinstance(await questions.ask("api", PATH), Job)
        api.does(said("queued", prompt="x" * 2000))
        assert isinstance(await questions.ask("api", PATH), Garbled)


@pytest.mark.parametrize(
    "trouble", [stalls(), resets(), refusal(500)], ids=["silence", "reset", "500"]
)
async def test_a_hosts_own_trouble_counts_against_it_until_it_answers_again(
    tmp_path: Path, trouble: Act
) -> None:
    async with asking(tmp_path, breaker_faults=2, breaker_seconds=60) as (proxy, api):
        questions, fleet = Questions(proxy.house), proxy.house.fleet
        api.does(trouble)
        await questions.ask("api", PATH)
        api.does(said("queued"))
        await questions.ask("api", PATH)  # and the count begins again
        api.does(trouble)
        await questions.ask("api", PATH)
        assert fleet.states()["api"] == "closed"
        await questions.ask("api", PATH)
        assert fleet.states()["api"] == "open"
        api.does(said("queued"))
        await questions.ask("api", PATH)
        assert fleet.states()["api"] == "closed"


@pytest.mark.parametrize(
    "word",
    [not_found(), answers(200, b"<html>"), BUSY, NO_CHANNEL, refusal(401, "Invalid token")],
    ids=["not found", "page", "busy", "no channel", "key"],
)
async def test_what_a_gateway_says_of_a_job_or_an_account_counts_nothing_against_the_host(
    tmp_path: Path, word: Act
) -> None:
    async with asking(tmp_path, breaker_faults=1) as (proxy, api):
        api.does(word)
        await Questions(proxy.house).ask("api", PATH)
        assert proxy.house.fleet.states()["api"] == "closed"


async def test_the_operator_is_told_of_each_trouble_with_our_account_once_in_a_while(
    tmp_path: Path,
) -> None:
    lines = io.StringIO()
    logs.configure(lines, json=True, strict=True)
    async with asking(tmp_path) as (proxy, api):
        questions = Questions(proxy.house)
        for act in (
            refusal(403, "user quota is not enough", "insufficient_user_quota"),
            refusal(401, "Invalid token", "invalid_api_key"),
            answers(200, {"error": {"message": "no", "code": "insufficient_user_quota"}}),
        ):
            api.does(act)
            assert isinstance(await questions.ask("api", PATH), Answered)
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    ours = [line for line in told if line["event"] == "vendor_account"]
    assert [(line["reason"], line["level"], line["gateway"]) for line in ours] == [
        ("balance", "warning", "api"),
        ("auth", "warning", "api"),
    ]
