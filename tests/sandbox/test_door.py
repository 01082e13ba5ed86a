"""A listening socket that opens, refuses, stays silent and opens again on the same port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.sandbox.door import Door


async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello")
    writer.close()
    await writer.wait_closed()


@asynccontextmanager
async def ajar() -> AsyncIterator[Door]:
    door = Door("127.0.0.1", 0, greet)
    try:
        await door.open()
        yield door
    finally:
        await door.close()


async def knock(door: Door) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    try:
        return await reader.read()
    finally:
        writer.transport.abort()


def test_a_door_opens_and_shuts_on_one_port_again_and_again() -> None:
    async def run() -> None:
        async with ajar() as door:
            port = door.port
            for _ in range(3):
                assert await knock(door) == b"hello"
                await door.shut()
                with pytest.raises(ConnectionRefusedError):
                    await knock(door)
                await door.open()
            assert door.is_open
            assert door.port == port

    asyncio.run(run())


def test_a_silent_door_answers_nobody_until_it_opens() -> None:
    async def run() -> None:
        async with ajar() as door:
            await door.shut(silent=True)
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await knock(door)
            await door.shut()
            with pytest.raises(ConnectionRefusedError):
                await knock(door)
            await door.open()
            assert await knock(door) == b"hello"

    asyncio.run(run())


def test_shutting_twice_and_opening_twice_change_nothing() -> None:
    async def run() -> None:
        async with ajar() as door:
            await door.open()
            assert await knock(door) == b"hello"
            await door.shut()
            await door.shut()
            with pytest.raises(ConnectionRefusedError):
                await knock(door)

    asyncio.run(run())
