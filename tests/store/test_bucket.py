"""A bucket that is away, slow, cut off or tampered with costs time, never a wrong byte."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from proxy.store.bucket import Bucket
from proxy.store.held import Reader
from proxy.store.kept import Absence, Kept, Kind, VaultUnavailable
from proxy.store.vault import Ready, Vault, VaultBounds
from tests.remote.fault_server import Fault, FaultServer, Line
from tests.s3 import S3, running_s3
from tests.store.vaults import BIG, BOUNDS, ID, SMALL, Place, clip, flipped

ROOT = Path(__file__).parent.parent.parent
LARGE = 48 * 2**20
"""So much that it is sent in parts."""

SENDS_A_LARGE_ONE = f"""
import asyncio, sys
from pathlib import Path
from proxy.store.vault import Ready, Vault
from tests.store.vaults import ID, clip
vault = Vault.open(sys.argv[1], Path(sys.argv[2]))
asyncio.run(vault.put(ID, Ready(clip({LARGE}))))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture
def place(s3: S3, tmp_path: Path) -> Place:
    return Place(s3.create(), tmp_path, s3)


@pytest.fixture
def vault(place: Place) -> Iterator[Vault]:
    vault = place.open()
    yield vault
    vault.close()


async def put(vault: Vault, data: bytes, clip_id: str = ID) -> Kept:
    kept = await vault.put(clip_id, Ready(data))
    assert isinstance(kept, Kept)
    return kept


async def read(vault: Vault, kept: Kept) -> bytes | Absence:
    reader = await vault.reader(kept)
    if isinstance(reader, Absence):
        return reader
    with reader:
        return b"".join([chunk async for chunk in reader.chunks()])


async def test_a_clip_that_was_just_put_is_not_fetched_back(
    vault: Vault, place: Place, s3: S3
) -> None:
    kept = await put(vault, BIG)
    assert await read(vault, kept) == BIG
    assert s3.count("GET", place.object(kept)) == 0


async def test_a_hundred_readers_are_one_fetch(place: Place, s3: S3, tmp_path: Path) -> None:
    vault = place.open()
    kept = await put(vault, BIG)
    vault.close()
    elsewhere = Place(place.url, tmp_path / "another replica", s3).open()
    assert set(await asyncio.gather(*(read(elsewhere, kept) for _ in range(100)))) == {BIG}
    assert s3.count("GET", place.object(kept)) == 1
    elsewhere.close()


async def test_a_spoilt_copy_is_fetched_again(vault: Vault, place: Place, s3: S3) -> None:
    kept = await put(vault, BIG)
    place.near(kept).write_bytes(flipped(BIG, 7))
    assert await read(vault, kept) == BIG
    assert s3.count("GET", place.object(kept)) == 1


async def test_copies_take_no_more_room_than_they_may(place: Place) -> None:
    vault = place.open(VaultBounds(clip_bytes_max=2**20, free_bytes_min=0, near_bytes_max=2500))
    clips = [clip(1000, seed=str(number)) for number in range(6)]
    kept = [await put(vault, data, f"video_{number}") for number, data in enumerate(clips)]
    for _ in range(2):
        assert [await read(vault, each) for each in kept] == clips
        assert len(list((place.root / "clips").iterdir())) == 2
    large = await put(vault, clip(9000), "video_large")
    assert await read(vault, large) == clip(9000)
    vault.close()


async def test_a_signed_link_says_what_it_leads_to(vault: Vault, s3: S3) -> None:
    for kind in Kind:
        kept = await vault.put(ID, Ready(clip(100, kind)), kind=kind)
        assert isinstance(kept, Kept)
        link = await vault.signed_url(kept, timedelta(seconds=60))
        assert link is not None
        assert "X-Amz-Expires=60&" in link
        headers, body = s3.get(link)
        assert body == clip(100, kind)
        assert headers["content-type"] == kind.content_type
        assert headers["cache-control"] == "private, max-age=31536000, immutable"


async def test_what_is_set_aside_goes_with_its_clip(vault: Vault, place: Place, s3: S3) -> None:
    kept = await put(vault, SMALL)
    place.overwrite(kept, flipped(SMALL, 0))
    assert await vault.reader(kept) is Absence.CORRUPT
    assert place.url is not None
    bucket, _, folder = place.url.removeprefix("s3://").partition("/")
    listing = f"{bucket}?list-type=2&prefix={folder}"
    assert b".mp4.corrupt</Key>" in s3.send("GET", listing)
    await vault.delete(ID)
    assert b"<Key>" not in s3.send("GET", listing)


async def test_a_sweep_forgets_copies_of_what_another_replica_deleted(
    vault: Vault, place: Place, s3: S3, tmp_path: Path
) -> None:
    gone, stays = await put(vault, BIG), await put(vault, SMALL, "video_stays")
    reader = await vault.reader(gone)
    assert isinstance(reader, Reader)
    elsewhere = Place(place.url, tmp_path / "another replica", s3).open()
    await elsewhere.delete(ID)
    elsewhere.close()
    assert await vault.sweep() == 1
    assert not place.near(gone).exists()
    assert await read(vault, gone) is Absence.MISSING
    assert await read(vault, stays) == SMALL
    assert b"".join([chunk async for chunk in reader.chunks()]) == BIG
    reader.close()


async def test_another_prefix_is_another_vault(vault: Vault, place: Place, tmp_path: Path) -> None:
    kept = await put(vault, SMALL)
    other = Place(f"{place.url}-other", tmp_path / "other", place.s3).open()
    assert [each async for each in other.stored()] == []
    assert await other.reader(kept) is Absence.MISSING
    await other.delete(ID)
    assert [each.kept async for each in vault.stored()] == [kept]
    other.close()


async def test_a_process_killed_while_it_sends_leaves_all_or_nothing(
    vault: Vault, place: Place, s3: S3, tmp_path: Path
) -> None:
    folder = tmp_path / "child"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SENDS_A_LARGE_ONE, str(place.url), str(folder), cwd=ROOT
    )
    async with asyncio.timeout(30):
        while "partNumber=" not in s3.log and process.returncode is None:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
    for each in await vault.find(ID):
        assert await read(vault, each.kept) == clip(LARGE)


async def cut(line: Line) -> None:
    """Promise a clip, and break off in the middle of it."""
    await line.request()
    await line.send(
        b'HTTP/1.1 200 OK\r\nContent-Length: 3000\r\nETag: "a"\r\n'
        b"Last-Modified: Sun, 22 Nov 2026 00:00:00 GMT\r\n\r\n" + SMALL[:1500]
    )
    await line.close()


async def unwell(line: Line) -> None:
    await line.request()
    await line.send(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
    await line.close()


@pytest.mark.parametrize("fault", [cut, unwell], ids=["cut", "unwell"])
async def test_a_bucket_that_fails_gives_no_byte(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    kept = Kept(ID, Kind.CLIP, "0" * 64, 3000)
    async with FaultServer(fault) as broken:
        monkeypatch.setenv("AWS_ENDPOINT_URL", broken.url)
        vault = Vault.open("s3://clips/x", tmp_path, BOUNDS)
        with pytest.raises(VaultUnavailable):
            await vault.reader(kept)
        assert list((tmp_path / "near" / "incoming").iterdir()) == []
        assert list((tmp_path / "near" / "clips").iterdir()) == []
        vault.close()


async def test_a_bucket_that_is_away_is_said_so(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def every_page(bucket: Bucket) -> None:
        assert [each async for each in bucket.stored()] == []

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    vault = Vault.open("s3://clips/x", tmp_path, BOUNDS)
    bucket = Bucket("s3://clips/x")
    kept = Kept(ID, Kind.CLIP, "0" * 64, 10)
    deeds = (
        vault.put(ID, Ready(SMALL)),
        vault.reader(kept),
        vault.verify(kept),
        vault.find(ID),
        vault.delete(ID),
        vault.probe(),
        every_page(bucket),
        bucket.set_aside(kept),
    )
    for outcome in await asyncio.gather(*deeds, return_exceptions=True):
        assert isinstance(outcome, VaultUnavailable), outcome
    assert list((tmp_path / "near" / "incoming").iterdir()) == []
    vault.close()


async def test_a_bucket_that_does_not_exist_is_found_out_by_a_probe(s3: S3, tmp_path: Path) -> None:
    vault = Vault.open("s3://nobody-made-this/x", tmp_path, BOUNDS)
    with pytest.raises(VaultUnavailable) as trouble:
        await vault.probe()
    assert "404" in str(trouble.value)
    assert "<" not in str(trouble.value)
    vault.close()


async def test_nothing_can_be_put_into_a_bucket_that_does_not_exist(s3: S3, tmp_path: Path) -> None:
    vault = Vault.open("s3://nobody-made-this/x", tmp_path, BOUNDS)
    for deed in (vault.put(ID, Ready(SMALL)), vault.set_mark("vault_1")):
        with pytest.raises(VaultUnavailable):
            await deed
    assert await vault.mark() is None
    vault.close()


async def test_plain_http_needs_the_operators_leave(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    vault = Vault.open(s3.create(), tmp_path, BOUNDS)
    with pytest.raises(VaultUnavailable):
        await vault.put(ID, Ready(SMALL))
    vault.close()


async def test_a_copy_outlives_its_bucket(vault: Vault, place: Place) -> None:
    kept = await put(vault, BIG)
    reader = await vault.reader(kept)
    assert isinstance(reader, Reader)
    await vault.delete(ID)
    assert b"".join([chunk async for chunk in reader.chunks()]) == BIG
    reader.close()
    assert not place.near(kept).exists()
