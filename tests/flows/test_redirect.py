"""Callers are sent to the bucket only for what is there: the very bytes that were kept."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from proxy.flows.redirect import RECHECK_SECONDS
from proxy.store.kept import Kept, Kind
from tests.archiving import Shifted
from tests.clip_host import ClipHost, content, delivered, fetch, hosting, keeping, kept
from tests.running import Answer, Running
from tests.s3 import S3
from tests.store.vaults import clip as film
from tests.store.vaults import flipped

DATA = film(300_000)


@asynccontextmanager
async def redirecting(tmp_path: Path, bucket: str) -> AsyncIterator[tuple[Running, ClipHost, Kept]]:
    """A proxy that sends callers on, and a clip in its bucket."""
    async with hosting(tmp_path, bucket, vault={"redirect": True}) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(DATA)))
        of = Kept(made, Kind.CLIP, hashlib.sha256(DATA).hexdigest(), len(DATA))
        yield proxy, host, of


async def followed(answer: Answer, s3: S3) -> bytes:
    """The bytes that a caller gets who goes where it is sent, if anywhere."""
    if answer.status != 302:
        assert answer.status == 200
        return answer.body
    return (await asyncio.to_thread(s3.get, answer.headers["location"]))[1]


def path_of(bucket: str, clip: Kept) -> str:
    return f"{bucket.removeprefix('s3://')}/{clip.key}"


async def test_nobody_is_sent_to_bytes_that_are_not_the_clip(
    tmp_path: Path, bucket: str, s3: S3
) -> None:
    async with redirecting(tmp_path, bucket) as (proxy, host, clip):
        damaged = flipped(DATA, 1000)
        await asyncio.to_thread(s3.send, "PUT", path_of(bucket, clip), damaged)
        for _ in range(3):
            assert await followed(await fetch(proxy, content(clip.clip_id)), s3) == DATA
        await kept(proxy, clip.clip_id)
        assert await keeping(proxy, clip.clip_id) == "kept"
        assert await followed(await fetch(proxy, content(clip.clip_id)), s3) == DATA
        assert host.asked == 2


async def test_a_clip_is_checked_before_the_first_is_sent_and_then_once_in_a_while(
    tmp_path: Path, bucket: str, s3: S3
) -> None:
    async with redirecting(tmp_path, bucket) as (proxy, _, clip):
        clock = proxy.house.clock = Shifted(proxy.house.clock)
        before = s3.count("GET", clip.name)
        asked = [fetch(proxy, content(clip.clip_id)) for _ in range(20)]
        assert {answer.status for answer in await asyncio.gather(*asked)} == {302}
        assert s3.count("GET", clip.name) == before + 1
        clock.seconds = RECHECK_SECONDS + 1
        assert (await fetch(proxy, content(clip.clip_id))).status == 302
        assert s3.count("GET", clip.name) == before + 2


async def test_a_bucket_that_is_away_is_no_place_to_be_sent_to(
    tmp_path: Path, bucket: str, s3: S3
) -> None:
    async with redirecting(tmp_path, bucket) as (proxy, host, clip):
        await asyncio.to_thread(s3.drop, bucket)
        answer = await fetch(proxy, content(clip.clip_id))
        # The copy that is near, or the vendor's bytes.
        assert (answer.status, answer.body) == (200, DATA)
        assert host.asked >= 1
