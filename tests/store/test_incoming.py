"""Whoever reads a clip while it comes in gets every byte of it, or is told that it broke off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.store.folder import Folder
from proxy.store.incoming import WRITE_BYTES, Incoming, NotFinished
from proxy.store.kept import Kind, Rejected
from proxy.store.part import Part
from tests.store.vaults import Feed, clip, pieces

DATA = clip(5 * WRITE_BYTES + 99)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def part(tmp_path: Path) -> Iterator[Part]:
    part = Folder(tmp_path, 0).begin(0)
    yield part
    part.drop()


async def read(incoming: Incoming, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in incoming.chunks(start, stop)])


@pytest.mark.parametrize("size", [1, 1000, WRITE_BYTES - 1, WRITE_BYTES, len(DATA)])
async def test_readers_early_and_late_get_the_same(
    part: Part, threads: ThreadPoolExecutor, size: int
) -> None:
    data = DATA[: 3 * WRITE_BYTES] if size > 1 else DATA[:3000]
    incoming = Incoming(part, Feed(pieces(data, size), declared=len(data)), threads)
    assert incoming.declared == len(data)
    spans: list[tuple[int, int | None]] = [(0, None), (0, 2), (10, 11), (1000, None)]
    spans += [(len(data), None), (len(data) - 1, None), (5, 5)]
    early = [asyncio.create_task(read(incoming, *span)) for span in spans]
    assert await incoming.receive(Kind.CLIP, len(data)) is None
    incoming.end(kept=True)
    async with asyncio.timeout(10):
        for reading, (start, stop) in zip(early, spans, strict=True):
            assert await reading == data[start:stop]
            assert await read(incoming, start, stop) == data[start:stop]


async def test_a_reader_of_the_beginning_does_not_wait_for_the_end(
    part: Part, threads: ThreadPoolExecutor
) -> None:
    never = asyncio.Event()
    feed = Feed(pieces(DATA, WRITE_BYTES), before_each=lambda number: never if number else None)
    incoming = Incoming(part, feed, threads)
    receiving = asyncio.create_task(incoming.receive(Kind.CLIP, len(DATA)))
    async with asyncio.timeout(10):
        assert await read(incoming, 0, 2) == DATA[:2]
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    incoming.end(kept=False)
    with pytest.raises(NotFinished):
        await read(incoming, 0, len(DATA))
    assert await read(incoming, 0, 2) == DATA[:2]


async def test_not_a_byte_is_shown_of_what_is_no_clip(
    part: Part, threads: ThreadPoolExecutor
) -> None:
    incoming = Incoming(part, Feed([bytes(WRITE_BYTES)] * 2), threads)
    reading = asyncio.create_task(anext(incoming.chunks(), b""))
    assert await incoming.receive(Kind.CLIP, 2**20) is Rejected.WRONG_MAGIC
    incoming.end(kept=False)
    with pytest.raises(NotFinished):
        await reading


async def test_the_first_word_on_its_end_counts(part: Part, threads: ThreadPoolExecutor) -> None:
    incoming = Incoming(part, Feed([DATA]), threads)
    assert await incoming.receive(Kind.CLIP, len(DATA)) is None
    incoming.end(kept=True)
    incoming.end(kept=False)
    assert await read(incoming) == DATA


@pytest.mark.parametrize("kept", [True, False])
async def test_one_who_waits_for_the_end_is_told_how_it_was(
    part: Part, threads: ThreadPoolExecutor, kept: bool
) -> None:
    incoming = Incoming(part, Feed(pieces(DATA, WRITE_BYTES)), threads)
    waiting = asyncio.create_task(incoming.ended())
    assert await incoming.receive(Kind.CLIP, len(DATA)) is None
    assert not waiting.done()
    incoming.end(kept=kept)
    assert await waiting is kept
    assert await incoming.ended() is kept
