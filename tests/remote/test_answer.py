from __future__ import annotations

import asyncio
import gc
import gzip
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.remote.answer import Ending
from proxy.remote.gateway import Call, Deadlines, Gateway, Opened
from tests.remote.dialling import LOOPS, OK, PATIENT, POST, facing, run, succeed, told, until
from tests.remote.fault_server import Line
from tests.remote.faults import BIG, CHUNK, CHUNKED, EVENT, HEAD, after_request


def test_closing_a_finished_get_leaves_the_next_one_on_its_connection_alone() -> None:
    async def story() -> None:
        async with facing(succeed) as (server, gateways):
            here = Gateway("a", server.url)
            first = await gateways.get(here, "/v1/models", deadlines=PATIENT)
            second = await gateways.get(here, "/v1/models", deadlines=PATIENT)
            assert isinstance(first, Opened)
            assert isinstance(second, Opened)
            assert server.connections == 1
            first.answer.close()
            assert [chunk async for chunk in second.answer] == [b"{}"]
            assert second.answer.ending is Ending.COMPLETE

    run(story())


@pytest.mark.parametrize("loop", LOOPS)
def test_bytes_that_arrived_before_the_break_are_not_lost(loop: str) -> None:
    """A clip's link may stand in them, and the reader may be busy with the ledger meanwhile."""

    async def story() -> None:
        async with facing(after_request(CHUNKED + CHUNK, then="reset", pause=0.05)) as (
            server,
            gateways,
        ):
            outcome = await gateways.open(Gateway("a", server.url), POST, deadlines=PATIENT)
            assert isinstance(outcome, Opened)
            await until(lambda: outcome.answer._response.reset)
            assert [chunk async for chunk in outcome.answer] == [EVENT]
            assert outcome.answer.ending is Ending.CUT

    run(story(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_bytes_that_arrived_before_the_deadline_are_not_lost(loop: str) -> None:
    async def story() -> None:
        async with facing(after_request(CHUNKED + CHUNK, then="hold")) as (server, gateways):
            deadlines = replace(PATIENT, total_seconds=0.3)
            outcome = await gateways.open(Gateway("a", server.url), POST, deadlines=deadlines)
            assert isinstance(outcome, Opened)
            await asyncio.sleep(0.4)
            assert [chunk async for chunk in outcome.answer] == [EVENT]
            assert outcome.answer.ending is Ending.TIMED_OUT

    run(story(), loop)


def test_a_break_that_the_client_has_not_told_of_yet_is_a_break() -> None:
    """Between the loss of the connection and its being told there is one turn of the loop."""

    async def story() -> None:
        wire = (CHUNKED + CHUNK, b"ZZ\r\n")
        async with facing(after_request(*wire, then="hold", pause=0.05)) as (server, gateways):
            outcome = await gateways.open(Gateway("a", server.url), POST, deadlines=PATIENT)
            assert isinstance(outcome, Opened)
            response = outcome.answer._response
            assert response._lost is not None
            response._lost.remove_done_callback(response._on_lost)
            await until(lambda: response.gone)
            assert [chunk async for chunk in outcome.answer] == [EVENT]
            assert outcome.answer.ending is Ending.CUT

    run(story())


def test_a_reset_of_an_idle_kept_connection_is_nobodys_error() -> None:
    async def rude(line: Line) -> None:
        await line.request()
        await line.send(OK)
        await asyncio.sleep(0.05)
        line.reset()

    async def story() -> None:
        async with facing(rude) as (server, gateways):
            get = Call("GET", "/v1/models")
            for _ in range(2):
                assert await told(gateways, server.url, get, PATIENT) == "200 framed complete 2"
                await until(lambda: server.open == 0)
                await asyncio.sleep(0.01)
            assert server.connections == 2
        gc.collect()

    run(story())


def test_a_busy_reader_is_not_a_stall() -> None:
    async def story() -> None:
        async with facing(after_request(CHUNKED + CHUNK + b"0\r\n\r\n")) as (server, gateways):
            deadlines = Deadlines(1, 1, 1, stall_seconds=0.05, total_seconds=5)
            outcome = await gateways.open(Gateway("a", server.url), POST, deadlines=deadlines)
            assert isinstance(outcome, Opened)
            await asyncio.sleep(0.15)
            assert [chunk async for chunk in outcome.answer] == [EVENT]
            assert outcome.answer.ending is Ending.COMPLETE

    run(story())


def test_an_answer_that_begins_before_the_upload_ends_is_read_whole() -> None:
    async def eager(line: Line) -> None:
        await line.head()
        await line.send(CHUNKED + CHUNK)
        await line.reader.readexactly(len(BIG))
        await line.send(CHUNK + b"0\r\n\r\n")

    async def story() -> None:
        async with facing(eager) as (server, gateways):
            call = Call("POST", "/v1/videos", body=BIG)
            assert await told(gateways, server.url, call, PATIENT) == "200 framed complete 20"

    run(story())


def test_an_encoded_body_is_passed_on_encoded() -> None:
    async def story() -> None:
        packed = gzip.compress(EVENT)
        head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
        async with facing(after_request(head + packed)) as (server, gateways):
            outcome = await gateways.open(Gateway("a", server.url), POST, deadlines=PATIENT)
            assert isinstance(outcome, Opened)
            assert b"".join([chunk async for chunk in outcome.answer]) == packed
            assert (b"Content-Encoding", b"gzip") in outcome.answer.headers

    run(story())


@settings(max_examples=40, deadline=None)
@given(
    pieces=st.lists(st.binary(min_size=1, max_size=3000), max_size=12),
    framing=st.sampled_from(["chunked", "length", "close"]),
    cuts=st.lists(st.integers(min_value=1, max_value=4000), min_size=1, max_size=8),
)
def test_every_byte_crosses_unchanged(pieces: list[bytes], framing: str, cuts: list[int]) -> None:
    body = b"".join(pieces)
    if framing == "chunked":
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        wire = CHUNKED + chunks + b"0\r\n\r\n"
    elif framing == "length":
        wire = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    else:
        wire = HEAD + b"\r\n" + body
    segments: list[bytes] = []
    while wire:
        cut = cuts[len(segments) % len(cuts)]
        segments.append(wire[:cut])
        wire = wire[cut:]

    async def story() -> None:
        async with facing(after_request(*segments)) as (server, gateways):
            outcome = await gateways.open(Gateway("a", server.url), POST, deadlines=PATIENT)
            assert isinstance(outcome, Opened)
            assert b"".join([chunk async for chunk in outcome.answer]) == body
            assert outcome.answer.ending is Ending.COMPLETE
            assert outcome.answer.framed is (framing != "close")

    run(story())


def test_a_body_that_nobody_reads_is_held_back_at_the_vendor() -> None:
    sent = 0

    async def flood(line: Line) -> None:
        nonlocal sent
        await line.request()
        await line.send(HEAD + b"\r\n")
        while True:
            await line.send(b"x" * 2**20)
            sent += 2**20

    async def story() -> None:
        async with facing(flood) as (server, gateways):
            outcome = await gateways.open(Gateway("a", server.url), POST, deadlines=PATIENT)
            assert isinstance(outcome, Opened)
            await asyncio.sleep(0.3)
            assert sent < 64 * 2**20
            outcome.answer.close()
            await until(lambda: server.open == 0)

    run(story())


def test_a_refusal_is_read_up_to_a_bound() -> None:
    async def story() -> None:
        wire = b"HTTP/1.1 500 Oops\r\nContent-Length: 9000\r\n\r\n" + b"e" * 9000
        async with facing(after_request(wire)) as (server, gateways):
            for bytes_max, length, ending in (
                (9000, 9000, Ending.COMPLETE),
                (8999, 8999, Ending.CUT),
            ):
                outcome = await gateways.open(Gateway("a", server.url), POST, deadlines=PATIENT)
                assert isinstance(outcome, Opened)
                assert len(await outcome.answer.read_refusal_body(bytes_max)) == length
                assert outcome.answer.ending is ending

    run(story())


def test_a_refusal_that_drips_is_given_up_after_one_silence() -> None:
    async def drip(line: Line) -> None:
        await line.request()
        await line.send(b"HTTP/1.1 503 No\r\n\r\n")
        while True:
            await line.send(b"e")
            await asyncio.sleep(0.02)

    async def story() -> None:
        async with facing(drip) as (server, gateways):
            deadlines = Deadlines(1, 1, 1, stall_seconds=0.2, total_seconds=20)
            outcome = await gateways.open(Gateway("a", server.url), POST, deadlines=deadlines)
            assert isinstance(outcome, Opened)
            started = time.monotonic()
            body = await outcome.answer.read_refusal_body(1000)
            assert time.monotonic() - started < 5
            assert set(body) == set(b"e")
            assert outcome.answer.ending is Ending.TIMED_OUT

    run(story())


def test_closing_cuts_what_is_still_being_read() -> None:
    async def story() -> None:
        async with facing(after_request(CHUNKED + CHUNK, then="hold")) as (server, gateways):
            outcome = await gateways.open(Gateway("a", server.url), POST, deadlines=PATIENT)
            assert isinstance(outcome, Opened)
            answer = outcome.answer
            assert await anext(answer) == EVENT
            reading = asyncio.create_task(anext(answer, b"end"))
            await asyncio.sleep(0)
            await gateways.close()
            assert await reading == b"end"
            assert answer.ending is Ending.CUT
            await until(lambda: server.open == 0)

    run(story())


def test_an_answer_may_be_closed_while_it_is_read_and_again() -> None:
    async def story() -> None:
        async with facing(after_request(CHUNKED, then="hold")) as (server, gateways):
            outcome = await gateways.open(Gateway("a", server.url), POST, deadlines=PATIENT)
            assert isinstance(outcome, Opened)
            reading = asyncio.create_task(anext(outcome.answer, b"end"))
            await asyncio.sleep(0.01)
            outcome.answer.close()
            outcome.answer.close()
            assert await reading == b"end"
            assert outcome.answer.ending is Ending.CUT
            await until(lambda: server.open == 0)

    run(story())


@pytest.mark.parametrize("count", [1, 12, 1000])
@pytest.mark.parametrize("then", ["close", "reset"])
def test_bytes_that_were_peeked_at_are_read_all_the_same(count: int, then: str) -> None:
    wire = b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n"
    body = bytes(range(40)) if then == "close" else bytes(range(30))

    async def story() -> None:
        parts = (wire + body[:5], body[5:20], body[20:])
        async with facing(after_request(*parts, then=then, pause=0.02)) as (server, gateways):
            outcome = await gateways.get(Gateway("a", server.url), "/a", deadlines=PATIENT)
            assert isinstance(outcome, Opened)
            answer = outcome.answer
            for _ in range(2):
                assert await answer.peek(count) == body[:count]
            assert b"".join([chunk async for chunk in answer]) == body
            assert answer.ending is (Ending.COMPLETE if then == "close" else Ending.CUT)
            assert await answer.peek(count) == b""

    run(story())


def test_an_answer_that_is_closed_after_a_peek_gives_nothing_more() -> None:
    async def story() -> None:
        async with facing(succeed) as (server, gateways):
            outcome = await gateways.get(Gateway("a", server.url), "/a", deadlines=PATIENT)
            assert isinstance(outcome, Opened)
            assert await outcome.answer.peek(1) == b"{"
            outcome.answer.close()
            assert [chunk async for chunk in outcome.answer] == []

    run(story())
