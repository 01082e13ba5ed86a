"""One log line and one count for every request, without secrets or prompts."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy import logs
from tests.gateways import Act, gateways, refusal, resets, streams
from tests.running import Running, ask, configured, running
from tests.streams import chinese

PROMPT = "a canary named Prompty"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    logs.configure(stream, json=True, strict=True)
    yield stream
    logs.configure(sys.stderr, json=True)


@asynccontextmanager
async def serving(tmp_path: Path, *acts: Act) -> AsyncIterator[Running]:
    async with gateways("api") as (api,):
        if acts:
            api.does(*acts)
        async with running(configured(tmp_path, [("api", api.url)])) as proxy:
            yield proxy


def requests(lines: io.StringIO) -> list[dict[str, object]]:
    read = [json.loads(line) for line in lines.getvalue().splitlines()]
    return [line for line in read if line["event"] == "request"]


async def test_a_request_is_one_line_that_says_who_what_where_and_how_much(
    tmp_path: Path, lines: io.StringIO
) -> None:
    async with serving(tmp_path, streams(chinese(2))) as proxy:
        answer = await proxy.chat(ask(PROMPT, n=2), x_request_id="req-of-a-team")
        await proxy.settled()
    (line,) = requests(lines)
    assert line["request_id"] == "req-of-a-team"
    assert line["generation"] == answer.headers["x-clipmeter-generation"]
    expected = {
        "route": "/v1/chat/completions",
        "method": "POST",
        "status": 200,
        "origin": "none",
        "tenant": "team-0",
        "model": "veo-3.1-fast",
        "gateway": "api",
        "attempts": 1,
        "clips_asked": 2,
        "delivered": 2,
        "amount_micros": 300_000,
        "outcome": "whole",
        "upstream_request_id": "shell-1",
        "upstream_origin_request_id": "origin-1",
    }
    assert {name: line[name] for name in expected} == expected
    assert line["duration_ms"] >= line["overhead_ms"] > 0  # type: ignore[operator]


async def test_the_line_of_an_answer_given_again_names_the_first_and_charges_nothing(
    tmp_path: Path, lines: io.StringIO
) -> None:
    async with serving(tmp_path, streams(chinese(2)), refusal(400)) as proxy:
        first = await proxy.chat(ask(PROMPT, n=2))
        await proxy.settled()
        await proxy.chat(ask(PROMPT, n=2), x_stainless_retry_count="1")
        for _ in range(2):
            await proxy.chat(ask("no"), idempotency_key="k")
        shown = proxy.house.metrics.render("")[0].decode()
    _, again, refused, refused_again = requests(lines)
    expected = {
        "generation": first.headers["x-clipmeter-generation"],
        "status": 200,
        "replayed": 2,
        "reason": "retry",
        "retry_count": 1,
        "attempts": 0,
        "delivered": 0,
        "amount_micros": 0,
    }
    assert {name: again[name] for name in expected} == expected
    assert refused_again["generation"] == refused["generation"]
    assert [line["origin"] for line in (refused, refused_again)] == ["client", "client"]
    name = 'clipmeter_http_requests_total{code="400",method="POST",origin="client"'
    assert name in shown


async def test_no_line_holds_a_key_a_prompt_or_a_link(tmp_path: Path, lines: io.StringIO) -> None:
    async with serving(tmp_path, streams(chinese()), refusal(400, f"no {PROMPT}")) as proxy:
        await proxy.chat(ask(PROMPT))
        await proxy.chat(ask(PROMPT))
        await proxy.chat(b'{"' + PROMPT.encode())
        await proxy.get(f"/v1/{PROMPT.replace(' ', '-')}?token={PROMPT.replace(' ', '-')}")
        secrets = (proxy.key, proxy.key[10:], "sk-test-vendor-key", "Prompty", "clip-1.mp4")
        said = lines.getvalue()
        assert len(requests(lines)) == 4
        assert [secret for secret in secrets if secret in said] == []


@pytest.mark.parametrize(
    ("act", "origin"),
    [
        (resets(), "upstream"),
        (refusal(500), "upstream"),
        (refusal(400), "client"),
        (refusal(403, "PUBLIC_ERROR_UNSAFE_GENERATION"), "policy"),
    ],
    ids=["silence", "vendor", "bad request", "policy"],
)
async def test_an_error_is_counted_against_whoever_is_behind_it(
    tmp_path: Path, act: Act, origin: str
) -> None:
    async with serving(tmp_path, act) as proxy:
        answer = await proxy.chat()
        shown = proxy.house.metrics.render("")[0].decode()
        name = 'clipmeter_http_requests_total{code="%d",method="POST",origin="%s"'
        assert name % (answer.status, origin) in shown


async def test_a_broken_answer_is_one_line_and_not_two(tmp_path: Path, lines: io.StringIO) -> None:
    async with serving(tmp_path, streams(b"data: {}\n\n", end="reset")) as proxy:
        assert (await proxy.chat()).broken
        await proxy.settled()
    assert [line["outcome"] for line in requests(lines)] == ["broken"]
    assert "ASGI" not in lines.getvalue()


async def test_probes_are_counted_and_not_logged(tmp_path: Path, lines: io.StringIO) -> None:
    async with serving(tmp_path) as proxy:
        assert (await proxy.get("/healthz", key="")).status == 200
        assert (await proxy.get("/nowhere")).status == 404
    assert [line["status"] for line in requests(lines)] == [404]


async def test_a_request_id_that_is_not_fit_is_replaced(tmp_path: Path) -> None:
    async with serving(tmp_path) as proxy:
        for unfit in ("short", "x" * 65, "with space", "semi;colon"):
            answer = await proxy.chat(x_request_id=unfit)
            assert answer.headers["x-request-id"].startswith("req_")
        assert (await proxy.get("/healthz")).headers["x-request-id"].startswith("req_")
