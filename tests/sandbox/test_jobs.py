"""The events of a job: how many, in which order, and told to everyone."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from proxy.sandbox.faults import Faults, from_prompt
from proxy.sandbox.jobs import Job, Kind, Progress, Queued, Spoiled, schedule
from proxy.sandbox.orders import Order, documented_products

PRODUCT = documented_products()["veo-3.1"]


def job(clips: int = 1, seconds: float = 6.0, words: str = "", name: str = "foaicmpl-1") -> Job:
    faults = from_prompt(words, "api") if words else Faults()
    return Job(
        name, Kind.CHAT, "api", Order(PRODUCT, "a", clips, 0, stream=True), faults, 0, seconds
    )


@given(st.integers(1, 4), st.floats(0, 1000), st.text(), st.integers(0, 4))
def test_a_schedule_goes_forward_and_ends_with_every_clip(
    clips: int, seconds: float, name: str, deliver: int
) -> None:
    events = list(schedule(job(clips, seconds, f"[[deliver {deliver}]]", name)))
    times = [at for at, _ in events]
    assert times == sorted(times)
    assert (times[0], times[-1]) == (0.0, 1.0)
    assert events[0][1] == Queued()
    made = [event for _, event in events if event is None]
    spoiled = [event for _, event in events if isinstance(event, Spoiled)]
    assert (len(made), len(spoiled)) == (min(clips, deliver), clips - min(clips, deliver))


@given(st.floats(0, 1000), st.text())
def test_progress_grows_and_stays_below_a_hundred(seconds: float, name: str) -> None:
    events = [event for _, event in schedule(job(1, seconds, "", name))]
    percents = [event.percent for event in events if isinstance(event, Progress)]
    assert 3 <= len(percents) <= 14
    assert percents == sorted(percents)
    assert percents[0] > 0
    assert percents[-1] < 100


def test_a_demo_moves_about_every_second() -> None:
    for seconds in (6.0, 9.0):
        times = [at * seconds for at, event in schedule(job(1, seconds)) if event]
        gaps = [later - sooner for sooner, later in pairwise(times)]
        assert max(gaps) <= 1.0


def test_who_comes_late_still_sees_everything() -> None:
    async def run() -> None:
        one = job()
        for percent in (1.0, 2.0):
            one.happen(Progress(percent))
        early = asyncio.create_task(watched(one))
        await asyncio.sleep(0)
        one.happen(Spoiled(1, "X"))
        one.happen(None)
        assert await early == await watched(one) == one.events
        assert len(one.events) == 3
        assert (one.percent, one.fail_code, one.clips) == (2.0, "X", [])

    asyncio.run(run())


async def watched(one: Job) -> list[object]:
    return [event async for event in one.watch()]
