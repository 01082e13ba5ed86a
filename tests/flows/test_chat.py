"""One chat request, end to end over real sockets: what the caller sees, what the ledger says."""

from __future__ import annotations

import asyncio
import gc
import gzip
import hashlib
import io
import json
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from proxy.core.request import ChatRequest
from proxy.remote.gateway import Call
from proxy.store.admission import Admitted
from proxy.store.database import LedgerUnavailable
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
    streams,
)
from tests.running import Running, ask, configured, read, running, until
from tests.streams import (
    DONE,
    HOSTILE,
    chinese,
    choices,
    chunk,
    cut,
    english,
    frame,
    mutated,
    success,
)

FAST = 150_000
QUICK = {"stall_seconds_max": 1.5, "head_seconds_max": 1.5, "connect_seconds_max": 1}


@asynccontextmanager
async def serving(
    tmp_path: Path, *acts: Act, limits: dict[str, Any] | None = None, **terms: Any
) -> AsyncIterator[tuple[Running, list[Gateway]]]:
    """A proxy before three gateways, the first of which acts as told."""
    async with gateways("api", "vip", "b") as made:
        if acts:
            made[0].does(*acts)
        urls = [(one.name, one.url) for one in made]
        config = configured(tmp_path, urls, limits={**QUICK, **(limits or {})})
        async with running(config, **terms) as proxy:
            yield proxy, made


async def test_a_streamed_clip_is_passed_on_and_charged_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, (api, *_)):
        answer = await proxy.chat()
        assert (answer.status, answer.body) == (200, chinese())
        assert await proxy.settled() == ["delivered"]
        assert await proxy.charged() == FAST
        sent = api.requests[0]
        assert json.loads(sent.body) == ask()
        assert sent.headers["authorization"] == "Bearer sk-test-vendor-key-0123456789"
        assert sent.headers["accept-encoding"] == "identity"


async def test_the_reply_headers_say_what_happened_and_keep_proxies_from_buffering(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (proxy, _):
        answer = await proxy.chat(ask(n=2), x_request_id="team-request-7")
        names = answer.headers
        assert names["x-request-id"] == "team-request-7"
        assert names["x-clipmeter-generation"].startswith("gen_")
        assert len(names["x-clipmeter-clips"].split(",")) == 2
        assert (names["x-clipmeter-gateway"], names["x-clipmeter-attempts"]) == ("api", "1")
        assert names["x-upstream-request-id"] == "shell-1"
        assert names["x-upstream-origin-request-id"] == "origin-1"
        assert names["content-type"] == "text/event-stream"
        assert names["cache-control"] == "no-cache, no-transform"
        assert names["x-accel-buffering"] == "no"
        assert names["cache-status"].startswith("clipmeter; fwd=")
        assert "content-length" not in names
        assert "content-encoding" not in names


async def test_bytes_out_are_bytes_in_for_over_200_streams(tmp_path: Path) -> None:
    shapes = [one for one in mutated() if one.body.startswith((b"data", b":", b"\xef", b"\r"))]
    assert len(shapes) >= 200
    async with serving(tmp_path) as (proxy, (api, *_)):
        wrong = []
        charged = 0
        for seed, stream in enumerate(shapes):
            parts = [stream.body] if len(stream.body) > 50_000 else cut(stream.body, seed)
            api.does(streams(*parts))
            answer = await proxy.chat(ask(HOSTILE, n=stream.clips))
            charged += stream.delivered * FAST
            same = hashlib.sha256(answer.body).digest() == hashlib.sha256(stream.body).digest()
            if answer.status != 200 or not same:
                wrong.append((stream.name, answer.status, answer.body[-200:]))
        assert wrong == []
        await proxy.settled()
        assert await proxy.charged() == charged


async def test_the_first_byte_is_passed_on_while_the_answer_still_runs(tmp_path: Path) -> None:
    gate = asyncio.Event()
    parts = (frame(chunk("> 🏃 进度：9.0%\n\n")), chinese())
    async with serving(tmp_path, streams(*parts, gate=gate)) as (proxy, _):
        async with proxy.asking() as response:
            first = await asyncio.wait_for(response.content.readany(), 5)
            assert (first, proxy.running) == (parts[0], 1)
            gate.set()
            answer = await read(response)
        assert answer.body == parts[1]


async def test_a_clip_is_charged_before_its_link_is_passed_on(tmp_path: Path) -> None:
    gate = asyncio.Event()
    link = frame(chunk(success(1)))
    async with (
        serving(tmp_path, streams(link, DONE, gate=gate)) as (proxy, _),
        proxy.asking() as response,
    ):
        assert await asyncio.wait_for(response.content.readany(), 5) == link
        assert await proxy.states() == ["delivered"]
        assert await proxy.charged() == FAST
        gate.set()
        await read(response)


async def test_a_link_whose_charge_cannot_be_written_in_time_is_not_passed_on(
    tmp_path: Path,
) -> None:
    gate, held, free = asyncio.Event(), threading.Event(), threading.Event()

    def hold_the_writer(_tx: object) -> None:
        held.set()
        assert free.wait(20)

    act = streams(BEGUN, chinese(), gate=gate)
    async with serving(tmp_path, act, limits={"settle_seconds_max": 0.2}) as (proxy, _):
        async with proxy.asking() as response:
            assert await asyncio.wait_for(response.content.readany(), 5) == BEGUN
            holding = asyncio.create_task(proxy.house.database.write(hold_the_writer))
            assert await asyncio.to_thread(held.wait, 5)
            gate.set()
            answer = await read(response)
        free.set()
        await holding
        assert answer.broken
        assert b"clip-1" not in answer.body
        await until(lambda: proxy.house.settler.late == 0)
        assert await proxy.settled() == ["delivered"]
        assert await proxy.charged() == FAST


async def test_an_unstreamed_answer_is_passed_on_whole(tmp_path: Path) -> None:
    body = {"choices": [{"message": {"content": success(1)}, "finish_reason": "stop"}]}
    async with serving(tmp_path, answers(200, body)) as (proxy, _):
        answer = await proxy.chat(ask(stream=False))
        assert (answer.status, json.loads(answer.body)) == (200, body)
        assert answer.headers["content-length"] == str(len(answer.body))
        assert await proxy.settled() == ["delivered"]


@pytest.mark.parametrize("delivered", [0, 1, 2, 3, 4])
async def test_partial_success_charges_exactly_what_was_delivered(
    tmp_path: Path, delivered: int
) -> None:
    async with serving(tmp_path, streams(chinese(4, delivered))) as (proxy, _):
        await proxy.chat(ask(n=4))
        expected = ["delivered"] * delivered + ["failed"] * (4 - delivered)
        assert await proxy.settled() == expected
        assert await proxy.charged() == delivered * FAST


SSE = head(200, ("Content-Type", "text/event-stream"))
BEGUN, ONE = frame(chunk("x")), frame(chunk(success(1)))
STREAM_ENDS: dict[str, tuple[Act, int, list[str], bool]] = {
    "English": (streams(english()), 1, ["delivered"], False),
    "four choices": (streams(choices(4)), 4, ["delivered"] * 4, False),
    "too many links": (streams(english(4)), 2, ["delivered"] * 2, False),
    "[DONE] alone": (streams(DONE), 1, ["failed"], False),
    "a failure line": (streams(chinese(1, 0)), 1, ["failed"], False),
    "an error frame": (streams(frame({"error": {"message": "no"}})), 1, ["failed"], False),
    "a bare end": (streams(BEGUN), 1, ["unknown"], False),
    "nothing": (streams(), 1, ["unknown"], False),
    "a cut": (streams(BEGUN, end="cut"), 1, ["unknown"], True),
    "a reset": (streams(BEGUN, end="reset"), 1, ["unknown"], True),
    "a stall": (streams(BEGUN, end="stall"), 1, ["unknown"], True),
    "a cut after one of two": (streams(ONE, end="cut"), 2, ["delivered", "unknown"], True),
    "a reset after the link": (streams(ONE, end="reset"), 1, ["delivered"], True),
    "a cut after [DONE]": (streams(chinese(), end="cut"), 1, ["delivered"], True),
    "close-delimited, nothing told": (bytes_then(SSE + BEGUN), 1, ["unknown"], True),
    "close-delimited, told": (bytes_then(SSE + chinese()), 1, ["delivered"], False),
}


@pytest.mark.parametrize(
    ("act", "n", "states", "broken"), STREAM_ENDS.values(), ids=STREAM_ENDS.keys()
)
async def test_how_a_stream_ended_decides_what_its_clips_become(
    tmp_path: Path, act: Act, n: int, states: list[str], broken: bool
) -> None:
    async with serving(tmp_path, act) as (proxy, (_, vip, b)):
        answer = await proxy.chat(ask(n=n))
        assert (answer.status, answer.broken) == (200, broken)
        assert await proxy.settled() == states
        assert await proxy.charged() == states.count("delivered") * FAST
        assert (vip.posts, b.posts) == (0, 0)


JSON_CUT = (
    head(200, ("Content-Type", "application/json"), ("Content-Length", "500")) + b'{"choices"'
)


NO_ANSWER = (504, "outcome_unknown", ["unknown"])
NOT_OURS: dict[str, tuple[Act, tuple[int, str, list[str]]]] = {
    "a web page": (answers(200, b"<!doctype html>"), (502, "upstream_invalid", ["unknown"])),
    "half a body": (bytes_then(JSON_CUT), NO_ANSWER),
    "half a body, reset": (bytes_then(JSON_CUT, "reset"), NO_ANSWER),
    "half a body, stalled": (bytes_then(JSON_CUT, "stall"), NO_ANSWER),
    "a reset": (resets(), NO_ANSWER),
    "silence": (stalls(), NO_ANSWER),
    "a closed connection": (bytes_then(b""), NO_ANSWER),
    "half a status line": (bytes_then(b"HTTP/1.1 20"), NO_ANSWER),
    "junk": (bytes_then(b"nonsense\r\n\r\n"), NO_ANSWER),
    "our key": (refusal(401, "无效的令牌"), (502, "upstream_auth", ["failed"])),
    "our group": (refusal(403, "当前分组不支持此模型"), (502, "upstream_auth", ["failed"])),
    "our balance": (
        refusal(403, "quota is not enough", "insufficient_user_quota"),
        (502, "upstream_balance", ["failed"]),
    ),
    "our balance as 429": (refusal(429, "余额不足"), (502, "upstream_balance", ["failed"])),
    "a redirect": (
        bytes_then(head(302, ("Location", "http://127.0.0.1:1/"), ("Content-Length", "0"))),
        (502, "upstream_invalid", ["failed"]),
    ),
    "a page not found": (answers(404, b"<html>"), (502, "upstream_invalid", ["failed"])),
}


@pytest.mark.parametrize(("act", "expected"), NOT_OURS.values(), ids=NOT_OURS.keys())
async def test_what_no_team_should_see_becomes_an_error_that_is_not_repeated(
    tmp_path: Path, act: Act, expected: tuple[int, str, list[str]]
) -> None:
    status, code, states = expected
    async with serving(tmp_path, act) as (proxy, (api, vip, b)):
        answer = await proxy.chat(ask(stream=False))
        answer.assert_error(status, code)
        assert answer.headers["x-clipmeter-generation"].startswith("gen_")
        assert await proxy.settled() == states
        assert await proxy.charged() == 0
        assert (api.posts, vip.posts, b.posts) == (1, 0, 0)


@pytest.mark.parametrize(
    ("act", "status", "retry"),
    [
        (refusal(400, "bad parameters", "invalid_request"), 400, False),
        (refusal(403, "PUBLIC_ERROR_UNSAFE_GENERATION", "content_policy_violation"), 403, False),
        (refusal(429, "当前分组上游负载已饱和,请稍后再试"), 429, True),
    ],
    ids=["bad request", "policy", "rate"],
)
async def test_what_is_about_the_caller_is_passed_on_as_it_came(
    tmp_path: Path, act: Act, status: int, retry: bool
) -> None:
    async with serving(tmp_path, act) as (proxy, _):
        answer = await proxy.chat()
        assert answer.status == status
        assert answer.error["type"] == "shell_api_error"
        assert answer.headers["x-should-retry"] == ("true" if retry else "false")
        assert await proxy.settled() == ["failed"]


async def test_the_intent_and_each_attempt_are_durable_before_a_gateway_is_asked(
    tmp_path: Path,
) -> None:
    found: list[tuple[list[Any], list[Any]]] = []
    async with serving(tmp_path) as (proxy, (api, vip, _)):

        def looks_then(act: Act) -> Act:
            async def look(request: Any, writer: asyncio.StreamWriter) -> None:
                holds = await proxy.rows("SELECT kind, amount_micros FROM entries")
                attempts = "SELECT gateway, outcome FROM attempts ORDER BY number"
                found.append((holds, await proxy.rows(attempts)))
                await act(request, writer)

            return look

        api.does(looks_then(refusal(502)))
        vip.does(looks_then(streams(chinese(2))))
        await proxy.chat(ask(n=2))
        holds = [("hold", FAST)] * 2
        assert found == [
            (holds, [("api", "dispatching")]),
            (holds, [("api", "answered"), ("vip", "dispatching")]),
        ]


async def test_a_failing_gateway_is_followed_by_the_next(tmp_path: Path) -> None:
    async with serving(tmp_path, refusal(502)) as (proxy, (api, vip, b)):
        answer = await proxy.chat()
        assert answer.body == chinese()
        assert (answer.headers["x-clipmeter-gateway"], answer.headers["x-clipmeter-attempts"]) == (
            "vip",
            "2",
        )
        assert [one.posts for one in (api, vip, b)] == [1, 1, 0]
        assert await proxy.settled() == ["delivered"]
        rows = await proxy.rows(
            "SELECT number, gateway, outcome, status, maybe_accepted, exposure_micros "
            "FROM attempts ORDER BY number"
        )
        assert rows == [(1, "api", "answered", 502, 0, 0), (2, "vip", "answered", 200, 0, 0)]


async def test_a_gateway_that_may_have_accepted_books_an_exposure(tmp_path: Path) -> None:
    async with serving(tmp_path, answers(504, b"<html>gateway time-out")) as (proxy, _):
        assert (await proxy.chat(ask(n=2))).status == 200
        await proxy.settled()
        rows = await proxy.rows("SELECT maybe_accepted, exposure_micros FROM attempts")
        assert sorted(rows) == [(0, 0), (1, 2 * FAST)]
        assert await proxy.charged() == FAST


async def test_a_gateway_that_cannot_be_reached_is_followed_by_the_next(tmp_path: Path) -> None:
    async with gateways("vip") as (vip,):
        config = configured(tmp_path, [("api", closed_port()), ("vip", vip.url)], limits=QUICK)
        async with running(config) as proxy:
            assert (await proxy.chat()).headers["x-clipmeter-gateway"] == "vip"
            assert await proxy.settled() == ["delivered"]


async def test_when_no_gateway_can_be_reached_nothing_is_bought_and_trying_again_is_fine(
    tmp_path: Path,
) -> None:
    urls = [(name, closed_port()) for name in ("api", "vip", "b")]
    async with running(configured(tmp_path, urls, limits=QUICK)) as proxy:
        answer = await proxy.chat()
        answer.assert_error(502, "upstream_unavailable", retry=True)
        assert await proxy.settled() == ["failed"]


async def test_when_every_gateway_fails_the_last_answer_is_passed_on(tmp_path: Path) -> None:
    async with serving(tmp_path, refusal(500, "one")) as (proxy, (api, vip, b)):
        vip.does(refusal(502, "two"))
        b.does(refusal(503, "three"))
        answer = await proxy.chat()
        assert (answer.status, answer.error["message"]) == (503, "three")
        assert answer.headers["x-should-retry"] == "false"
        assert [one.posts for one in (api, vip, b)] == [1, 1, 1]
        assert await proxy.settled() == ["failed"]


async def test_after_an_attempt_that_may_have_bought_no_error_invites_to_try_again(
    tmp_path: Path,
) -> None:
    lasts = {
        "rate limit": refusal(429, "当前分组上游负载已饱和,请稍后再试"),
        "our key": refusal(401, "无效的令牌"),
        "our balance": refusal(403, "quota is not enough", "insufficient_user_quota"),
        "5xx": refusal(503),
    }
    async with serving(tmp_path) as (proxy, (api, vip, b)):
        for name, last in lasts.items():
            for one in (api, vip):
                one.does(answers(504, b"<html>time-out"))
            b.does(last)
            answer = await proxy.chat(ask(name))
            assert answer.status >= 400
            assert answer.headers["x-should-retry"] == "false"
            assert "retry-after" not in answer.headers
            generation = answer.headers["x-clipmeter-generation"]
            assert "nothing was bought" not in answer.error["message"]
            if name.startswith("our"):
                assert generation in answer.error["message"]


async def test_a_careful_setting_rotates_on_the_named_statuses_alone(tmp_path: Path) -> None:
    async with gateways("api", "vip") as (api, vip):
        api.does(answers(504, b"<html>"))
        urls = [("api", api.url), ("vip", vip.url)]
        config = configured(tmp_path, urls, upstream={"rotate_on": [500, 502, 503]})
        async with running(config) as proxy:
            (await proxy.chat()).assert_error(504, "outcome_unknown")
            assert vip.posts == 0
            assert await proxy.settled() == ["unknown"]


async def test_nothing_rotates_after_the_first_byte(tmp_path: Path) -> None:
    act = streams(frame(chunk("> 🏃 进度：9.0%\n\n")), end="reset")
    async with serving(tmp_path, act) as (proxy, (_, vip, b)):
        assert (await proxy.chat()).broken
        assert (vip.posts, b.posts) == (0, 0)


LEAVING = chinese(2)


@pytest.mark.parametrize("position", [0, 1, 200, len(LEAVING) // 2, len(LEAVING) - 5])
async def test_a_caller_who_leaves_changes_nothing_about_the_metering(
    tmp_path: Path, position: int
) -> None:
    gate = asyncio.Event()
    act = streams(LEAVING[:position], LEAVING[position:], gate=gate)
    async with serving(tmp_path, act) as (proxy, (api, *_)):
        async with proxy.asking(ask(n=2)):
            await until(lambda: api.posts == 1)
        # Whoever is answered after the caller left shows that the server has seen it leave.
        assert (await proxy.get("/healthz")).status == 200
        gate.set()
        assert await proxy.settled() == ["delivered", "delivered"]
        assert await proxy.charged() == 2 * FAST


async def test_a_caller_who_leaves_before_the_head_is_still_metered(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def late(request: Any, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        await streams(chinese())(request, writer)

    async with serving(tmp_path, late, limits={"head_seconds_max": 20}) as (proxy, (api, *_)):
        asking = asyncio.create_task(proxy.chat())
        await until(lambda: api.posts == 1)
        asking.cancel()
        await asyncio.wait([asking])
        gate.set()
        assert await proxy.settled() == ["delivered"]


async def test_a_caller_who_never_reads_is_dropped_and_metered(tmp_path: Path) -> None:
    filler = frame(chunk("y" * 100_000))
    act = streams(*[filler] * 640, chinese())
    async with serving(tmp_path, act) as (proxy, (api, *_)):
        body = json.dumps(ask()).encode()
        host, port = proxy.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        lines = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: {proxy.key}\r\n"
        writer.write(f"{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        before = resident_bytes()
        await until(lambda: api.posts == 1)
        assert await proxy.settled() == ["delivered"]
        # The vendor's script and the sockets live in this process too.
        assert resident_bytes() - before < 32_000_000
        writer.transport.abort()
        assert reader is not None


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("inside", [0, 9], ids=["between events", "inside an event"])
async def test_comments_fill_silences_on_request_alone_and_between_events_alone(
    tmp_path: Path, inside: int
) -> None:
    gate = asyncio.Event()
    body = chinese()
    cut_at = body.index(b"\n\n") + 2 + inside
    limits = {"keepalive_seconds_min": 1, "stall_seconds_max": 20}
    act = streams(body[:cut_at], body[cut_at:], gate=gate)
    async with (
        serving(tmp_path, act, limits=limits) as (proxy, _),
        proxy.asking(x_clipmeter_keepalive="1") as response,
    ):
        got = b""
        while len(got) < cut_at or (not inside and b"keepalive" not in got):
            got += await asyncio.wait_for(response.content.readany(), 5)
        if inside:
            await asyncio.sleep(1.3)
        gate.set()
        got += (await read(response)).body
        assert (b": keepalive\n\n" in got) is not bool(inside)
        assert got.replace(b": keepalive\n\n", b"") == body


@pytest.mark.parametrize("value", ["0", "-1", "x", "1e9", "999999", "²"])
async def test_a_keepalive_that_is_no_fit_number_is_refused(tmp_path: Path, value: str) -> None:
    async with serving(tmp_path) as (proxy, (api, *_)):
        if value.isascii():
            answer = await proxy.chat(x_clipmeter_keepalive=value)
            answer.assert_error(400, "invalid_request")
        assert api.posts == 0


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (ask(model="veo-9"), 400, "model_not_found"),
        (ask(n=0), 400, "n_out_of_range"),
        (ask(n=5), 400, "n_out_of_range"),
        (ask(n=-1), 400, "n_out_of_range"),
        (ask(n=2**63), 400, "n_out_of_range"),
        (ask(n="4"), 400, "n_out_of_range"),
        (ask(n=True), 400, "n_out_of_range"),
        (ask(model="veo-3.1-fl"), 400, "image_required"),
        (b'{"model":"veo-3.1","n":1,"n":4,"messages":[{"content":"x"}]}', 400, "invalid_request"),
        (b'{"a":' * 50_000, 400, "invalid_request"),
        (b"not json", 400, "invalid_request"),
        (ask("y" * 1_100_000), 413, "request_too_large"),
        (b"x" * 17_000_000, 413, "request_too_large"),
    ],
    ids=lambda value: str(list(value.items())[::-1] if isinstance(value, dict) else value)[:40],
)
async def test_a_bad_request_is_refused_before_anything_is_sent(
    tmp_path: Path, body: Any, status: int, code: str
) -> None:
    async with serving(tmp_path) as (proxy, made):
        (await proxy.chat(body)).assert_error(status, code)
        assert sum(one.posts for one in made) == 0
        assert await proxy.rows("SELECT id FROM generations") == []


@pytest.fixture
def printed() -> Iterator[io.StringIO]:
    """What is said to the log, before it leaves anything out."""
    stream = io.StringIO()
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()],
        wrapper_class=structlog.BoundLogger,
        logger_factory=structlog.WriteLoggerFactory(stream),
    )
    yield stream
    structlog.reset_defaults()


async def test_the_line_of_a_refused_request_holds_nothing_of_its_prompt(
    tmp_path: Path, printed: io.StringIO
) -> None:
    bodies: dict[str, Any] = {
        "model_not_found": ask("c4n4ry", model="veo-9"),
        "n_out_of_range": ask("c4n4ry", n=5),
        "insufficient_quota": ask("c4n4ry"),
        "invalid_request": b'{"messages":[{"content":"c4n4ry"',
    }
    async with serving(tmp_path, clips_per_month=0) as (proxy, _):
        for code, body in bodies.items():
            assert (await proxy.chat(body)).error["code"] == code
    lines = map(json.loads, printed.getvalue().splitlines())
    assert [line["code"] for line in lines if line["event"] == "request"] == [*bodies]
    assert "c4n4ry" not in printed.getvalue()


async def test_the_callers_own_headers_stay_here(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, (api, *_)):
        await proxy.chat(
            cookie="session=1",
            x_forwarded_for="10.0.0.1",
            forwarded="for=10.0.0.1",
            x_real_ip="10.0.0.1",
            connection="x-secret",
            x_secret="1",
            api_base="http://evil",
            accept_encoding="gzip",
        )
        sent = " ".join(api.requests[0].headers).lower()
        for name in ("cookie", "x-forwarded-for", "forwarded", "x-real-ip", "x-secret", "api-base"):
            assert name not in sent.split()
        assert proxy.key not in str(api.requests[0].headers)


async def test_a_request_that_came_through_here_before_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, (api, *_)):
        (await proxy.chat(via="1.1 clipmeter")).assert_error(400, "invalid_request")
        assert api.posts == 0


async def test_an_image_of_a_frame_model_goes_on_as_it_came(tmp_path: Path) -> None:
    part = {"type": "image_url", "image_url": {"url": "https://team.example/start.jpg"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "move"}, part]}]
    body = json.dumps({"messages": messages, "model": "veo-3.1-fl", "stream": True}).encode()
    async with serving(tmp_path) as (proxy, (api, *_)):
        assert (await proxy.chat(body)).status == 200
        assert api.requests[0].body == body


@pytest.mark.parametrize(
    ("terms", "code", "retry"),
    [
        ({"clips_per_month": 1}, "insufficient_quota", False),
        ({"micros_per_month": 2 * FAST - 1}, "insufficient_quota", False),
        ({"clips_in_flight": 1}, "rate_limit_exceeded", True),
    ],
    ids=str,
)
async def test_a_request_over_a_limit_is_refused_before_anything_is_sent(
    tmp_path: Path, terms: dict[str, Any], code: str, retry: bool
) -> None:
    async with serving(tmp_path, **terms) as (proxy, (api, *_)):
        (await proxy.chat(ask(n=2))).assert_error(429, code, retry=retry)
        assert (await proxy.chat(ask(n=1))).status == 200
        assert api.posts == 1


async def test_fifty_callers_at_a_budgets_edge_buy_exactly_what_it_allows(tmp_path: Path) -> None:
    async with serving(tmp_path, clips_per_month=7) as (proxy, (api, *_)):
        answers_ = await asyncio.gather(*(proxy.chat() for _ in range(50)))
        assert sorted(answer.status for answer in answers_) == [200] * 7 + [429] * 43
        assert api.posts == 7
        assert await proxy.settled() == ["delivered"] * 7


async def test_a_model_outside_the_tenants_list_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, models=["veo-3.1-landscape*"]) as (proxy, _):
        (await proxy.chat()).assert_error(403, "model_not_allowed")
        assert (await proxy.chat(ask(model="veo-3.1-landscape-fast"))).status == 200


async def test_a_model_without_a_price_is_refused_and_one_with_a_price_is_served(
    tmp_path: Path,
) -> None:
    four_k = {"name": "veo-3.1-4k", "size": "2160x3840", "seconds": 8, "images": 0}
    no_price = {**four_k, "name": "veo-3.1-8k"}
    prices = [{"models": ["veo-3.1-4k"], "usd_per_clip": "0.60", "from": "2025-01-01"}]
    async with gateways("api") as (api,):
        config = configured(tmp_path, [("api", api.url)], models=[four_k, no_price], prices=prices)
        async with running(config) as proxy:
            (await proxy.chat(ask(model="veo-3.1-8k"))).assert_error(400, "model_not_found")
            assert (await proxy.chat(ask(model="veo-3.1-4k"))).status == 200
            await proxy.settled()
            assert (await proxy.charged(), api.posts) == (600_000, 1)


async def test_an_alias_is_rendered_as_its_model(tmp_path: Path) -> None:
    async with gateways("api") as (api,):
        config = configured(tmp_path, [("api", api.url)], aliases={"sora-2": "veo-3.1-fast"})
        async with running(config) as proxy:
            assert (await proxy.chat(ask(model="sora-2"))).status == 200
            assert json.loads(api.requests[0].body) == ask()


async def test_a_draining_server_takes_no_new_work(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, (api, *_)):
        proxy.house.draining = True
        (await proxy.chat()).assert_error(503, "draining", retry=True)
        assert api.posts == 0


async def test_the_other_methods_of_the_route_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, _):
        answer = await proxy.get("/v1/chat/completions")
        answer.assert_error(405, "method_not_allowed")
        assert answer.headers["allow"] == "POST"


async def test_what_was_open_when_the_process_died_becomes_unknown(tmp_path: Path) -> None:
    gate = asyncio.Event()
    act = streams(frame(chunk(success(1))), chinese(), gate=gate)
    async with gateways("api") as (api,):
        api.does(act)
        config = configured(
            tmp_path,
            [("api", api.url)],
            limits={"drain_seconds_max": 0.05, "drain_listen_seconds": 0},
        )
        async with running(config) as proxy, proxy.asking(ask(n=2)) as response:
            await response.content.readany()
        async with running(config, seed=bytes([7]) * 32) as proxy:
            assert await proxy.settled() == ["delivered", "unknown"]


async def test_a_start_makes_unknown_what_a_killed_process_left_open(tmp_path: Path) -> None:
    gate = asyncio.Event()
    act = streams(frame(chunk(success(1))), chinese(), gate=gate)
    async with serving(tmp_path / "running", act) as (proxy, _):
        async with proxy.asking(ask(n=2)) as response:
            await response.content.readany()
            # What a kill at this moment would leave behind.
            shutil.copytree(tmp_path / "running", tmp_path / "killed")
        gate.set()
    async with serving(tmp_path / "killed", seed=bytes([7]) * 32) as (restarted, _):
        assert await restarted.settled() == ["delivered", "unknown"]


def encoded(encoding: str, body: bytes) -> Act:
    """A streamed answer under this Content-Encoding."""
    length = ("Content-Length", str(len(body)))
    kind = ("Content-Type", "text/event-stream")
    return bytes_then(head(200, kind, ("Content-Encoding", encoding), length) + body)


async def test_an_encoded_stream_is_metered_and_passed_on_as_it_came(tmp_path: Path) -> None:
    body = gzip.compress(chinese(2))
    async with serving(tmp_path, encoded("gzip", body)) as (proxy, _):
        answer = await proxy.chat(ask(n=2))
        assert (answer.status, answer.body, answer.broken) == (200, body, False)
        assert answer.headers["content-encoding"] == "gzip"
        assert await proxy.settled() == ["delivered", "delivered"]


@pytest.mark.parametrize("encoding", ["br", "gzip"])
async def test_a_stream_that_cannot_be_decoded_is_not_passed_on(
    tmp_path: Path, encoding: str
) -> None:
    async with serving(tmp_path, encoded(encoding, chinese())) as (proxy, _):
        answer = await proxy.chat()
        assert (answer.body, answer.broken) == (b"", True)
        assert await proxy.settled() == ["unknown"]


async def test_a_vendors_half_characters_and_nothings_do_not_stop_the_ledger(
    tmp_path: Path,
) -> None:
    failing = b'data: {"choices":[{"delta":{"content":"\\u274c failed \\ud83d\\u0000\\n"}}]}\n\n'
    refused = answers(
        400, {"error": {"message": "bad prompt: \x00 here", "type": "x", "code": "y"}}
    )
    async with serving(tmp_path, streams(failing, DONE), refused, streams(chinese())) as (proxy, _):
        assert (await proxy.chat()).body == failing + DONE
        assert (await proxy.chat()).status == 400
        assert (await proxy.chat()).status == 200
        assert await proxy.settled() == ["failed", "failed", "delivered"]


async def test_the_vendor_reads_json_whatever_the_caller_called_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, (api, *_)):
        form = "application/x-www-form-urlencoded"
        body = ask(x="&n=4&model=veo-3.1&")
        assert (await proxy.chat(body, content_type=form)).status == 200
        assert api.requests[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (
            {"message": "user [7] quota [9] is not enough", "code": "insufficient_user_quota"},
            "upstream_balance",
        ),
        ({"message": "无效的令牌", "type": "shell_api_error"}, "upstream_auth"),
    ],
    ids=["balance", "key"],
)
async def test_trouble_with_our_account_stays_ours_under_a_status_of_success(
    tmp_path: Path, words: dict[str, str], code: str
) -> None:
    async with serving(tmp_path, answers(200, {"error": words})) as (proxy, _):
        (await proxy.chat(ask(stream=False))).assert_error(502, code)
        assert await proxy.settled() == ["failed"]


async def test_a_prompt_that_is_echoed_whole_does_not_cost_its_caller_the_answer(
    tmp_path: Path,
) -> None:
    prompt = "y" * 900_000
    body = chinese(prompt=prompt)
    async with serving(tmp_path, streams(body)) as (proxy, _):
        for _number in range(3):
            answer = await proxy.chat(ask(prompt))
            assert (answer.broken, len(answer.body)) == (False, len(body))


async def test_a_request_that_makes_us_fail_is_an_error_like_any_other(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, (api, *_)):
        proxy.house.catalog = None  # type: ignore[assignment]
        (await proxy.chat()).assert_error(500, "internal_error")
        assert api.posts == 0


class AwayOnRotation:
    """A database that is away for every write of a further attempt, and for what follows."""

    def __init__(self, database: Any) -> None:
        self.database, self.away = database, False

    async def write(self, fn: Any) -> Any:
        if self.away:
            raise LedgerUnavailable("away")
        written = await self.database.write(fn)
        self.away = isinstance(written, Admitted)
        return written

    async def read(self, fn: Any) -> Any:
        return await self.database.read(fn)


@pytest.mark.parametrize(
    ("first", "status", "code", "retry"),
    [
        (refusal(502), 503, "ledger_unavailable", True),
        (answers(504, b"<html>"), 502, "upstream_unavailable", False),
    ],
    ids=["surely not bought", "maybe bought"],
)
async def test_a_rotation_that_cannot_be_booked_is_not_sent(
    tmp_path: Path, first: Act, status: int, code: str, retry: bool
) -> None:
    limits = {"settle_seconds_max": 0.3}
    async with serving(tmp_path, first, limits=limits) as (proxy, (_, vip, b)):
        house, database = proxy.house, proxy.house.database
        house.database = AwayOnRotation(database)  # type: ignore[assignment]
        house.settler._database = house.database
        (await proxy.chat()).assert_error(status, code, retry=retry)
        assert (vip.posts, b.posts) == (0, 0)
        house.database = house.settler._database = database
        await until(lambda: house.settler.late == 0)
        assert await proxy.settled() == ["failed"]


async def test_a_requests_body_is_not_kept_while_its_answer_runs(tmp_path: Path) -> None:
    gate = asyncio.Event()
    body = chinese()
    async with (
        serving(tmp_path, streams(body[:200], body[200:], gate=gate)) as (proxy, _),
        proxy.asking(ask(prompt="a lighthouse nobody else asks for")) as response,
    ):
        await response.content.readany()
        gc.collect()
        bodies = [one for one in gc.get_objects() if isinstance(one, ChatRequest | Call)]
        kept = [one for one in bodies if b"a lighthouse nobody else" in one.body]
        gate.set()
        assert (kept, proxy.running) == ([], 1)
