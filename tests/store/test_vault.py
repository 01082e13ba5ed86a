"""A clip is kept whole or not at all, and read as it was kept or not at all, wherever it is kept.

Every test here runs on a local folder and on a bucket of a real S3 server.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from proxy.remote.download import Download, Downloads, Limits
from proxy.remote.guard import Rules
from proxy.store.held import Reader
from proxy.store.incoming import NotFinished
from proxy.store.kept import Absence, Kept, Kind, Rejected, VaultUnavailable
from proxy.store.vault import Ready, Vault, VaultBounds
from tests.remote.fault_server import FaultServer, Line
from tests.s3 import S3, running_s3
from tests.store.vaults import BIG, BOUNDS, ID, MAGIC, SMALL, Feed, Place, clip, flipped, pieces

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty vault of each kind."""
    if request.param == "folder":
        return Place(None, tmp_path)
    server: S3 = request.getfixturevalue("s3")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return Place(server.create(), tmp_path, server)


@asynccontextmanager
async def opened(place: Place, bounds: VaultBounds = BOUNDS) -> AsyncIterator[Vault]:
    vault = place.open(bounds)
    try:
        async with asyncio.timeout(60):
            yield vault
    finally:
        vault.close()


async def put(vault: Vault, data: bytes, clip_id: str = ID) -> Kept:
    kept = await vault.put(clip_id, Ready(data))
    assert isinstance(kept, Kept)
    return kept


async def read(vault: Vault, kept: Kept, start: int = 0, stop: int | None = None) -> bytes:
    reader = await vault.reader(kept)
    assert isinstance(reader, Reader), reader
    with reader:
        return b"".join([chunk async for chunk in reader.chunks(start, stop)])


async def test_what_was_put_is_read_back_by_any_range(place: Place) -> None:
    async with opened(place) as vault:
        for data in (SMALL, BIG):
            kept = await vault.put(ID, Feed(pieces(data, 1, 700, 100_000), declared=len(data)))
            assert isinstance(kept, Kept)
            assert kept.size_bytes == len(data)
            spans: list[tuple[int, int | None]] = [(0, None), (0, 2), (1, 2), (12, 12), (5, 10**9)]
            spans += [(len(data) - 1, None), (len(data), None), (2**20 - 1, 2**20 + 1)]
            for start, stop in spans:
                assert await read(vault, kept, start, stop) == data[start:stop]
        assert place.parts == []


async def test_what_was_put_is_there_after_a_restart(place: Place) -> None:
    async with opened(place) as vault:
        kept = await put(vault, BIG)
    async with opened(place) as vault:
        assert await read(vault, kept) == BIG
        assert [each.kept for each in await vault.find(ID)] == [kept]
        (stored,) = [each async for each in vault.stored()]
        assert stored.kept == kept
        assert abs(datetime.now(UTC) - stored.modified) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("feed", "why"),
    [
        (Feed([SMALL], complete=False), Rejected.SHORT),
        (Feed([SMALL], declared=len(SMALL) + 1), Rejected.SHORT),
        (Feed([SMALL], declared=len(SMALL) - 1), Rejected.SHORT),
        (Feed([SMALL[:-1]], declared=len(SMALL)), Rejected.SHORT),
        (Feed([], declared=0), Rejected.WRONG_MAGIC),
        (Feed([SMALL[:11]]), Rejected.WRONG_MAGIC),
        (Feed([b"<!doctype html><html>"]), Rejected.WRONG_MAGIC),
        (Feed([b'{"url": "https://cdn.example/ftyp.mp4"}']), Rejected.WRONG_MAGIC),
        (Feed([b"x" + SMALL]), Rejected.WRONG_MAGIC),
        (Feed([clip(3000, Kind.THUMBNAIL)]), Rejected.WRONG_MAGIC),
        (Feed([clip(BOUNDS.clip_bytes_max + 1)]), Rejected.TOO_LARGE),
        (Feed([bytes(2**20)] * 9), Rejected.WRONG_MAGIC),
        (Feed([SMALL, *[bytes(2**20)] * 9]), Rejected.TOO_LARGE),
    ],
    ids=lambda value: None if isinstance(value, Feed) else value,
)
async def test_nothing_is_kept_of_what_is_no_whole_clip(
    place: Place, feed: Feed, why: Rejected
) -> None:
    async with opened(place) as vault:
        assert await vault.put(ID, feed) is why
        assert await vault.find(ID) == []
        assert place.parts == []
        assert vault.incoming(ID) is None


async def test_a_download_is_kept_if_it_came_whole(place: Place) -> None:
    lengths = [len(BIG) - 1, len(BIG)]

    async def host(line: Line) -> None:
        await line.request()
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BIG))
        await line.send(BIG[: lengths.pop(0)])
        await line.close()

    limits = Limits(open_seconds=5, stall_seconds=5, total_seconds=20, bytes_max=2**24)
    async with opened(place) as vault, FaultServer(host) as server:
        downloads = Downloads(Rules(private=True))
        outcomes = []
        for _ in range(2):
            download = await downloads.fetch(f"{server.url}/a.mp4", limits)
            assert isinstance(download, Download)
            outcomes.append(await vault.put(ID, download))
        await downloads.close()
        assert outcomes[0] is Rejected.SHORT
        assert isinstance(outcomes[1], Kept)
        assert await read(vault, outcomes[1]) == BIG


async def test_a_source_that_fails_leaves_nothing(place: Place) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield BIG
        raise ConnectionResetError

    class Breaking(Feed):
        def __aiter__(self) -> AsyncIterator[bytes]:
            return breaking()

    async with opened(place) as vault:
        with pytest.raises(ConnectionResetError):
            await vault.put(ID, Breaking([]))
        assert await vault.find(ID) == []
        assert place.parts == []


async def test_a_put_that_is_cancelled_leaves_nothing(place: Place) -> None:
    never = asyncio.Event()
    feed = Feed([BIG, BIG], before_each=lambda number: never if number else None)
    async with opened(place) as vault:
        putting = asyncio.create_task(vault.put(ID, feed))
        assert await anext(await follow(vault))
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        assert await vault.find(ID) == []
        assert place.parts == []


async def follow(vault: Vault) -> AsyncIterator[bytes]:
    """The clip as it comes in, once it does."""
    async with asyncio.timeout(10):
        while (incoming := vault.incoming(ID)) is None:  # noqa: ASYNC110 - the vault tells nobody
            await asyncio.sleep(0.001)
    return incoming.chunks()


async def gather(chunks: AsyncIterator[bytes], seen: bytearray) -> None:
    async for chunk in chunks:
        seen += chunk


async def test_a_hundred_read_what_one_fetch_writes(place: Place) -> None:
    gates = [asyncio.Event() for _ in range(8)]
    data = pieces(BIG, len(BIG) // 7)
    async with opened(place) as vault:
        putting = asyncio.create_task(
            vault.put(ID, Feed(data, before_each=lambda number: gates[number]))
        )

        async def caller() -> bytes:
            return b"".join([chunk async for chunk in await follow(vault)])

        callers = [asyncio.create_task(caller()) for _ in range(100)]
        for gate in gates:
            gate.set()
            await asyncio.sleep(0)
        assert isinstance(await putting, Kept)
        assert {await each for each in callers} == {BIG}


@pytest.mark.parametrize("feed", [Feed([BIG, BIG], complete=False), Feed([bytes(2**20)] * 3)])
async def test_who_reads_what_will_not_be_kept_is_told_so(place: Place, feed: Feed) -> None:
    gate = asyncio.Event()
    feed.before_each = lambda _: gate
    async with opened(place) as vault:
        putting = asyncio.create_task(vault.put(ID, feed))
        chunks = await follow(vault)
        gate.set()
        seen = bytearray()
        with pytest.raises(NotFinished):
            await gather(chunks, seen)
        assert isinstance(await putting, Rejected)
        assert (BIG + BIG).startswith(bytes(seen))


async def test_who_reads_along_is_told_of_an_end_only_when_the_clip_is_in_its_place(
    place: Place,
) -> None:
    gate = asyncio.Event()
    async with opened(place) as vault:
        (place.root / "clips" / ID).write_bytes(b"in the way")
        putting = asyncio.create_task(vault.put(ID, Feed([BIG], before_each=lambda _: gate)))
        chunks = await follow(vault)
        gate.set()
        seen = bytearray()
        with pytest.raises(NotFinished):
            await gather(chunks, seen)
        with pytest.raises(VaultUnavailable):
            await putting
        assert BIG.startswith(bytes(seen))


async def test_pictures_are_kept_beside_their_clip_and_go_with_it(place: Place) -> None:
    async with opened(place) as vault:
        kept = await put(vault, SMALL, "video_other")
        for kind in Kind:
            data = clip(2000, kind)
            picture = await vault.put(ID, Ready(data), kind=kind)
            assert isinstance(picture, Kept)
            assert await read(vault, picture) == data
            wrong = next(magic for other, magic in MAGIC.items() if other is not kind)
            refused = await vault.put(ID, Ready(wrong + bytes(50)), kind=kind)
            assert refused is Rejected.WRONG_MAGIC
        assert {each.kept.kind for each in await vault.find(ID)} == set(Kind)
        await vault.delete(ID)
        await vault.delete(ID)
        assert await vault.find(ID) == []
        assert [each.kept async for each in vault.stored()] == [kept]


async def test_the_same_bytes_are_kept_once_and_others_beside_them(place: Place) -> None:
    async with opened(place) as vault:
        first, again = await asyncio.gather(put(vault, BIG), put(vault, BIG))
        assert first == again
        other = await put(vault, clip(len(BIG), seed="other"))
        assert {each.kept for each in await vault.find(ID)} == {first, other}
        assert await read(vault, first) == BIG


@pytest.mark.parametrize("data", [SMALL, BIG], ids=["small", "big"])
async def test_a_flipped_bit_is_never_served(place: Place, data: bytes) -> None:
    async with opened(place) as vault:
        kept = await put(vault, data)
        for at in (0, 11, len(data) // 2, len(data) - 1):
            assert await read(vault, kept) == data
            place.overwrite(kept, flipped(data, at))
            assert await vault.reader(kept) is Absence.CORRUPT
            assert await vault.reader(kept) is Absence.MISSING
            assert await vault.find(ID) == []
            assert await put(vault, data) == kept  # fetched again, and well again
        await vault.delete(ID)
        assert not list(place.near(kept).parent.parent.iterdir())


@pytest.mark.parametrize("change", [-1, 1])
async def test_a_clip_of_another_length_is_never_served(place: Place, change: int) -> None:
    async with opened(place) as vault:
        kept = await put(vault, SMALL)
        place.overwrite(kept, (SMALL + b"x")[: len(SMALL) + change])
        assert await vault.reader(kept) is Absence.CORRUPT


async def test_a_scrub_finds_what_no_time_stamp_tells(place: Place) -> None:
    async with opened(place) as vault:
        kept = await put(vault, BIG)
        assert await vault.verify(kept) is None
        assert await read(vault, kept) == BIG
        place.overwrite(kept, flipped(BIG, 2**20))
        assert await vault.verify(kept) is Absence.CORRUPT
        assert await vault.verify(kept) is Absence.MISSING
        assert await vault.reader(kept) is Absence.MISSING


async def test_a_clip_that_leaves_is_read_to_its_end(place: Place) -> None:
    async with opened(place) as vault:
        kept = await put(vault, BIG)
        readers = [await vault.reader(kept) for _ in range(3)]
        begun = []
        for reader in readers:
            assert isinstance(reader, Reader)
            chunks = reader.chunks()
            begun.append((await anext(chunks), chunks))
        await vault.delete(ID)
        assert await vault.reader(kept) is Absence.MISSING
        for first, chunks in begun:
            assert first + b"".join([chunk async for chunk in chunks]) == BIG
        for reader in readers:
            assert isinstance(reader, Reader)
            reader.close()


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """Files of this process cannot grow beyond it: a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_disk_that_fills_up_leaves_nothing_and_recovers(place: Place) -> None:
    async with opened(place) as vault:
        with file_size_limit(2**20), pytest.raises(VaultUnavailable):
            await vault.put(ID, Feed(pieces(BIG, 50_000)))
        assert place.parts == []
        assert await vault.find(ID) == []
        assert await read(vault, await put(vault, BIG)) == BIG


async def test_nothing_is_begun_that_would_fill_the_disk(place: Place) -> None:
    asked = False

    def ask(_: int) -> None:
        nonlocal asked
        asked = True

    async with opened(place) as vault:
        with pytest.raises(VaultUnavailable):
            await vault.put(ID, Feed([SMALL], declared=2**60, before_each=ask))
    assert not asked
    assert place.parts == []


@pytest.mark.parametrize("clip_id", ["", ".", "..", "../x", "a/b", "/etc", "a\x00b", "a" * 65])
async def test_an_id_never_leads_out_of_the_vault(place: Place, clip_id: str) -> None:
    async with opened(place) as vault:
        for deed in (vault.put(clip_id, Ready(SMALL)), vault.delete(clip_id), vault.find(clip_id)):
            with pytest.raises(ValueError, match="not a clip's id"):
                await deed


async def test_a_probe_keeps_nothing(place: Place) -> None:
    async with opened(place) as vault:
        await vault.probe()
        assert place.parts == []
        assert [each async for each in vault.stored()] == []


async def test_a_sweep_spares_what_somebody_still_writes(place: Place) -> None:
    gate = asyncio.Event()
    feed = Feed([BIG, b""], before_each=lambda number: gate if number else None)
    async with opened(place) as vault:
        (place.root / "incoming" / "left.part").write_bytes(SMALL)
        putting = asyncio.create_task(vault.put(ID, feed))
        await anext(await follow(vault))
        assert await vault.sweep() == 1
        assert len(place.parts) == 1
        gate.set()
        kept = await putting
        assert isinstance(kept, Kept)
        assert await read(vault, kept) == BIG
        assert await vault.sweep() == 0


async def test_a_signed_link_leads_into_a_bucket_alone(place: Place) -> None:
    async with opened(place) as vault:
        kept = await put(vault, BIG)
        link = await vault.signed_url(kept, timedelta(days=1))
        if place.s3 is None:
            assert link is None
        else:
            assert link is not None
            assert "X-Amz-Expires=300&" in link
            assert place.s3.send("GET", link.removeprefix(f"{place.s3.endpoint}/")) == BIG


def die_at_every_step(place: Place, folder: Path) -> list[str]:
    """Let `killed.py` die one step later each time, until it is through; the steps."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.store.killed", place.url or "-", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *steps, last = done.stdout.split("\n")[:-1]
    assert last == "done"
    return steps


async def test_a_process_killed_at_any_step_leaves_all_or_nothing(
    place: Place, tmp_path: Path
) -> None:
    steps = die_at_every_step(place, tmp_path)
    kept_after = [False] * len(steps)
    for number in range(len(steps)):
        here = Place(place.url and f"{place.url}/{number}", tmp_path / str(number), place.s3)
        async with opened(here) as vault:
            left = len(here.parts)
            assert await vault.sweep() == left
            found = await vault.find(ID)
            kept_after[number] = bool(found)
            for each in found:
                assert await read(vault, each.kept) == BIG
            assert here.parts == []
            assert await read(vault, await put(vault, BIG)) == BIG
    assert (kept_after[0], kept_after[-1]) == (False, True)
    assert kept_after == sorted(kept_after)  # once it is there it stays there
    order = [step for step in steps if step.startswith(("write", "fsync", "rename"))]
    assert order[-4:] == ["fsync file", "rename", "fsync folder", "fsync folder"]
    assert set(order[:-4]) == {"write"}


async def test_a_folder_may_stand_anywhere(tmp_path: Path) -> None:
    vault = Vault.open(f"file://{tmp_path}/my%20clips", tmp_path / "data", BOUNDS)
    kept = await put(vault, SMALL)
    assert (tmp_path / "my clips" / "clips" / kept.key).stat().st_size == len(SMALL)
    assert not (tmp_path / "data").exists()
    vault.close()


def test_a_folder_of_another_host_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="file:///folder"):
        Vault.open("file://host/folder", tmp_path, BOUNDS)
