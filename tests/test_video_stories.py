"""What teams do with videos, with the SDKs they have: create, wait, list, download, delete."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from pathlib import Path
from typing import Any

import openai
import pytest

from proxy.sandbox import Sandbox
from proxy.sandbox.render import stamped
from tests.core.test_images import png
from tests.running import Running
from tests.test_stories import a_team, bytes_of, messages, node

# OpenAI's own service is closed; its SDK says so, and works with whoever speaks its protocol.
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

QUICK = "[[seconds 0.3]]"
FOLLOW = {"poll_seconds": 0.2}
VAULT = {"download_private": True}


def a_film_team(tmp_path: Path, **groups: Any) -> Any:
    """A team, a follower that asks often, and a vault that may fetch from this machine."""
    return a_team(tmp_path, **{"follow": FOLLOW, "vault": VAULT, **groups})


async def made(sandbox: Sandbox) -> set[str]:
    """The SHA-256 of every clip on the vendor's bill."""
    links = [clip.url for line in sandbox.bill().lines for clip in line.clips]
    return {hashlib.sha256(await bytes_of(link)).hexdigest() for link in links}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def test_a_team_creates_a_video_waits_and_downloads_the_vendors_own_bytes(
    tmp_path: Path,
) -> None:
    async with a_film_team(tmp_path) as (proxy, sandbox, client):
        video = await client.videos.create_and_poll(
            model="veo-3.1-fast", prompt=f"a cat {QUICK}", seconds="8", size="720x1280"
        )
        assert (video.status, video.progress, video.error) == ("completed", 100, None)
        assert (video.model, video.seconds, video.size) == ("veo-3.1-fast", "8", "720x1280")
        assert video.completed_at is not None
        assert video.completed_at >= video.created_at > 0
        content = await client.videos.download_content(video.id)
        assert await made(sandbox) == {sha(content.content)}
        assert content.response.headers["content-type"] == "video/mp4"
        assert await proxy.settled() == ["delivered"]
        assert await proxy.charged() == sandbox.bill().micros == 150_000


async def test_a_clip_from_chat_is_a_video_too_and_outlives_its_link(tmp_path: Path) -> None:
    async with a_film_team(tmp_path) as (proxy, sandbox, client):
        raw = await client.chat.completions.with_raw_response.create(
            model="veo-3.1-fast", messages=messages("two dogs"), n=2
        )
        ids = raw.headers["x-clipmeter-clips"].split(",")
        originals = await made(sandbox)
        for one in ids:
            await kept(proxy, one)
        sandbox.expire_links()
        saved = [await client.videos.download_content(one) for one in ids]
        assert {sha(each.content) for each in saved} == originals
        videos = [await client.videos.retrieve(one) for one in ids]
        assert [video.status for video in videos] == ["completed", "completed"]


async def kept(proxy: Running, clip_id: str) -> None:
    """Wait until the vault has the clip."""
    deadline = asyncio.get_running_loop().time() + 20
    while True:
        rows = await proxy.rows(f"SELECT state FROM keepings WHERE clip_id = '{clip_id}'")
        if rows == [("kept",)]:
            return
        assert asyncio.get_running_loop().time() < deadline, rows
        await asyncio.sleep(0.02)


async def test_two_images_are_a_start_and_an_end_frame(tmp_path: Path) -> None:
    async with a_film_team(tmp_path) as (proxy, sandbox, client):
        frames: Any = [
            ("start.png", png(720, 1280), "image/png"),
            ("end.png", png(72, 128), "image/png"),
        ]
        video = await client.videos.create_and_poll(
            model="veo-3.1-fast-fl", prompt=f"a walk {QUICK}", input_reference=frames
        )
        assert video.status == "completed", video.error
        (job,) = sandbox.vendor.jobs.values()
        assert job.order.images == 2
        assert await proxy.charged() == sandbox.bill().micros == 150_000


async def test_a_sora_program_buys_the_veo_model_of_its_orientation(tmp_path: Path) -> None:
    aliases = {"sora-2": "veo-3.1-fast"}
    async with a_film_team(tmp_path, aliases=aliases) as (_, sandbox, client):
        video = await client.videos.create_and_poll(
            model="sora-2", prompt=f"a hill {QUICK}", seconds="4", size="1280x720"
        )
        made_of = (video.status, video.model, video.seconds, video.size)
        assert made_of == ("completed", "veo-3.1-landscape-fast", "8", "1280x720")
        assert [line.model for line in sandbox.bill().lines] == ["veo-3.1-landscape-fast"]


async def test_videos_are_listed_page_by_page_in_both_orders(tmp_path: Path) -> None:
    async with a_film_team(tmp_path) as (_, _, client):
        ids = [
            (await client.videos.create(model="veo-3.1-fast", prompt=f"no. {n} {QUICK}")).id
            for n in range(5)
        ]
        newest_first = [video.id async for video in client.videos.list(limit=2)]
        oldest_first = [video.id async for video in client.videos.list(limit=2, order="asc")]
        assert newest_first == ids[::-1]
        assert oldest_first == ids
        after = await client.videos.list(after=ids[1], order="asc")
        assert [video.id for video in after.data] == ids[2:]


async def test_a_deleted_video_is_gone_and_its_charge_is_not(tmp_path: Path) -> None:
    async with a_film_team(tmp_path) as (proxy, _, client):
        video = await client.videos.create_and_poll(model="veo-3.1-fast", prompt=f"x {QUICK}")
        await kept(proxy, video.id)
        deleted = await client.videos.delete(video.id)
        assert (deleted.id, deleted.deleted, deleted.object) == (video.id, True, "video.deleted")
        for ask in (client.videos.retrieve, client.videos.delete, client.videos.download_content):
            with pytest.raises(openai.NotFoundError) as gone:
                await ask(video.id)
            assert gone.value.code == "video_not_found"
        assert [one async for one in client.videos.list()] == []
        assert not any((proxy.config.data_dir / "vault").rglob("*.mp4"))
        assert await proxy.charged() == 150_000


async def test_a_video_that_is_still_made_cannot_be_deleted_or_downloaded(tmp_path: Path) -> None:
    async with a_film_team(tmp_path) as (_, _, client):
        video = await client.videos.create(model="veo-3.1-fast", prompt="x [[seconds 30]]")
        assert video.status in ("queued", "in_progress")
        for ask in (client.videos.delete, client.videos.download_content):
            with pytest.raises(openai.ConflictError) as early:
                await ask(video.id)
            assert early.value.code == "video_not_ready"


async def test_a_failed_video_says_why_and_costs_nothing(tmp_path: Path) -> None:
    async with a_film_team(tmp_path) as (proxy, sandbox, client):
        video = await client.videos.create_and_poll(
            model="veo-3.1", prompt=f"x {QUICK} [[fail PUBLIC_ERROR_AUDIO_FILTERED]]"
        )
        assert video.status == "failed"
        assert video.error is not None
        assert video.error.code == "policy_audio"
        assert "PUBLIC_ERROR_AUDIO_FILTERED" in video.error.message
        with pytest.raises(openai.ConflictError) as failed:
            await client.videos.download_content(video.id)
        assert failed.value.code == "video_failed"
        assert await proxy.settled() == ["failed"]
        assert await proxy.charged() == sandbox.bill().micros == 0


async def completed(
    client: openai.AsyncOpenAI, sandbox: Sandbox, words: str
) -> tuple[str, str, str]:
    """A video made under these words: its status, its model, and whether its bytes are right."""
    video = await client.videos.create_and_poll(model="veo-3.1", prompt=f"x {QUICK} {words}")
    content = await client.videos.download_content(video.id)
    right = sha(content.content) in await made(sandbox)
    return video.status, video.model, "right" if right else "wrong"


@pytest.mark.parametrize("shape", ["documented", "captured", "task", "newapi"])
async def test_every_shape_of_the_vendors_is_the_same_video_to_the_sdk(
    tmp_path: Path, shape: str
) -> None:
    async with a_film_team(tmp_path, renderer=stamped) as (proxy, sandbox, client):
        words = [f"[[created {created}]] [[polled {shape}]]" for created in "abcde"]
        seen = await asyncio.gather(*(completed(client, sandbox, each) for each in words))
        assert seen == [("completed", "veo-3.1", "right")] * 5
        assert await proxy.charged() == sandbox.bill().micros == 5 * 250_000


async def test_content_that_the_status_names_no_link_to_is_had_with_our_key(
    tmp_path: Path,
) -> None:
    async with a_film_team(tmp_path, renderer=stamped) as (proxy, sandbox, client):
        forms = ("json", "video-url", "bytes", "redirect")
        words = [f"[[polled documented]] [[content {form}]] [[not-ready 1]]" for form in forms]
        seen = await asyncio.gather(*(completed(client, sandbox, each) for each in words))
        assert seen == [("completed", "veo-3.1", "right")] * 4
        assert await proxy.charged() == sandbox.bill().micros == 4 * 250_000


@pytest.mark.parametrize(
    ("variant", "media_type", "magic"),
    [("thumbnail", "image/webp", b"RIFF"), ("spritesheet", "image/jpeg", b"\xff\xd8\xff")],
)
async def test_a_video_has_pictures(
    tmp_path: Path, variant: Any, media_type: str, magic: bytes
) -> None:
    async with a_film_team(tmp_path) as (_, _, client):
        video = await client.videos.create_and_poll(model="veo-3.1-fast", prompt=f"x {QUICK}")
        picture = await client.videos.download_content(video.id, variant=variant)
        assert picture.response.headers["content-type"] == media_type
        assert picture.content.startswith(magic)


async def test_an_unanswered_create_is_not_sent_again_and_has_a_name(tmp_path: Path) -> None:
    async with a_film_team(tmp_path) as (proxy, sandbox, client):
        with pytest.raises(openai.InternalServerError) as unknown:
            await client.videos.create(model="veo-3.1", prompt="x [[reset-after]]")
        assert unknown.value.code == "outcome_unknown"
        (clip_id,) = unknown.value.response.headers["x-clipmeter-clips"].split(",")
        assert (await client.videos.retrieve(clip_id)).status == "in_progress"
        assert sandbox.bill().jobs == 1
        assert await proxy.settled() == ["unknown"]


@pytest.mark.parametrize("frames", [0, 2])
async def test_the_npm_sdk_makes_lists_downloads_and_deletes(tmp_path: Path, frames: int) -> None:
    async with a_film_team(tmp_path) as (proxy, sandbox, _):
        images = [base64.b64encode(png(720, 1280)).decode()] * frames
        model = "veo-3.1-fast-fl" if frames else "veo-3.1-fast"
        base = f"{proxy.url}/v1"
        said = await node(base, proxy.key, model, f"a bird {QUICK}", *images, program="videos.mjs")
        assert said["video"]["status"] == "completed", said
        assert said["created"]["id"] == said["video"]["id"] == said["listed"][0]
        assert {said["sha256"]} == await made(sandbox)
        assert said["deleted"]["deleted"] is True
        assert said["after"] == 404
        assert await proxy.charged() == sandbox.bill().micros == 150_000
