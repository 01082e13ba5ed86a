"""What uvicorn leaves unbounded: heads and connections."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.gateways import gateways, streams
from tests.running import Running, configured, running
from tests.streams import chunk, frame


@asynccontextmanager
async def serving(tmp_path: Path, **limits: float) -> AsyncIterator[Running]:
    async with gateways("api") as (api,):
        config = configured(tmp_path, [("api", api.url)], limits=limits)
        async with running(config) as proxy:
            yield proxy


async def said(proxy: Running, raw: bytes, seconds: float = 5) -> bytes:
    """What the server says to `raw` until it closes, or falls silent."""
    host, port = proxy.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answer = b""
    try:
        writer.write(raw)
        await writer.drain()
        async with asyncio.timeout(seconds):
            while part := await reader.read(65536):
                answer += part
    except (ConnectionError, TimeoutError):
        pass
    finally:
        writer.close()
    return answer


CLOSE = b"Connection: close\r\n\r\n"


async def test_an_ordinary_head_passes_on_a_kept_connection_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as proxy:
        once = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
        answer = await said(proxy, once + b"\r\n" + once + CLOSE)
        assert answer.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\n" + b"X-A: " + b"y" * 40_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"X-A: y\r\n" * 5_000 + b"\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"X-A: " + b"y" * 40_000,
        b"GET /" + b"a" * 40_000,
    ],
    ids=["one long header", "many headers", "a header without an end", "a long path"],
)
async def test_a_head_that_is_too_long_is_refused(tmp_path: Path, head: bytes) -> None:
    async with serving(tmp_path) as proxy:
        assert (await said(proxy, head)).startswith(b"HTTP/1.1 400")
        assert (await proxy.get("/healthz")).status == 200


@pytest.mark.parametrize("raw", [b"", b"GET /healthz HTT"], ids=["nothing", "half a line"])
async def test_a_head_that_does_not_come_in_time_is_not_waited_for(
    tmp_path: Path, raw: bytes
) -> None:
    async with serving(tmp_path, request_seconds_max=0.3) as proxy:
        began = asyncio.get_running_loop().time()
        assert await said(proxy, raw, 10) == b""
        assert asyncio.get_running_loop().time() - began < 5


async def test_a_connection_too_many_is_closed_at_once_and_the_others_stay(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, connections_max=3) as proxy:
        host, port = proxy.url.removeprefix("http://").split(":")
        held = [await asyncio.open_connection(host, int(port)) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert await said(proxy, b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + CLOSE) == b""
        reader, writer = held[0]
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + CLOSE)
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        for _, one in held:
            one.close()
        await asyncio.sleep(0.05)
        assert (await proxy.get("/healthz")).status == 200


UNREAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
HEALTHY = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "then"),
    [
        (UNREAD, b"y"),
        (UNREAD, b""),
        (UNREAD, b"y" * 100),
        (HEALTHY, b"\r\n"),
        (HEALTHY, b"G"),
        (UPGRADE, b"y"),
    ],
    ids=["a body's first byte", "no body", "a body too late", "a line end", "half a line", "noise"],
)
async def test_a_byte_after_the_answer_does_not_keep_a_connection_for_good(
    tmp_path: Path, request_: bytes, then: bytes
) -> None:
    async with serving(tmp_path, request_seconds_max=0.5) as proxy:
        host, port = proxy.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request_)
        assert (await answer_of(reader)).startswith(b"HTTP/1.1 ")
        writer.write(then)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(5):
                await reader.read()
        writer.close()


async def test_a_body_that_trickles_in_after_its_answer_is_not_waited_for(tmp_path: Path) -> None:
    async with serving(tmp_path, request_seconds_max=0.5) as proxy:
        host, port = proxy.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(UNREAD)
        await answer_of(reader)

        async def trickle() -> None:
            for _ in range(90):
                writer.write(b"y")
                await asyncio.sleep(0.1)

        trickling = asyncio.create_task(trickle())
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(5):
                assert await reader.read() == b""
        trickling.cancel()
        writer.close()


async def test_a_connection_whose_body_came_after_its_answer_is_kept(tmp_path: Path) -> None:
    async with serving(tmp_path) as proxy:
        host, port = proxy.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(UNREAD)
        assert (await answer_of(reader)).startswith(b"HTTP/1.1 401")
        writer.write(b"y" * 100 + HEALTHY)
        assert (await answer_of(reader)).startswith(b"HTTP/1.1 200")
        writer.write(HEALTHY)
        assert (await answer_of(reader)).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_an_answer_that_takes_longer_than_a_request_may_is_not_cut(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with gateways("api") as (api,):
        api.does(streams(frame(chunk("x")), frame(chunk("y")), gate=gate))
        config = configured(tmp_path, [("api", api.url)], limits={"request_seconds_max": 0.2})
        async with running(config) as proxy, proxy.asking() as response:
            assert await response.content.readany()
            await asyncio.sleep(0.6)  # three times as long as a request may take
            gate.set()
            assert response.status == 200
            assert b"y" in await response.content.readany()


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    """One answer with its length, read to its end."""
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None
        return head + await reader.readexactly(int(length[1]))
