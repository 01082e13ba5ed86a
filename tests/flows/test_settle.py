"""Settlements reach the ledger once, however often and however late they are tried."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from proxy.core import clip
from proxy.core.failure import Reason
from proxy.flows.settle import Settlement, Settler
from proxy.store.database import LedgerUnavailable
from tests.gateways import gateways, resets
from tests.running import Running, ask, configured, running, until
from tests.streams import CDN


class Away:
    """A database that is away until it is told to come back."""

    def __init__(self, database: Any) -> None:
        self.database, self.away, self.tries = database, True, 0

    async def write(self, fn: Any) -> Any:
        self.tries += 1
        if self.away:
            raise LedgerUnavailable("away")
        return await self.database.write(fn)


@asynccontextmanager
async def unknown_clip(tmp_path: Path) -> AsyncIterator[tuple[Running, str]]:
    """A proxy, and the id of a clip that nobody answered for."""
    async with gateways("api") as (api,):
        api.does(resets())
        async with running(configured(tmp_path, [("api", api.url)])) as proxy:
            await proxy.chat(ask())
            assert await proxy.settled() == ["unknown"]
            yield proxy, str((await proxy.rows("SELECT id FROM clips"))[0][0])


async def test_its_own_answer_is_as_good_as_a_find_for_a_clip_given_up_for_dead(
    tmp_path: Path,
) -> None:
    async with unknown_clip(tmp_path) as (proxy, clip_id):
        news = clip.Delivered(f"{CDN}/late.mp4")
        settlement = Settlement([(clip_id, news)], proxy.house.clock.now())
        assert await proxy.house.settler.settle(settlement)
        assert await proxy.house.settler.settle(settlement)
        assert await proxy.settled() == ["delivered"]
        assert await proxy.charged() == 150_000


async def test_a_settlement_that_finds_the_database_away_is_late_and_written_once_it_is_back(
    tmp_path: Path,
) -> None:
    async with unknown_clip(tmp_path) as (proxy, clip_id):
        house = proxy.house
        away = Away(house.database)
        settler = Settler(away, house.metrics, house.background, 0.3)  # type: ignore[arg-type]
        news = clip.Failed(Reason.NO_CLIP)
        settlement = Settlement([(clip_id, news)], house.clock.now())
        assert not await settler.settle(settlement)
        assert (settler.late, await proxy.states()) == (1, ["unknown"])
        assert not await settler.settle(settlement)
        assert (settler.late, away.tries > 1) == (2, True)
        away.away = False
        await until(lambda: settler.late == 0)
        assert await proxy.settled() == ["failed"]


async def test_a_settlement_that_can_never_be_written_does_not_stop_the_others(
    tmp_path: Path,
) -> None:
    async with unknown_clip(tmp_path) as (proxy, clip_id):
        house = proxy.house
        now = house.clock.now()
        house.settler.later(Settlement([("video_nobody", clip.Lost(Reason.LOST))], now))
        house.settler.later(Settlement([(clip_id, clip.Failed(Reason.NO_CLIP))], now))
        await until(lambda: house.settler.late == 0)
        assert await proxy.settled() == ["failed"]
