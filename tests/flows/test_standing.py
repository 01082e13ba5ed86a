"""Many pollers are one question; what changed is asked again; what is gone is gone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.core import clip
from proxy.core.clip import State
from proxy.flows.standing import STALE_SECONDS_MAX
from proxy.store.database import LedgerUnavailable
from tests.flows.rooms import Rooms, rooms
from tests.operators import DELIVERED
from tests.running import until


async def state_of(room: Rooms, tenant_id: str, clip_id: str) -> State | None:
    row = await room.house.standings.find(tenant_id, clip_id)
    return None if row is None else row.state


async def test_a_thousand_pollers_of_a_video_are_one_question(tmp_path: Path) -> None:
    async with rooms(tmp_path, video_memory_seconds=1) as room:
        ads = await room.team("ads")
        (clip_id,) = await room.buy(ads, None)
        standings = room.house.standings
        looks = [standings.look(ads.tenant_id, clip_id) for _ in range(500)]
        first, *others = await asyncio.gather(*looks)
        assert first.cache_status == "clipmeter; fwd=miss"
        assert {each.cache_status for each in others} == {"clipmeter; fwd=miss; collapsed"}
        room.clock.seconds = 0.25
        late = [await standings.look(ads.tenant_id, clip_id) for _ in range(500)]
        assert {each.cache_status for each in late} == {"clipmeter; hit; ttl=0"}
        states = {each.row and each.row.state for each in (first, *others, *late)}
        assert states == {State.GENERATING}
        assert room.ledger.asked == 1
        said = room.house.metrics.render("")[0].decode()
        for result, times in (("miss", 1), ("collapsed", 499), ("hit", 500)):
            series = f'clipmeter_cache_requests_total{{cache="video",result="{result}"}}'
            assert f"{series} {times}.0" in said


async def test_the_database_is_asked_again_when_memory_is_old(tmp_path: Path) -> None:
    async with rooms(tmp_path, video_memory_seconds=3) as room:
        ads = await room.team("ads")
        (clip_id,) = await room.buy(ads, None)
        for room.clock.seconds in (0, 1, 2.9, 3, 5.9, 6):
            await state_of(room, ads.tenant_id, clip_id)
        assert room.ledger.asked == 3


async def test_a_settlement_in_this_process_is_seen_at_once(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        ads = await room.team("ads")
        (clip_id,) = await room.buy(ads, None)
        assert await state_of(room, ads.tenant_id, clip_id) is State.GENERATING
        await room.settle(clip_id, DELIVERED)
        assert await state_of(room, ads.tenant_id, clip_id) is State.GENERATING
        room.tell(clip_id)
        assert await state_of(room, ads.tenant_id, clip_id) is State.DELIVERED


async def test_what_was_read_before_a_settlement_is_not_remembered_after_it(
    tmp_path: Path,
) -> None:
    async with rooms(tmp_path) as room:
        ads = await room.team("ads")
        (clip_id,) = await room.buy(ads, None)
        gate = room.ledger.gate = asyncio.Event()
        early = asyncio.ensure_future(state_of(room, ads.tenant_id, clip_id))
        await until(lambda: room.ledger.asked == 1)
        await asyncio.sleep(0.05)  # it has read, and is held up on its way back
        await room.settle(clip_id, DELIVERED)
        room.tell(clip_id)
        late = asyncio.ensure_future(state_of(room, ads.tenant_id, clip_id))
        await until(lambda: room.ledger.asked == 2)
        gate.set()
        assert await early in {State.GENERATING, State.DELIVERED}
        assert await late is State.DELIVERED
        assert await state_of(room, ads.tenant_id, clip_id) is State.DELIVERED
        assert room.ledger.asked == 2


async def test_a_video_is_remembered_for_its_own_tenant_alone(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        ads, film = await room.team("ads"), await room.team("film")
        (clip_id,) = await room.buy(ads, DELIVERED)
        assert await state_of(room, ads.tenant_id, clip_id) is State.DELIVERED
        assert room.ledger.asked == 1
        for _ in range(3):
            assert await state_of(room, film.tenant_id, clip_id) is None
        assert room.ledger.asked == 4
        assert await state_of(room, ads.tenant_id, clip_id) is State.DELIVERED
        assert room.ledger.asked == 4


async def test_what_is_not_there_takes_up_no_room(tmp_path: Path) -> None:
    async with rooms(tmp_path, videos_remembered_max=1) as room:
        ads = await room.team("ads")
        (clip_id,) = await room.buy(ads, DELIVERED)
        await state_of(room, ads.tenant_id, clip_id)
        for number in range(5):
            assert await state_of(room, ads.tenant_id, f"video_{number}x") is None
        assert room.ledger.asked == 6
        await state_of(room, ads.tenant_id, clip_id)
        assert room.ledger.asked == 6


async def test_no_more_videos_are_remembered_than_allowed(tmp_path: Path) -> None:
    async with rooms(tmp_path, videos_remembered_max=2) as room:
        ads = await room.team("ads")
        one, two, three = await room.buy(ads, DELIVERED, DELIVERED, DELIVERED)
        for clip_id in (one, two, three, two, three):
            await state_of(room, ads.tenant_id, clip_id)
        assert room.ledger.asked == 3
        await state_of(room, ads.tenant_id, one)
        assert room.ledger.asked == 4


async def test_while_the_database_is_away_the_last_that_was_known_is_answered(
    tmp_path: Path,
) -> None:
    async with rooms(tmp_path, video_memory_seconds=1) as room:
        ads = await room.team("ads")
        known, unknown = await room.buy(ads, None, None)
        await state_of(room, ads.tenant_id, known)
        room.ledger.away = True
        room.clock.seconds = 30.5
        standing = await room.house.standings.look(ads.tenant_id, known)
        assert standing.cache_status == "clipmeter; hit; ttl=-30"
        assert standing.row is not None
        with pytest.raises(LedgerUnavailable):
            await state_of(room, ads.tenant_id, unknown)
        room.clock.seconds = STALE_SECONDS_MAX
        assert await state_of(room, ads.tenant_id, known) is State.GENERATING
        room.clock.seconds = STALE_SECONDS_MAX + 1
        with pytest.raises(LedgerUnavailable):
            await state_of(room, ads.tenant_id, known)
        room.ledger.away = False
        assert await state_of(room, ads.tenant_id, known) is State.GENERATING


async def test_what_is_too_old_to_be_answered_makes_room(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        ads = await room.team("ads")
        one, two = await room.buy(ads, None, None)
        await state_of(room, ads.tenant_id, one)
        room.clock.seconds = STALE_SECONDS_MAX + 1
        await state_of(room, ads.tenant_id, two)
        room.ledger.away, room.clock.seconds = True, 0.0
        room.tell(one)
        with pytest.raises(LedgerUnavailable):
            await state_of(room, ads.tenant_id, one)


async def test_a_deleted_video_is_gone_at_once_even_while_the_database_is_away(
    tmp_path: Path,
) -> None:
    async with rooms(tmp_path) as room:
        ads = await room.team("ads")
        (clip_id,) = await room.buy(ads, DELIVERED)
        await state_of(room, ads.tenant_id, clip_id)
        room.house.standings.drop(clip_id)
        room.ledger.away = True
        with pytest.raises(LedgerUnavailable):
            await state_of(room, ads.tenant_id, clip_id)


async def test_a_video_that_another_process_deleted_is_not_answered_from_memory_again(
    tmp_path: Path,
) -> None:
    async with rooms(tmp_path, video_memory_seconds=1) as room:
        ads = await room.team("ads")
        (clip_id,) = await room.buy(ads, DELIVERED)
        await state_of(room, ads.tenant_id, clip_id)
        await room.sql("UPDATE clips SET deleted_at = accepted_at WHERE id = :id", id=clip_id)
        room.clock.seconds = 1
        assert await state_of(room, ads.tenant_id, clip_id) is None
        room.ledger.away = True
        with pytest.raises(LedgerUnavailable):
            await state_of(room, ads.tenant_id, clip_id)


async def test_a_poller_who_leaves_takes_the_answer_from_nobody(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        ads = await room.team("ads")
        (clip_id,) = await room.buy(ads, None)
        gate = room.ledger.gate = asyncio.Event()
        first = asyncio.ensure_future(state_of(room, ads.tenant_id, clip_id))
        second = asyncio.ensure_future(state_of(room, ads.tenant_id, clip_id))
        await until(lambda: room.ledger.asked == 1)
        first.cancel()
        gate.set()
        assert await second is State.GENERATING
        assert room.ledger.asked == 1
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_a_video_is_never_seen_to_go_back(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        ads = await room.team("ads")
        (clip_id,) = await room.buy(ads, None)
        seen = []
        for news in (clip.Progressed(10), None, DELIVERED, None):
            if news is not None:
                await room.settle(clip_id, news)
                room.tell(clip_id)
            seen.append(await state_of(room, ads.tenant_id, clip_id))
        assert seen == [State.IN_PROGRESS] * 2 + [State.DELIVERED] * 2
