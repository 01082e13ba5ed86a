from __future__ import annotations

import asyncio
import random
import socket
import time
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from proxy.core.headers import forward
from proxy.core.rotation import Unreachable
from proxy.remote import gateway as module
from proxy.remote.gateway import Call, Gateway, Gateways, Opened
from tests.remote.dialling import (
    LOOPS,
    OK,
    PATIENT,
    POST,
    descriptors,
    facing,
    just_enough,
    run,
    succeed,
    told,
    until,
)
from tests.remote.fault_server import Fault, FaultServer, Line
from tests.remote.faults import (
    BIG,
    CASES,
    CHUNKED,
    SMALL,
    Case,
    after_request,
    drip,
    never_read,
    say_nothing,
)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_fault_has_its_outcome_and_its_number_of_requests(case: Case, loop: str) -> None:
    async def story() -> None:
        async with facing(case.fault) as (server, gateways):
            url = server.url.replace("http:", f"{case.scheme}:")
            call = Call("POST", "/v1/chat/completions", body=case.body)
            said = await told(gateways, url, call, just_enough(case))
            expected = (case.expected,) if isinstance(case.expected, str) else case.expected
            assert said in expected
            assert len(server.requests) == case.seen
            assert server.connections == 1

    run(story(), loop)


def test_a_refused_connection_is_unreachable() -> None:
    async def story() -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))  # bound and not listening
            url = f"http://127.0.0.1:{bound.getsockname()[1]}"
            gateways = Gateways("sk-test")
            outcome = await gateways.open(Gateway("a", url), POST, deadlines=PATIENT)
            assert outcome == Unreachable("refused")
            await gateways.close()

    run(story())


def test_the_headers_event_comes_before_any_byte_leaves() -> None:
    """What the phase rests on: a promise of the HTTP client's that a new version could break."""
    seen: list[int] = []

    async def story() -> None:
        arrived = 0

        async def count(line: Line) -> None:
            nonlocal arrived
            while data := await line.reader.read(65536):
                arrived += len(data)

        async def on_headers(_: aiohttp.ClientSession, __: SimpleNamespace, ___: Any) -> None:
            await asyncio.sleep(0.1)
            seen.append(arrived)

        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(on_headers)
        timeout = aiohttp.ClientTimeout(total=0.3)
        async with (
            FaultServer(count) as server,
            aiohttp.ClientSession(trace_configs=[trace], timeout=timeout) as session,
        ):
            with pytest.raises(TimeoutError):
                await session.post(server.url, data=SMALL)
            await until(lambda: arrived > len(SMALL))

    run(story())
    assert seen == [0]


def test_a_paid_post_is_never_repeated_and_never_shares_a_connection() -> None:
    """A server that resets the second request of a connection never gets to do so (R27)."""

    async def once(line: Line) -> None:
        await line.request()
        await line.send(OK)
        await line.request()
        line.reset()

    async def story() -> None:
        async with facing(once) as (server, gateways):
            for _ in range(20):
                assert await told(gateways, server.url, POST, PATIENT) == "200 framed complete 2"
            assert len(server.requests) == server.connections == 20
            assert all(b"\r\nConnection: close\r\n" in request for request in server.requests)

    run(story())


def test_free_gets_share_a_connection() -> None:
    async def story() -> None:
        async with facing(succeed) as (server, gateways):
            here = Gateway("a", server.url)
            for _ in range(3):
                outcome = await gateways.get(here, "/v1/videos/abc", deadlines=PATIENT)
                assert isinstance(outcome, Opened)
                assert [chunk async for chunk in outcome.answer] == [b"{}"]
            assert (len(server.requests), server.connections) == (3, 1)

    run(story())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_cancelled_call_leaves_no_connection_behind(loop: str) -> None:
    async def story() -> None:
        async with facing(after_request(then="hold")) as (server, gateways):
            call = gateways.open(Gateway("a", server.url), POST, deadlines=PATIENT)
            task = asyncio.create_task(call)
            await until(lambda: len(server.requests) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: server.open == 0, seconds=1)

    run(story(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_cancelled_upload_to_a_server_that_does_not_read_lets_go_at_once(loop: str) -> None:
    """A close that first sends what is left would keep the connection, and could still buy."""

    async def story() -> None:
        async with facing(never_read) as (server, gateways):
            here = Gateway("a", server.url)
            call = Call("POST", "/v1/videos", body=BIG)
            before = descriptors()
            task = asyncio.create_task(gateways.open(here, call, deadlines=PATIENT))
            await until(lambda: len(server.requests) == 1)
            await asyncio.sleep(0.2)  # time to fill what lies between the two
            assert descriptors() == before + 2  # both ends
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: descriptors() == before + 1)

    run(story(), loop)


def test_an_upload_that_gets_stuck_ends_by_the_limit_of_writing() -> None:
    async def story() -> None:
        async with facing(never_read) as (server, gateways):
            started = time.monotonic()
            deadlines = replace(PATIENT, write_seconds=0.1)
            call = Call("POST", "/v1/videos", body=BIG)
            assert await told(gateways, server.url, call, deadlines) == "Silent timeout"
            assert time.monotonic() - started < 5

    run(story())


def test_the_head_is_awaited_from_the_end_of_writing() -> None:
    async def slow_reader(line: Line) -> None:
        await line.head()
        await asyncio.sleep(0.6)
        await line.reader.readexactly(len(BIG))
        await line.send(OK)

    async def story() -> None:
        async with facing(slow_reader) as (server, gateways):
            deadlines = replace(PATIENT, head_seconds=0.5)
            call = Call("POST", "/v1/videos", body=BIG)
            assert await told(gateways, server.url, call, deadlines) == "200 framed complete 2"

    run(story())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_storm_of_cancellations_costs_neither_connections_nor_descriptors(loop: str) -> None:
    chance = random.Random(7)
    kept: list[str] = []

    async def slow(line: Line) -> None:
        while True:
            await line.request()
            await asyncio.sleep(0.01)
            await line.send(OK)

    async def story() -> None:
        async with facing(slow) as (server, gateways):
            here = Gateway("a", server.url)
            assert await told(gateways, server.url, POST, PATIENT) == "200 framed complete 2"
            before = descriptors()

            async def caller(method: str, patience: float | None) -> None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(patience):
                        call = Call(method, "/v1/models", body=SMALL if method == "POST" else b"")
                        outcome = await gateways.open(here, call, deadlines=PATIENT)
                        assert isinstance(outcome, Opened)
                        outcome.answer.close()
                    kept.append(method)

            callers = [
                asyncio.create_task(caller(chance.choice(["GET", "POST"]), patience))
                for patience in [None, *(chance.random() / 4 for _ in range(398)), 0.0]
            ]
            await asyncio.gather(*callers)
            assert 0 < len(kept) < 400  # some were in time, some were not
            for _ in range(3):
                assert await told(gateways, server.url, POST, PATIENT) == "200 framed complete 2"
                get = Call("GET", "/v1/models")
                assert await told(gateways, server.url, get, PATIENT) == "200 framed complete 2"
            await gateways.close()
            await until(lambda: server.open == 0)
            await until(lambda: descriptors() <= before)

    run(story(), loop)


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with facing(succeed) as (server, gateways), FaultServer(succeed) as detour:
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
                monkeypatch.setenv(name, detour.url)
                monkeypatch.setenv(name.lower(), detour.url)
            monkeypatch.setenv("NO_PROXY", "")
            monkeypatch.setenv("no_proxy", "")
            assert await told(gateways, server.url, POST, PATIENT) == "200 framed complete 2"
            assert (len(server.requests), detour.connections) == (1, 0)

    run(story())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_is_not_followed(status: int) -> None:
    async def story() -> None:
        async with FaultServer(succeed) as elsewhere:
            head = (
                f"HTTP/1.1 {status} Go\r\nLocation: {elsewhere.url}/\r\nContent-Length: 0\r\n\r\n"
            )
            async with facing(after_request(head.encode())) as (server, gateways):
                said = await told(gateways, server.url, POST, PATIENT)
                assert said == f"{status} framed complete 0"
                assert (len(server.requests), elsewhere.connections) == (1, 0)

    run(story())


def test_our_key_overrides_whatever_authorization_is_given() -> None:
    async def story() -> None:
        async with facing(succeed) as (server, gateways):
            call = Call(
                "POST",
                "/v1/videos?x=1",
                headers=[
                    *forward([(b"Accept", b"text/event-stream"), (b"Content-Type", b"a/b")]),
                    ("Authorization", "Bearer sk-cm-caller"),
                    ("Host", "elsewhere.example"),
                    ("Expect", "100-continue"),
                    ("Cookie", "a=b"),
                    ("Transfer-Encoding", "chunked"),
                    ("X-Odd", "one\r\nX-Two: two"),
                ],
                body=SMALL,
                content_type="application/json",
            )
            assert await told(gateways, server.url, call, PATIENT) == "200 framed complete 2"
            head, _, body = server.requests[0].partition(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            assert lines[0] == "POST /v1/videos?x=1 HTTP/1.1"
            assert sorted(line.lower() for line in lines[1:]) == [
                "accept-encoding: identity",
                "accept: text/event-stream",
                "authorization: bearer sk-test",
                "connection: close",
                f"content-length: {len(SMALL)}",
                "content-type: application/json",
                f"host: 127.0.0.1:{server.port}",
                "user-agent: clipmeter",
                "via: 1.1 clipmeter",
            ]
            assert body == SMALL

    run(story())


def test_cookies_are_forgotten() -> None:
    async def story() -> None:
        cookie = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
        async with facing(after_request(cookie)) as (server, gateways):
            for _ in range(2):
                assert await told(gateways, server.url, POST, PATIENT) == "200 framed complete 0"
            assert b"a=b" not in server.requests[1]

    run(story())


def test_a_large_body_arrives_whole() -> None:
    async def story() -> None:
        body = random.Random(3).randbytes(5_000_003)
        async with facing(after_request(OK)) as (server, gateways):
            call = Call("POST", "/v1/videos", body=body)
            assert await told(gateways, server.url, call, PATIENT) == "200 framed complete 2"
            assert server.requests[0].endswith(b"\r\n\r\n" + body)

    run(story())


@pytest.mark.parametrize(
    ("scheme", "fault", "body", "expected"),
    [
        ("https", say_nothing, SMALL, "Unreachable timeout"),
        ("http", never_read, BIG, "Silent timeout"),
        ("http", after_request(then="hold"), SMALL, "Silent timeout"),
        ("http", after_request(CHUNKED, then="hold"), SMALL, "200 framed timed_out"),
        ("http", drip, SMALL, "200 framed timed_out"),
    ],
    ids=["connect", "write", "head", "silence", "body"],
)
def test_the_total_deadline_bounds_every_phase(
    scheme: str, fault: Fault, body: bytes, expected: str
) -> None:
    async def story() -> None:
        async with facing(fault) as (server, gateways):
            started = time.monotonic()
            url = server.url.replace("http:", f"{scheme}:")
            call = Call("POST", "/v1/videos", body=body)
            said = await told(gateways, url, call, replace(PATIENT, total_seconds=0.5))
            assert said == expected
            assert time.monotonic() - started < 5

    run(story())


@pytest.mark.parametrize(
    "path",
    [
        "v1/models",
        "/v1/a b",
        "/v1/a\r\nX: y",
        "/v1/videos/../keys",
        "/v1/videos/%2E%2e/keys",
        "/v1/..",
        "/v1/..?a",
        "/#f",
        "",
    ],
)
def test_a_path_that_would_ask_for_something_else_is_refused(path: str) -> None:
    async def story() -> None:
        async with facing(succeed) as (server, gateways):
            with pytest.raises(ValueError, match="path"):
                await gateways.get(Gateway("a", server.url), path, deadlines=PATIENT)
            assert server.connections == 0

    run(story())


@pytest.mark.parametrize("key", ["", " ", "a\nb", "schlüssel", "k\x00"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    async def story() -> None:
        with pytest.raises(ValueError, match="API key"):
            Gateways(key)

    run(story())


@pytest.mark.parametrize(
    ("status", "alive"), [(200, True), (401, True), (404, True), (500, False), (503, False)]
)
def test_a_probe_takes_any_answer_below_500_for_life(status: int, alive: bool) -> None:
    async def story() -> None:
        wire = b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status
        async with facing(after_request(wire)) as (server, gateways):
            here = Gateway("a", server.url)
            assert await gateways.probe(here, deadlines=PATIENT) is alive
            assert server.requests[0].startswith(b"GET /v1/models HTTP/1.1\r\n")

    run(story())


def test_a_probe_without_an_answer_is_no_life() -> None:
    async def story() -> None:
        async with facing(after_request(then="hold")) as (server, gateways):
            assert (
                await gateways.probe(
                    Gateway("a", server.url), deadlines=replace(PATIENT, head_seconds=0.2)
                )
                is False
            )

    run(story())


def test_sockets_notice_a_peer_that_vanished() -> None:
    made = module._socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1)))
    with made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) < 120
