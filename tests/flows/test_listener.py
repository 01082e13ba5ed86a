from __future__ import annotations

import asyncio

import pytest

from proxy.flows.listener import KEEPALIVE, Broken, Listener


async def test_bytes_come_out_as_they_went_in() -> None:
    listener = Listener(100)
    await listener.offer(b"a", between=True)
    await listener.offer(b"b", between=True)
    assert await listener.read() == b"ab"
    await listener.offer(b"c", between=True)
    listener.end()
    assert [await listener.read(), await listener.read()] == [b"c", None]


async def test_a_waiting_reader_is_woken() -> None:
    listener = Listener(100)
    reading = asyncio.create_task(listener.read())
    await asyncio.sleep(0)
    await listener.offer(b"a", between=True)
    assert await reading == b"a"


async def test_a_broken_answer_ends_after_its_last_bytes() -> None:
    listener = Listener(100)
    await listener.offer(b"a", between=True)
    listener.end(broken=True)
    assert await listener.read() == b"a"
    with pytest.raises(Broken):
        await listener.read()


async def test_the_first_end_stands() -> None:
    listener = Listener(100)
    listener.end()
    listener.end(broken=True)
    await listener.offer(b"late", between=True)
    assert await listener.read() is None


async def test_a_reader_who_falls_too_far_behind_is_dropped_and_told() -> None:
    listener = Listener(10)
    told: list[str] = []
    listener.on_drop(lambda: told.append("dropped"))
    await listener.offer(b"x" * 8, between=True)
    assert not listener.dropped
    await listener.offer(b"y" * 8, between=True)
    assert (listener.dropped, told) == (True, ["dropped"])
    with pytest.raises(Broken):
        await listener.read()


async def test_who_asks_after_the_drop_is_told_at_once() -> None:
    listener = Listener(10)
    listener.drop()
    told: list[str] = []
    listener.on_drop(lambda: told.append("dropped"))
    assert told == ["dropped"]


async def test_one_chunk_larger_than_the_buffer_still_passes() -> None:
    listener = Listener(10)
    await listener.offer(b"x" * 50, between=True)
    assert await listener.read() == b"x" * 50


async def test_silence_between_events_is_filled_and_inside_one_is_not() -> None:
    listener = Listener(100)
    assert await listener.read(0.01) == KEEPALIVE
    await listener.offer(b"data: a", between=False)
    assert await listener.read(0.01) == b"data: a"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(listener.read(0.01), 0.1)
