"""A file is read as it was when it was opened, by a descriptor that is closed exactly once."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.store.held import PIECE_BYTES, Held, mark_of
from proxy.store.kept import VaultUnavailable
from tests.store.vaults import clip, flipped

DATA = clip(3 * PIECE_BYTES + 17)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(DATA)
    return path


def hold(file: Path, threads: ThreadPoolExecutor) -> Held:
    descriptor = os.open(file, os.O_RDONLY)
    return Held(descriptor, threads, mark_of(os.fstat(descriptor)))


def replace(file: Path, data: bytes) -> None:
    """Another file of that name, last changed long ago."""
    file.unlink()
    file.write_bytes(data)
    os.utime(file, (1, 1))


def overwrite(file: Path, data: bytes) -> None:
    """Other bytes in the same file."""
    file.write_bytes(data)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


async def whole(held: Held) -> bytes:
    return b"".join([chunk async for chunk in held.chunks(0, len(DATA))])


@pytest.mark.parametrize("cached", [True, False])
async def test_bytes_are_the_same_from_memory_and_from_the_disk(
    file: Path, threads: ThreadPoolExecutor, cached: bool
) -> None:
    held = hold(file, threads)
    if not cached:
        os.fsync(held._descriptor)
        os.posix_fadvise(held._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    assert await whole(held) == DATA
    assert await held.read(len(DATA) - 1, 10) == DATA[-1:]
    assert await held.read(len(DATA), 10) == b""
    held.close()


async def test_a_name_that_is_gone_takes_no_byte_away(
    file: Path, threads: ThreadPoolExecutor
) -> None:
    held = hold(file, threads)
    replace(file, flipped(DATA, 0))
    assert await whole(held) == DATA
    held.close()


async def test_a_file_that_changes_is_read_no_further(
    file: Path, threads: ThreadPoolExecutor
) -> None:
    for data in (DATA[:-1], DATA + b"x", flipped(DATA, 5)):
        replace(file, DATA)
        held = hold(file, threads)
        assert await held.read(0, 10) == DATA[:10]
        overwrite(file, data)
        with pytest.raises(VaultUnavailable):
            await held.read(0, 10)
        with pytest.raises(VaultUnavailable):
            await held.read(len(DATA), 10)  # there a thread looks
        held.close()


async def test_an_unmarked_file_may_grow_but_not_shrink(
    file: Path, threads: ThreadPoolExecutor
) -> None:
    held = Held(os.open(file, os.O_RDONLY), threads)
    with file.open("ab") as more:
        more.write(b"more")
    assert await held.read(len(DATA), 10) == b"more"
    os.truncate(file, 10)
    with pytest.raises(VaultUnavailable):
        await whole(held)
    held.close()


async def test_a_closed_file_is_not_read(file: Path, threads: ThreadPoolExecutor) -> None:
    held = hold(file, threads)
    descriptor = held._descriptor
    held.close()
    held.close()
    assert not is_open(descriptor)
    with pytest.raises(ValueError, match="closed"):
        await held.read(0, 1)


async def test_a_read_that_waits_for_a_thread_never_reads_another_file(
    file: Path, threads: ThreadPoolExecutor
) -> None:
    free = threading.Event()
    threads.submit(free.wait)
    held = hold(file, threads)
    descriptor = held._descriptor
    reading = asyncio.create_task(held.read(len(DATA), 1))  # its end: a thread must look
    await asyncio.sleep(0)
    held.close()
    other = os.open(__file__, os.O_RDONLY)
    assert other == descriptor  # the number is given to the next file
    free.set()
    with pytest.raises(ValueError, match="closed"):
        await reading
    assert is_open(other)
    os.close(other)


async def test_closing_waits_for_nobody_and_a_read_under_way_ends_first(
    file: Path, threads: ThreadPoolExecutor
) -> None:
    held = hold(file, threads)
    descriptor = held._descriptor
    with held._lock:  # as a thread holds it while it reads
        held.close()
        assert is_open(descriptor)
    with pytest.raises(ValueError, match="closed"):
        held._read(0, 1)
    assert not is_open(descriptor)


def test_what_nobody_holds_any_more_is_closed(file: Path, threads: ThreadPoolExecutor) -> None:
    held = hold(file, threads)
    descriptor = held._descriptor
    del held
    assert not is_open(descriptor)
