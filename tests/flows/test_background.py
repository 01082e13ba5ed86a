from __future__ import annotations

import asyncio

from proxy.flows.background import Background


def background() -> tuple[Background, list[tuple[str, BaseException]]]:
    crashes: list[tuple[str, BaseException]] = []
    return Background(lambda name, crash: crashes.append((name, crash))), crashes


async def test_work_outlives_whoever_started_it() -> None:
    tasks, _ = background()
    done = asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0.01)
        done.set()

    async def caller() -> None:
        tasks.start("work", work())
        await asyncio.sleep(3600)

    calling = asyncio.create_task(caller())
    await asyncio.sleep(0)
    calling.cancel()
    await asyncio.wait_for(done.wait(), 5)
    assert await tasks.drain(1) == 0


async def test_a_crash_is_told_with_its_name() -> None:
    tasks, crashes = background()

    async def broken() -> None:
        raise ZeroDivisionError

    tasks.start("broken", broken())
    await tasks.drain(1)
    assert [(name, type(crash)) for name, crash in crashes] == [("broken", ZeroDivisionError)]


async def test_a_drain_waits_and_then_cancels() -> None:
    tasks, crashes = background()
    tasks.start("quick", asyncio.sleep(0.01))
    endless = tasks.start("endless", asyncio.sleep(3600))
    assert sorted(tasks.names()) == ["endless", "quick"]
    assert await tasks.drain(0.1) == 1
    assert (endless.cancelled(), len(tasks), crashes) == (True, 0, [])
