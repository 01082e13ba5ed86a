"""The faults a gateway can show, and what must become of one paid POST at each of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tests.remote.fault_server import Fault, Line

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
EVENT = b"data: {}\n\n"
CHUNK = b"a\r\n" + EVENT + b"\r\n"
LENGTH_100 = HEAD + b"Content-Length: 100\r\n\r\n"

SMALL = b'{"model":"veo-3.1"}'
BIG = b"x" * (12 * 2**20)
"""More than the sockets' buffers of both sides hold."""


def after_request(*pieces: bytes, then: str = "close", pause: float = 0.0) -> Fault:
    """Read the request, send `pieces`, then close, reset or hold the connection."""

    async def fault(line: Line) -> None:
        await line.request()
        for piece in pieces:
            await line.send(piece)
            await asyncio.sleep(pause)
        await _finish(line, then)

    return fault


async def _finish(line: Line, then: str) -> None:
    if then == "reset":
        line.reset()
    elif then == "hold":
        await line.gone()
    else:
        await line.close()


async def reset_on_accept(line: Line) -> None:
    line.reset()


async def reset_in_upload(line: Line) -> None:
    await line.head()
    await line.reader.readexactly(100_000)
    line.reset()


async def close_in_upload(line: Line) -> None:
    await line.head()
    await line.close()


async def never_read(line: Line) -> None:
    await line.head()
    await line.hold()


async def greet_in_plain_text(line: Line) -> None:
    await line.send(b"220 welcome, this is not TLS\r\n")
    await line.gone()


async def say_nothing(line: Line) -> None:
    await line.gone()


async def refuse_early(line: Line) -> None:
    """Answer 413 from the head alone, and read the rest for manners."""
    await line.head()
    await line.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
    await line.gone()


async def refuse_early_and_reset(line: Line) -> None:
    await line.head()
    await line.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
    line.reset()


async def byte_by_byte(line: Line) -> None:
    await line.request()
    for byte in CHUNKED + CHUNK + b"0\r\n\r\n":
        await line.send(bytes([byte]))
        await asyncio.sleep(0)
    await line.close()


async def drip(line: Line) -> None:
    await line.request()
    await line.send(CHUNKED)
    while True:
        await line.send(b"1\r\n:\r\n")
        await asyncio.sleep(0.02)


async def provisional_for_ever(line: Line) -> None:
    await line.request()
    while True:
        await line.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        await asyncio.sleep(0.02)


@dataclass(frozen=True)
class Case:
    """`expected` is how the outcome reads (`told` in the tests), one of them where timing decides;
    `seen` how many requests (their heads, at least) reached the server.
    """

    name: str
    fault: Fault
    expected: str | tuple[str, ...]
    seen: int = 1
    body: bytes = SMALL
    scheme: str = "http"


CASES = (
    # Not sent: free to rotate.
    Case("TLS answered with garbage", greet_in_plain_text, "Unreachable tls", 0, scheme="https"),
    Case("TLS never answered", say_nothing, "Unreachable timeout", 0, scheme="https"),
    Case("TLS reset", reset_on_accept, "Unreachable connect", 0, scheme="https"),
    # Sent, or maybe sent, and no head: never to be sent again.
    Case("RST on accept", reset_on_accept, "Silent reset", 0),
    Case("RST in the upload", reset_in_upload, "Silent reset", body=BIG),
    Case("FIN in the upload", close_in_upload, "Silent reset", body=BIG),
    Case("upload never read", never_read, "Silent timeout", body=BIG),
    Case("FIN after the request", after_request(), "Silent reset"),
    Case("RST after the request", after_request(then="reset"), "Silent reset"),
    Case("no answer", after_request(then="hold"), "Silent timeout"),
    Case("half a status line", after_request(b"HTTP/1.1 20"), "Silent reset"),
    Case("junk", after_request(b"\x00\x01 what\r\n\r\n"), "Silent garbled"),
    Case("another protocol", after_request(b"ICY 200 OK\r\n\r\n"), "Silent garbled"),
    Case("half a head", after_request(HEAD + b"Content-Le"), "Silent reset"),
    Case("half a head, then nothing", after_request(HEAD, then="hold"), "Silent timeout"),
    Case("a huge header", after_request(HEAD + b"X: " + b"a" * 2**20), "Silent garbled"),
    Case(
        "a thousand headers", after_request(HEAD + b"X: a\r\n" * 1000 + b"\r\n"), "Silent garbled"
    ),
    Case(
        "a NUL in a header",
        after_request(HEAD + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n"),
        "Silent garbled",
    ),
    Case(
        "a length and chunks",
        after_request(HEAD + b"Content-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNK),
        "Silent garbled",
    ),
    Case(
        "two lengths",
        after_request(HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        "Silent garbled",
    ),
    Case(
        "101",
        after_request(b"HTTP/1.1 101 Up\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", then="hold"),
        "Silent garbled",
    ),
    Case(
        "a status beyond 599",
        after_request(b"HTTP/1.1 999 No\r\nContent-Length: 0\r\n\r\n"),
        "Silent garbled",
    ),
    Case("provisional answers without end", provisional_for_ever, "Silent timeout"),
    # A head: the answer says how it ended.
    Case(
        "100 first",
        after_request(b"HTTP/1.1 100 Continue\r\n\r\n", CHUNKED + CHUNK + b"0\r\n\r\n"),
        "200 framed complete 10",
    ),
    Case(
        "103 first",
        after_request(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + CHUNKED + b"0\r\n\r\n"),
        "200 framed complete 0",
    ),
    Case("one byte at a time", byte_by_byte, "200 framed complete 10"),
    Case(
        "to the end of the connection",
        after_request(HEAD + b"\r\n" + EVENT),
        "200 unframed complete 10",
    ),
    Case("HTTP/1.0", after_request(b"HTTP/1.0 200 OK\r\n\r\nabc"), "200 unframed complete 3"),
    Case("no content", after_request(b"HTTP/1.1 204 No\r\n\r\n"), "204 framed complete 0"),
    Case(
        "a broken end",
        after_request(HEAD + b"\r\n" + EVENT, then="reset", pause=0.05),
        "200 unframed cut 10",
    ),
    Case("head, then FIN", after_request(CHUNKED), "200 framed cut 0"),
    Case("head, then nothing", after_request(CHUNKED, then="hold"), "200 framed stalled 0"),
    Case(
        "an event, then nothing",
        after_request(CHUNKED + CHUNK, then="hold"),
        "200 framed stalled 10",
    ),
    Case("FIN between chunks", after_request(CHUNKED + CHUNK), "200 framed cut 10"),
    Case("FIN within a chunk", after_request(CHUNKED + b"ff\r\n" + EVENT), "200 framed cut 10"),
    Case(
        "RST between chunks",
        after_request(CHUNKED + CHUNK, then="reset", pause=0.05),
        "200 framed cut 10",
    ),
    Case(
        "a chunk that is none",
        after_request(CHUNKED + CHUNK, b"ZZ\r\n", then="hold", pause=0.05),
        "200 framed cut 10",
    ),
    Case("short of its length", after_request(LENGTH_100 + EVENT), "200 framed cut 10"),
    Case("a drip without end", drip, "200 framed timed_out"),
    Case(
        "a redirect",
        after_request(
            b"HTTP/1.1 307 Go\r\nLocation: /v1/elsewhere\r\nContent-Length: 0\r\n\r\n", then="hold"
        ),
        "307 framed complete 0",
    ),
    Case("413 before the upload's end", refuse_early, "413 framed complete 3", body=BIG),
    Case(
        "413 and RST",
        refuse_early_and_reset,
        ("413 framed complete 3", "413 framed cut 0", "Silent reset"),
        body=BIG,
    ),
    Case(
        "500",
        after_request(b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n{}"),
        "500 framed complete 2",
    ),
)
