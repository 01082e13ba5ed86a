"""What was given again is booked once its clips are delivered, and not without end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.gateways import answers, resets
from tests.repeating import (
    FAST,
    QUEUED,
    asks,
    create,
    replayed,
    serving,
    until_state,
    waits,
)
from tests.running import until

LINK = "https://cdn.example/clip.mp4"


async def test_a_repeat_of_a_video_that_is_made_later_is_counted_then(tmp_path: Path) -> None:
    gate = asyncio.Event()
    done = waits(gate, answers(200, {**QUEUED, "status": "completed", "url": LINK}))
    follow = {"poll_seconds": 0.05}
    async with serving(tmp_path, answers(200, QUEUED), done, follow=follow) as (proxy, api):
        await create(proxy)
        again = await create(proxy, x_stainless_retry_count="1")
        assert json.loads(again.body)["status"] == "queued"
        await until(lambda: len(proxy.house.savings._awaiting) == 1)
        assert await replayed(proxy) == []
        gate.set()
        await until_state(proxy, "replayed")
        assert await replayed(proxy) == [("retry", FAST)]
        assert api.posts == 1


async def test_a_video_that_is_never_made_saves_nothing(tmp_path: Path) -> None:
    gate = asyncio.Event()
    failed = waits(gate, answers(200, {**QUEUED, "status": "failed"}))
    follow = {"poll_seconds": 0.05}
    async with serving(tmp_path, answers(200, QUEUED), failed, follow=follow) as (proxy, _):
        await create(proxy, idempotency_key="k")
        await create(proxy, idempotency_key="k")
        savings = proxy.house.savings
        await until(lambda: len(savings._awaiting) == 1)
        gate.set()
        await until_state(proxy, "failed")
        await until(lambda: not savings._awaiting and not proxy.house.background.names())
        assert await replayed(proxy) == []


async def test_an_error_that_is_told_again_saves_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, resets()) as (proxy, _):
        for _ in range(2):
            assert (await proxy.chat(asks(), idempotency_key="k")).status == 504
        await proxy.settled()
        assert await replayed(proxy) == []


async def test_who_asks_without_end_does_not_fill_the_database(tmp_path: Path) -> None:
    async with serving(tmp_path, limits={"listeners_max": 2}) as (proxy, api):
        for _ in range(6):
            assert (await proxy.chat(asks(), idempotency_key="k")).status == 200
            await proxy.settled()
        await until(lambda: not proxy.house.background.names())
        assert await replayed(proxy) == [("idempotency", FAST)] * 2
        assert api.posts == 1
