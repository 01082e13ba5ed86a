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


async def test_what_runs_for_ever_survives_a_crash_and_runs_until_the_drain_is_over() -> None:
    tasks, crashes = background()
    steps: list[int] = []

    async def step() -> None:
        steps.append(len(tasks))
        if len(steps) == 1:
            raise ZeroDivisionError

    tasks.forever("chore", step, 0.001)
    tasks.start("work", asyncio.sleep(0.05))
    assert await tasks.drain(1) == 0
    assert len(steps) > 2
    assert [name for name, _ in crashes] == ["chore"]
    done = len(steps)
    await asyncio.sleep(0.01)
    assert len(steps) == done


async def test_a_drain_waits_for_what_is_started_meanwhile() -> None:
    tasks, _ = background()
    done: list[str] = []

    async def late() -> None:
        await asyncio.sleep(0.01)
        done.append("late")

    async def early() -> None:
        tasks.start("late", late())

    tasks.start("early", early())
    assert await tasks.drain(1) == 0
    assert done == ["late"]


async def test_what_starts_while_others_are_cancelled_is_cancelled_too() -> None:
    tasks, crashes = background()
    started = asyncio.Event()

    async def ending() -> None:
        started.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            tasks.start("late", asyncio.sleep(3600))
            raise

    tasks.start("ending", ending())
    await started.wait()
    assert await asyncio.wait_for(tasks.drain(0), 3) == 2
    assert (len(tasks), crashes) == (0, [])


async def test_a_drain_without_time_cancels_at_once() -> None:
    tasks, _ = background()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    tasks.start("count", count())
    assert await tasks.drain(0) == 1
    assert turns == 0
