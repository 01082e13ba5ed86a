"""Which bytes callers get while a clip comes in, is damaged, cannot be kept, or does not come."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.store.kept import Kept, Kind
from proxy.store.vault import Ready
from tests import archiving
from tests.clip_host import content, delivered, fetch, hosting, keeping, kept
from tests.running import Running, read, until
from tests.store.vaults import Place, flipped
from tests.store.vaults import clip as film

DATA = film(1_500_000)
HALF = 700_000


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, vault_url: str | None) -> Place:
    """An empty vault of each kind."""
    server = None if vault_url is None else request.getfixturevalue("s3")
    return Place(vault_url, tmp_path, server)


@asynccontextmanager
async def asking(
    proxy: Running, clip_id: str, **headers: str
) -> AsyncIterator[aiohttp.ClientResponse]:
    """GET the clip; the answer's head has come."""
    named = {"authorization": f"Bearer {proxy.key}", **headers}
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(proxy.url + content(clip_id), headers=named) as response,
    ):
        yield response


def kept_of(clip_id: str, data: bytes = DATA) -> Kept:
    return Kept(clip_id, Kind.CLIP, hashlib.sha256(data).hexdigest(), len(data))


@pytest.mark.parametrize("states_length", [True, False], ids=["of known length", "in chunks"])
async def test_a_clip_is_given_out_while_it_still_comes_in(
    place: Place, states_length: bool
) -> None:
    async with hosting(place.data_dir, place.url) as (proxy, host):
        host.gate, host.gate_at, host.states_length = asyncio.Event(), HALF, states_length
        made = await delivered(proxy, host.link(DATA))
        async with asking(proxy, made) as response:
            first = await response.content.readexactly(1000)
            assert (response.status, first) == (200, DATA[:1000])
            assert response.headers.get("content-length") == (
                str(len(DATA)) if states_length else None
            )
            assert response.headers["cache-status"] == "clipmeter; fwd=uri-miss; collapsed"
            # It may break off yet, so nobody is to keep it or to compare it with anything.
            assert response.headers["cache-control"] == "no-store"
            assert not {"etag", "last-modified", "accept-ranges"} & set(response.headers)
            head = await fetch(proxy, content(made), "HEAD")
            assert head.headers.get("content-length") == response.headers.get("content-length")
            assert await keeping(proxy, made) == "waiting"
            host.gate.set()
            assert first + await response.read() == DATA
        assert host.asked == 1


async def test_a_hundred_who_come_early_share_one_fetch(place: Place) -> None:
    async with hosting(place.data_dir, place.url) as (proxy, host):
        host.gate, host.gate_at = asyncio.Event(), HALF
        made = await delivered(proxy, host.link(DATA))
        reading: list[int] = []

        async def read_all() -> bytes:
            async with asking(proxy, made) as response:
                first = await response.content.readexactly(1000)
                reading.append(response.status)
                return first + await response.read()

        asked = [asyncio.create_task(read_all()) for _ in range(100)]
        await until(lambda: len(reading) == 100)
        host.gate.set()
        assert {await each == DATA for each in asked} == {True}
        assert set(reading) == {200}
        assert host.asked == 1
        assert (await fetch(proxy, content(await kept(proxy, made)))).body == DATA
        assert host.asked == 1


async def test_browsers_that_begin_at_the_first_byte_are_served_at_once(tmp_path: Path) -> None:
    async with hosting(tmp_path) as (proxy, host):
        host.gate, host.gate_at = asyncio.Event(), HALF
        made = await delivered(proxy, host.link(DATA))
        async with asking(proxy, made, range="bytes=0-") as response:
            assert response.status == 200
            assert await response.content.readexactly(1000) == DATA[:1000]
            host.gate.set()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"range": "bytes=0-1"}, 206),
        ({"range": "bytes=-5"}, 206),
        ({"if-none-match": f'"{hashlib.sha256(DATA).hexdigest()}"'}, 304),
        ({"if-match": '"x"'}, 412),
    ],
    ids=lambda value: (
        "" if isinstance(value, int) else next(iter(value.items()))[0] + str(value)[-6:]
    ),
)
async def test_a_part_or_a_version_is_decided_when_the_clip_is_whole(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    async with hosting(tmp_path) as (proxy, host):
        host.gate, host.gate_at = asyncio.Event(), HALF
        made = await delivered(proxy, host.link(DATA))
        asked = asyncio.create_task(fetch(proxy, content(made), **headers))
        await until(lambda: proxy.house.vault.incoming(made) is not None)
        done, _ = await asyncio.wait([asked], timeout=0.1)
        assert not done
        host.gate.set()
        assert (await asked).status == status
        assert host.asked == 1


async def test_what_breaks_off_on_its_way_in_looks_broken(tmp_path: Path) -> None:
    async with hosting(tmp_path) as (proxy, host):
        host.gate, host.gate_at, host.cut_at = asyncio.Event(), HALF, HALF
        for states_length in (True, False):
            host.states_length = states_length
            made = await delivered(proxy, host.link(DATA))
            async with asking(proxy, made) as response:
                assert response.status == 200
                await response.content.readexactly(1000)
                host.gate.set()
                assert (await read(response)).broken
            host.gate.clear()
            assert await proxy.house.vault.find(made) == []


async def test_one_who_waits_in_vain_is_told_when_to_come_again(tmp_path: Path) -> None:
    async with hosting(tmp_path, limits={"content_wait_seconds_max": 0.5}) as (proxy, host):
        host.status = 500
        made = await delivered(proxy, host.link(DATA))
        answer = await fetch(proxy, content(made))
        answer.assert_error(502, "upstream_unavailable", retry=True)
        assert int(answer.headers["retry-after"]) >= 1
        # Silent from the start, until nobody waits any more.
        host.status, host.gate = 200, asyncio.Event()
        silent = await delivered(proxy, host.link(DATA))
        for headers in ({}, {"range": "bytes=0-1"}):
            answer = await fetch(proxy, content(silent), **headers)
            answer.assert_error(502, "upstream_unavailable", retry=True)
        host.gate.set()
        assert (await fetch(proxy, content(await kept(proxy, silent)))).body == DATA


async def test_a_clip_that_another_process_keeps_is_found(tmp_path: Path) -> None:
    async with hosting(tmp_path) as (proxy, host):
        host.status = 500
        made = await delivered(proxy, host.link(DATA))
        await until(lambda: host.asked == 1)
        asked = asyncio.create_task(fetch(proxy, content(made)))
        got = await proxy.house.vault.put(made, Ready(DATA))
        assert isinstance(got, Kept)
        row = f"sha256 = '{got.sha256}', size_bytes = {got.size_bytes}"
        at = "kept_at = '2026-11-22 12:00:00.000000'"
        change = f"UPDATE keepings SET state = 'kept', {row}, {at} WHERE clip_id = '{made}'"
        await proxy.house.database.write(lambda tx: tx.exec_driver_sql(change))
        assert (await asked).body == DATA


async def test_those_who_wait_do_not_ask_in_circles_for_what_another_process_keeps(
    tmp_path: Path,
) -> None:
    class Counted:
        def __init__(self, database: Any) -> None:
            self.database, self.reads = database, 0
            self.write = database.write

        async def read(self, fn: Any) -> Any:
            self.reads += 1
            return await self.database.read(fn)

    limits = {"video_memory_seconds": 4}
    async with archiving.keeping(tmp_path, limits=limits) as desk:
        desk.hold()
        made, house = await desk.deliver(), desk.proxy.house
        ((tenant_id,),) = await desk.proxy.rows("SELECT tenant_id FROM clips")
        house.database = counted = Counted(house.database)  # type: ignore[assignment]
        asked = [asyncio.create_task(fetch(desk.proxy, content(made))) for _ in range(10)]
        await until(lambda: counted.reads >= 11)
        got = await house.vault.put(made, Ready(archiving.MP4))
        assert isinstance(got, Kept)
        # Somebody polls, so that it is remembered as waiting.
        house.standings.forget(made)
        assert await house.standings.find(tenant_id, made)
        before = counted.reads
        row = f"sha256 = '{got.sha256}', size_bytes = {got.size_bytes}"
        at = "kept_at = '2026-11-22 12:00:00.000000'"
        await desk.change(
            f"UPDATE keepings SET state = 'kept', {row}, {at} WHERE clip_id = '{made}'"
        )
        assert {(await each).body for each in asked} == {archiving.MP4}
        assert counted.reads - before < 100


async def test_damaged_bytes_are_never_given_out_and_are_fetched_again(place: Place) -> None:
    async with hosting(place.data_dir, place.url) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(DATA)))
        for number, damage in enumerate(
            (flipped(DATA, 900_000), DATA[:-1], DATA + b"x", b"", film(len(DATA), seed="other"))
        ):
            await asyncio.to_thread(place.overwrite, kept_of(made), damage)
            answer = await fetch(proxy, content(made))
            assert (answer.status, answer.body) == (200, DATA)
            await kept(proxy, made)
            part = await fetch(proxy, content(made), range="bytes=900000-900001")
            assert (part.status, part.body) == (206, DATA[900_000:900_002])
            assert host.asked == number + 2


async def test_damaged_bytes_whose_link_is_dead_are_gone(place: Place) -> None:
    async with hosting(place.data_dir, place.url) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(DATA)))
        dead = "UPDATE keepings SET link_dies_at = '2026-01-01 00:00:00.000000'"
        await proxy.house.database.write(lambda tx: tx.exec_driver_sql(dead))
        await asyncio.to_thread(place.overwrite, kept_of(made), flipped(DATA, 5))
        (await fetch(proxy, content(made))).assert_error(410, "video_expired")
        assert await keeping(proxy, made) == "lost"
        assert host.asked == 1


async def test_kept_bytes_that_somebody_took_away_are_fetched_again(tmp_path: Path) -> None:
    async with hosting(tmp_path) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(DATA)))
        await proxy.house.vault.delete(made)
        assert (await fetch(proxy, content(made))).body == DATA
        assert host.asked == 2


def fill(place: Place) -> None:
    """Leave no room for anything new."""
    incoming = place.root / "incoming"
    shutil.rmtree(incoming)
    incoming.write_bytes(b"")


def make_room(place: Place) -> None:
    incoming = place.root / "incoming"
    incoming.unlink()
    incoming.mkdir()


async def test_where_nothing_can_be_kept_the_vendors_bytes_are_passed_on(place: Place) -> None:
    async with hosting(place.data_dir, place.url) as (proxy, host):
        fill(place)
        made = await delivered(proxy, host.link(DATA))
        for headers in ({}, {"range": "bytes=5-"}):
            answer = await fetch(proxy, content(made), **headers)
            assert (answer.status, answer.body) == (200, DATA)
            assert answer.headers["content-length"] == str(len(DATA))
            assert answer.headers["cache-status"] == "clipmeter; fwd=uri-miss"
            assert answer.headers["cache-control"] == "no-store"
            assert "etag" not in answer.headers
        head = await fetch(proxy, content(made), "HEAD")
        assert (head.status, head.headers["content-length"]) == (200, str(len(DATA)))
        picture = await fetch(proxy, content(made, "variant=thumbnail"))
        picture.assert_error(503, "vault_unavailable", retry=True)
        assert await keeping(proxy, made) == "waiting"
        make_room(place)
        assert (await fetch(proxy, content(await kept(proxy, made)))).headers["etag"]


async def test_what_is_passed_on_is_a_clip_and_looks_broken_if_it_breaks(tmp_path: Path) -> None:
    place = Place(None, tmp_path)
    async with hosting(tmp_path) as (proxy, host):
        fill(place)
        page = await delivered(proxy, host.link(b"<html>" + bytes(5000), "page.html"))
        answer = await fetch(proxy, content(page))
        answer.assert_error(502, "upstream_unavailable", retry=True)
        made = await delivered(proxy, host.link(DATA))
        assert (await fetch(proxy, content(made))).body == DATA
        host.cut_at = HALF
        broken = await fetch(proxy, content(made))
        assert (broken.status, broken.broken) == (200, True)
        assert DATA.startswith(broken.body)
        host.cut_at, host.status = None, 500
        (await fetch(proxy, content(made))).assert_error(502, "upstream_unavailable", retry=True)


async def test_so_many_at_once_are_passed_on_and_no_more(tmp_path: Path) -> None:
    limits = {"downloads_in_flight_max": 2, "content_wait_seconds_max": 1}
    async with hosting(tmp_path, limits=limits) as (proxy, host):
        fill(Place(None, tmp_path))
        made = await delivered(proxy, host.link(DATA))
        assert (await fetch(proxy, content(made))).body == DATA
        host.gate, host.gate_at = asyncio.Event(), HALF
        asked = [asyncio.create_task(fetch(proxy, content(made))) for _ in range(3)]
        done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        done.pop().result().assert_error(502, "upstream_unavailable", retry=True)
        host.gate.set()
        assert [(await each).body == DATA for each in waiting] == [True, True]
        host.gate = None
        assert (await fetch(proxy, content(made))).body == DATA


async def test_a_kept_clip_that_cannot_be_read_comes_from_the_vendor_while_it_has_it(
    place: Place,
) -> None:
    async with hosting(place.data_dir, place.url) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(DATA)))
        clips = place.root / "clips"
        if place.s3 is not None:
            shutil.rmtree(clips / made)  # the copy that is near
        clips.rename(clips.with_name("away"))
        clips.write_bytes(b"")
        if place.s3 is not None:
            fill(place)
        answer = await fetch(proxy, content(made))
        assert (answer.status, answer.body) == (200, DATA)
        assert answer.headers["cache-status"] == "clipmeter; fwd=uri-miss"
        dead = "UPDATE keepings SET link_dies_at = '2026-01-01 00:00:00.000000'"
        await proxy.house.database.write(lambda tx: tx.exec_driver_sql(dead))
        proxy.house.standings.forget(made)
        answer = await fetch(proxy, content(made))
        answer.assert_error(503, "vault_unavailable", retry=True)
        assert await keeping(proxy, made) == "kept"
        clips.unlink()
        clips.with_name("away").rename(clips)
