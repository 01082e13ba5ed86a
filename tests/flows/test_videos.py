"""A team's videos as it sees them: shown truly, listed in order, forgotten when it says so."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from openai.types import Video as OpenAIVideo

from proxy import logs
from proxy.core import clip
from proxy.core.clip import LINK_LIFE, State
from proxy.core.failure import Reason
from proxy.core.playback import Playback, verify
from proxy.errors import ProxyError
from proxy.flows import videos
from proxy.flows.videos import Page
from proxy.store.kept import VaultUnavailable
from proxy.store.videos import find_video
from tests.flows.rooms import Rooms, rooms
from tests.operators import DELIVERED, FAILED, LOST, NOON
from tests.running import until

BASE = "https://clips.example/proxy"

LATEST = Page(after=None, limit=10, newest_first=True)


async def shown(
    room: Rooms, tenant_id: str, clip_id: str, base: str | None = BASE, **changes: Any
) -> tuple[dict[str, Any], dict[str, str]]:
    """What `view` makes of the clip's row, with some of it changed, and its headers."""
    row = await room.ledger.read(lambda tx: find_video(tx, tenant_id, clip_id))
    assert row is not None
    video, headers = videos.view(room.house, replace(row, **changes), base)
    OpenAIVideo.model_validate(video)
    return video, dict(headers)


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())


async def test_an_unfinished_video_says_when_to_ask_again(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        ads = await room.team("ads")
        (clip_id,) = await room.buy(ads, None)
        video, headers = await shown(room, ads.tenant_id, clip_id, percent=45)
        assert (video["status"], video["progress"]) == ("in_progress", 45)
        assert (video["url"], video["expires_at"], video["completed_at"]) == (None, None, None)
        assert video["clipmeter"]["cost_usd"] is None
        assert headers == {"cache-control": "no-store", "openai-poll-after-ms": "5000"}
        room.clock.seconds = 1_000
        assert (await shown(room, ads.tenant_id, clip_id))[1]["openai-poll-after-ms"] == "15000"


async def test_a_delivered_video_dies_with_its_link_until_it_is_kept(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        ads = await room.team("ads")
        (clip_id,) = await room.buy(ads, DELIVERED)
        video, headers = await shown(room, ads.tenant_id, clip_id)
        assert (video["status"], video["progress"], video["url"]) == ("completed", 100, None)
        assert video["expires_at"] == seconds(NOON + LINK_LIFE)
        assert video["clipmeter"]["cost_usd"] == "0.15"
        assert headers == {"cache-control": "no-store"}


async def test_a_kept_video_has_a_link_that_plays_it_for_its_tenant(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        ads = await room.team("ads")
        clip_id = await room.kept(ads)
        video, _ = await shown(room, ads.tenant_id, clip_id)
        assert video["expires_at"] == seconds(NOON + timedelta(days=30))
        where, _, query = video["url"].partition("?")
        assert where == f"{BASE}/v1/videos/{clip_id}/content"
        lasts = int(room.house.config.vault.signed_link_seconds)
        granted = verify(clip_id, query, room.house.playback_keys, NOON, lasts)
        until_then = (NOON + timedelta(seconds=lasts)).astimezone(UTC)
        assert granted == Playback(clip_id, ads.tenant_id, until_then)
        assert (await shown(room, ads.tenant_id, clip_id, base=None))[0]["url"] is None


@pytest.mark.parametrize(
    ("keeping", "expires_at"),
    [
        ("kept", NOON + timedelta(days=30)),
        ("waiting", NOON + LINK_LIFE),
        ("lost", NOON + LINK_LIFE),
        ("evicted", NOON + timedelta(hours=1)),
    ],
)
async def test_a_video_says_when_its_bytes_go_or_went(
    tmp_path: Path, keeping: str, expires_at: datetime
) -> None:
    async with rooms(tmp_path) as room:
        ads = await room.team("ads")
        clip_id = await room.kept(ads)
        room.clock.seconds = 3600
        video, _ = await shown(room, ads.tenant_id, clip_id, keeping=keeping)
        assert video["expires_at"] == seconds(expires_at)
        assert (video["url"] is not None) is (keeping == "kept")


@pytest.mark.parametrize(
    ("end", "changes", "status", "code"),
    [
        (FAILED, {}, "failed", "policy_other"),
        (clip.Failed(Reason.NO_CLIP), {}, "failed", "no_clip"),
        (LOST, {"state": State.WRITTEN_OFF}, "failed", "lost"),
    ],
    ids=["policy", "nothing", "written off"],
)
async def test_a_failed_video_says_why_and_costs_nothing(
    tmp_path: Path, end: clip.Event, changes: dict[str, Any], status: str, code: str
) -> None:
    async with rooms(tmp_path) as room:
        ads = await room.team("ads")
        (clip_id,) = await room.buy(ads, end)
        video, headers = await shown(room, ads.tenant_id, clip_id, **changes)
        assert (video["status"], video["error"]["code"]) == (status, code)
        assert video["clipmeter"]["cost_usd"] == "0.00"
        assert "openai-poll-after-ms" not in headers


async def test_an_unknown_video_is_still_being_looked_for(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        ads = await room.team("ads")
        (clip_id,) = await room.buy(ads, LOST)
        video, headers = await shown(room, ads.tenant_id, clip_id)
        assert (video["status"], video["error"]) == ("in_progress", None)
        assert video["clipmeter"]["outcome"] == "unknown"
        assert "openai-poll-after-ms" in headers


async def test_a_video_outlives_its_model(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        ads = await room.team("ads")
        (clip_id,) = await room.buy(ads, DELIVERED, model="veo-2-landscape")
        video, _ = await shown(room, ads.tenant_id, clip_id)
        assert (video["model"], video["size"]) == ("veo-2-landscape", "1280x720")
        assert video["seconds"] == "8"


async def test_a_retrieved_video_tells_where_it_was_made_and_whence_it_is_known(
    tmp_path: Path,
) -> None:
    async with rooms(tmp_path) as room:
        ads = await room.team("ads")
        (clip_id,) = await room.buy(ads, None)
        video, headers = await videos.retrieve(room.house, ads, clip_id, BASE)
        made: Any = video["clipmeter"]
        assert dict(headers) == {
            "cache-control": "no-store",
            "openai-poll-after-ms": "5000",
            "cache-status": "clipmeter; fwd=miss",
            "x-clipmeter-generation": made["generation"],
            "x-clipmeter-gateway": "api",
            "x-clipmeter-attempts": "1",
        }
        _, headers = await videos.retrieve(room.house, ads, clip_id, BASE)
        assert dict(headers)["cache-status"] == "clipmeter; hit; ttl=1"
        assert room.ledger.asked == 1


@pytest.mark.parametrize("deed", ["retrieve", "delete"])
async def test_what_is_not_the_tenants_own_is_not_there(tmp_path: Path, deed: str) -> None:
    async def refusal(clip_id: str) -> bytes:
        asking = (
            videos.retrieve(room.house, film, clip_id, BASE)
            if deed == "retrieve"
            else videos.delete(room.house, film, clip_id)
        )
        with pytest.raises(ProxyError) as caught:
            await asking
        assert (caught.value.status, caught.value.code) == (404, "video_not_found")
        return caught.value.body() + repr(caught.value.headers()).encode()

    async with rooms(tmp_path) as room:
        ads, film = await room.team("ads"), await room.team("film")
        (foreign,) = await room.buy(ads, DELIVERED)
        (deleted,) = await room.buy(film, DELIVERED)
        await videos.delete(room.house, film, deleted)
        await videos.retrieve(room.house, ads, foreign, BASE)
        ids = [foreign, deleted, "video_none", "..", "", "a/b", "é", "x" * 65, "-"]
        assert len({await refusal(clip_id) for clip_id in ids}) == 1
        assert (await videos.retrieve(room.house, ads, foreign, BASE))[0]["id"] == foreign


async def listed(room: Rooms, caller: Any, page: Page) -> tuple[list[str], bool]:
    found, headers = await videos.list_page(room.house, caller, page, BASE)
    assert ("cache-control", "no-store") in headers
    data: Any = found["data"]
    ids = [each["id"] for each in data]
    assert (found["first_id"], found["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    return ids, bool(found["has_more"])


async def test_a_list_is_read_page_by_page_from_either_end(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        ads, film = await room.team("ads"), await room.team("film")
        ids = []
        for room.clock.seconds in range(5):
            ids += await room.buy(ads, DELIVERED if room.clock.seconds else None)
            await room.buy(film, DELIVERED)
        newest = list(reversed(ids))
        assert await listed(room, ads, LATEST) == (newest, False)
        assert await listed(room, ads, replace(LATEST, limit=5)) == (newest, False)
        assert await listed(room, ads, replace(LATEST, limit=2)) == (newest[:2], True)
        following = Page(newest[1], 2, newest_first=True)
        assert await listed(room, ads, following) == (newest[2:4], True)
        assert await listed(room, ads, replace(following, after=newest[3])) == (newest[4:], False)
        assert await listed(room, ads, replace(following, after=newest[4])) == ([], False)
        assert await listed(room, ads, Page(ids[0], 3, newest_first=False)) == (ids[1:4], True)
        await videos.delete(room.house, ads, newest[1])
        assert await listed(room, ads, following) == (newest[2:4], True)
        assert (await listed(room, ads, LATEST))[0] == [newest[0], *newest[2:]]


async def test_a_page_behind_somebody_elses_video_is_refused_like_one_behind_nothing(
    tmp_path: Path,
) -> None:
    async with rooms(tmp_path) as room:
        ads, film = await room.team("ads"), await room.team("film")
        (foreign,) = await room.buy(film, DELIVERED)
        bodies = set()
        for after in (foreign, "video_none", "../x", ""):
            with pytest.raises(ProxyError) as caught:
                await videos.list_page(room.house, ads, replace(LATEST, after=after), BASE)
            assert (caught.value.status, caught.value.param) == (400, "after")
            bodies.add(caught.value.body())
        assert len(bodies) == 1


async def test_a_deleted_video_leaves_nothing_but_its_charge(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        ads = await room.team("ads")
        clip_id = await room.kept(ads)
        await room.sql("UPDATE generations SET prompt = 'a secret cat'")
        await videos.retrieve(room.house, ads, clip_id, BASE)
        answer, headers = await videos.delete(room.house, ads, clip_id)
        assert answer == {"id": clip_id, "object": "video.deleted", "deleted": True}
        assert headers == [("cache-control", "no-store")]
        with pytest.raises(ProxyError, match="no such video"):
            await videos.retrieve(room.house, ads, clip_id, BASE)
        with pytest.raises(ProxyError, match="no such video"):
            await videos.delete(room.house, ads, clip_id)
        await until(lambda: len(room.house.background) == 0)
        assert await room.house.vault.find(clip_id) == []
        assert await room.rows("SELECT prompt FROM generations") == [(None,)]
        charged = "SELECT kind, amount_micros FROM entries ORDER BY kind"
        assert await room.rows(charged) == [("charge", 150_000), ("hold", 150_000)]


@pytest.mark.parametrize("end", [None, LOST], ids=["rendering", "unknown"])
async def test_an_unfinished_video_cannot_be_deleted(
    tmp_path: Path, end: clip.Event | None
) -> None:
    async with rooms(tmp_path) as room:
        ads = await room.team("ads")
        (clip_id,) = await room.buy(ads, end)
        with pytest.raises(ProxyError, match=r"still being made.*no way to cancel") as caught:
            await videos.delete(room.house, ads, clip_id)
        assert (caught.value.status, caught.value.code) == (409, "video_not_ready")
        assert ("openai-poll-after-ms", "5000") in caught.value.headers()
        assert (await videos.retrieve(room.house, ads, clip_id, BASE))[0]["id"] == clip_id


class BrokenVault:
    """A vault whose disk is gone; `asked` for clips to be deleted."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def delete(self, clip_id: str) -> None:
        self.asked.append(clip_id)
        await asyncio.sleep(0)
        raise VaultUnavailable("the disk is gone")


async def test_a_vault_that_is_away_is_not_the_callers_problem(tmp_path: Path) -> None:
    lines = io.StringIO()
    logs.configure(lines, json=True, strict=True)
    try:
        async with rooms(tmp_path) as room:
            ads = await room.team("ads")
            (clip_id,) = await room.buy(ads, DELIVERED)
            whole, broken = room.house.vault, BrokenVault()
            room.house.vault = broken  # type: ignore[assignment]
            assert (await videos.delete(room.house, ads, clip_id))[0]["deleted"] is True
            await until(lambda: len(room.house.background) == 0)
            room.house.vault = whole
            assert broken.asked == [clip_id]
    finally:
        logs.configure(sys.stderr, json=True)
    (line,) = (json.loads(line) for line in lines.getvalue().splitlines())
    assert (line["event"], line["clip"]) == ("clip_bytes_not_deleted", clip_id)


async def test_a_link_is_for_a_clip_and_says_nothing_else(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        ads = await room.team("ads")
        clip_id = await room.kept(ads)
        row = await room.ledger.read(lambda tx: find_video(tx, ads.tenant_id, clip_id))
        assert row is not None
        parts = urlsplit(videos.signed_link(room.house, row, "http://127.0.0.1:8080"))
        assert (parts.netloc, parts.path) == ("127.0.0.1:8080", f"/v1/videos/{clip_id}/content")
        assert ads.tenant_name not in parts.query.replace(ads.tenant_id, "")
