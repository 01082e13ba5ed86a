"""What uvicorn leaves unbounded: heads and connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.gateways import gateways
from tests.running import Running, configured, running


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
