"""A clip's pictures are made once, whoever asks and however many, and are kept beside it."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from proxy.files.thumbnail import spritesheet, thumbnail
from proxy.store.kept import Kind
from tests.clip_host import content, delivered, fetch, hosting, kept
from tests.files.test_thumbnail import film
from tests.running import Running, until
from tests.store.vaults import Place, flipped
from tests.store.vaults import clip as noise

CLIP = film(320, 180, 48)
SLOW = film(640, 360, 240)
OTHER = bytes([9]) * 32
THUMBNAIL = "variant=thumbnail"
SHEET = "variant=spritesheet"


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, vault_url: str | None) -> Place:
    """An empty vault of each kind."""
    server = None if vault_url is None else request.getfixturevalue("s3")
    return Place(vault_url, tmp_path, server)


async def pictures(proxy: Running, clip_id: str) -> dict[Kind, str]:
    """What is kept of the clip beside itself: its pictures' names."""
    found = await proxy.house.vault.find(clip_id)
    return {one.kept.kind: one.kept.name for one in found if one.kept.kind is not Kind.CLIP}


async def test_a_picture_is_served_like_a_clip(place: Place) -> None:
    async with hosting(place.data_dir, place.url) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(CLIP)))
        clip = await fetch(proxy, content(made))
        for query, kind, expected in (
            (THUMBNAIL, Kind.THUMBNAIL, thumbnail(CLIP)),
            (SHEET, Kind.SPRITESHEET, spritesheet(CLIP)),
        ):
            answer = await fetch(proxy, content(made, query))
            assert (answer.status, answer.body) == (200, expected)
            headers = answer.headers
            assert headers["content-type"] == kind.content_type
            assert headers["etag"] == f'"{hashlib.sha256(expected).hexdigest()}"'
            assert headers["last-modified"] == clip.headers["last-modified"]
            assert headers["content-disposition"] == f'inline; filename="{made}.{kind.suffix}"'
            assert headers["cache-control"] == clip.headers["cache-control"]
            part = await fetch(proxy, content(made, query), range="bytes=-4")
            assert (part.status, part.body) == (206, expected[-4:])
            known = {"if-none-match": headers["etag"]}
            assert (await fetch(proxy, content(made, query), **known)).status == 304
            head = await fetch(proxy, content(made, query), "HEAD")
            assert (head.body, head.headers["etag"]) == (b"", headers["etag"])
        assert set(await pictures(proxy, made)) == {Kind.THUMBNAIL, Kind.SPRITESHEET}


async def test_a_hundred_who_ask_at_once_share_one_making(tmp_path: Path) -> None:
    async with hosting(tmp_path) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(SLOW)))
        asked = [
            asyncio.create_task(fetch(proxy, content(made, query)))
            for query in (THUMBNAIL, SHEET) * 50
        ]
        making: set[str] = set()
        while not all(each.done() for each in asked):
            names = [name for name in proxy.house.background.names() if made in name]
            assert len(names) == len(set(names)) <= 2
            making.update(names)
            await asyncio.sleep(0)
        assert making == {f"thumbnail {made}", f"spritesheet {made}"}
        answers = [each.result() for each in asked]
        assert {answer.status for answer in answers} == {200}
        assert len({answer.body for answer in answers}) == 2


async def test_a_picture_is_found_again_after_a_restart(place: Place) -> None:
    async with hosting(place.data_dir, place.url) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(CLIP)))
        body = (await fetch(proxy, content(made, THUMBNAIL))).body
        stored = await proxy.house.vault.find(made)
        key = proxy.key
    async with hosting(place.data_dir, place.url, seed=OTHER) as (proxy, host):
        assert (await fetch(proxy, content(made, THUMBNAIL), key=key)).body == body
        assert await proxy.house.vault.find(made) == stored


async def test_a_damaged_picture_is_made_again(place: Place) -> None:
    async with hosting(place.data_dir, place.url) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(CLIP)))
        body = (await fetch(proxy, content(made, THUMBNAIL))).body
        found = await proxy.house.vault.find(made)
        (picture,) = [each.kept for each in found if each.kept.kind is Kind.THUMBNAIL]
        await asyncio.to_thread(place.overwrite, picture, flipped(body, 100))
        assert (await fetch(proxy, content(made, THUMBNAIL))).body == body
        assert set(await pictures(proxy, made)) == {Kind.THUMBNAIL}
        assert (await fetch(proxy, content(made))).body == CLIP


async def test_a_picture_is_made_for_those_who_come_while_the_clip_is_fetched(
    tmp_path: Path,
) -> None:
    async with hosting(tmp_path) as (proxy, host):
        host.gate = asyncio.Event()
        made = await delivered(proxy, host.link(CLIP))
        asked = asyncio.create_task(fetch(proxy, content(made, THUMBNAIL)))
        await until(lambda: host.asked == 1)
        host.gate.set()
        assert (await asked).body == thumbnail(CLIP)
        assert host.asked == 1


async def test_what_cannot_be_decoded_has_no_pictures_and_is_told_so(tmp_path: Path) -> None:
    async with hosting(tmp_path) as (proxy, host):
        data = noise(50_000)
        made = await kept(proxy, await delivered(proxy, host.link(data)))
        for query in (THUMBNAIL, SHEET, THUMBNAIL):
            (await fetch(proxy, content(made, query))).assert_error(409, "picture_failed")
        assert await pictures(proxy, made) == {}
        assert (await fetch(proxy, content(made))).body == data


async def test_too_many_pictures_at_once_are_refused_until_there_is_room(tmp_path: Path) -> None:
    async with hosting(tmp_path, limits={"pictures_waiting_max": 2}) as (proxy, host):
        made = [await kept(proxy, await delivered(proxy, host.link(SLOW))) for _ in range(6)]
        answers = await asyncio.gather(*(fetch(proxy, content(each, SHEET)) for each in made))
        refused = [answer for answer in answers if answer.status != 200]
        assert 1 <= len(refused) <= 4
        for answer in refused:
            answer.assert_error(429, "rate_limit_exceeded", retry=True)
            assert "pictures_waiting_max" in answer.error["message"]
        for each in made:
            assert (await fetch(proxy, content(each, SHEET))).status == 200


async def test_a_caller_who_leaves_has_the_picture_made_for_the_next(tmp_path: Path) -> None:
    async with hosting(tmp_path) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(SLOW)))
        asked = asyncio.create_task(fetch(proxy, content(made, SHEET)))
        await until(lambda: f"spritesheet {made}" in proxy.house.background.names())
        asked.cancel()
        await until(lambda: f"spritesheet {made}" not in proxy.house.background.names())
        assert set(await pictures(proxy, made)) == {Kind.SPRITESHEET}


async def test_the_pictures_of_a_deleted_clip_are_gone_with_it(tmp_path: Path) -> None:
    async with hosting(tmp_path) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(CLIP)))
        assert (await fetch(proxy, content(made, THUMBNAIL))).status == 200
        assert (await fetch(proxy, f"/v1/videos/{made}", "DELETE")).status == 200
        (await fetch(proxy, content(made, THUMBNAIL))).assert_error(404, "video_not_found")
        await until(lambda: len(proxy.house.background) == 0)
        assert await proxy.house.vault.find(made) == []
