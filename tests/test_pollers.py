"""A thousand callers who ask for a handful of videos, and what that costs the vendor."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.gateways import Gateway, Request, gateways
from tests.jobs import completed, hasty, said
from tests.running import running, until

JOBS, POLLERS, CONNECTIONS = 5, 1000, 40
PACE = 0.3
PERCENTS = ("10%", 45, 30, "60%", 5)
"""What the vendor says of a job, one after the other and the last for ever: it goes back, too."""


@dataclass
class Vendor:
    """Says how far its jobs are, and counts who asks; `ends` has them all completed."""

    asked: Counter[str] = field(default_factory=Counter)
    ends: bool = False

    def pretend(self, gateway: Gateway) -> None:
        async def act(request: Request, writer: asyncio.StreamWriter) -> None:
            if request.method == "POST":
                number = re.search(rb"no\. (\d)", request.body)
                assert number is not None
                await said("queued", id=f"job-{number[1].decode()}")(request, writer)
                return
            if not request.path.endswith("/content"):
                self.asked[request.path] += 1
            percent = PERCENTS[min(self.asked[request.path], len(PERCENTS)) - 1]
            word = completed() if self.ends else said("processing", progress=percent)
            await word(request, writer)

        gateway.does(act)


@dataclass
class Poller:
    """One caller who waits for a video; `seen` is the progress it was told of, time after time."""

    video_id: str
    seen: list[int] = field(default_factory=list)
    status: str = ""

    async def poll(self, session: aiohttp.ClientSession) -> None:
        async with session.get(f"/v1/videos/{self.video_id}") as answer:
            assert answer.status == 200
            video: dict[str, Any] = await answer.json()
        self.seen.append(video["progress"])
        self.status = video["status"]


async def test_a_thousand_pollers_cost_the_vendor_one_question_a_job_and_interval(
    tmp_path: Path,
) -> None:
    vendor = Vendor()
    async with gateways("api") as (api,):
        vendor.pretend(api)
        config = hasty(tmp_path, ("api", api.url), follow={"poll_seconds": PACE})
        async with (
            running(config) as proxy,
            aiohttp.ClientSession(
                proxy.url,
                headers={"authorization": f"Bearer {proxy.key}"},
                connector=aiohttp.TCPConnector(limit=CONNECTIONS),
            ) as session,
        ):
            ids = [await order(session, number) for number in range(JOBS)]
            pollers = [Poller(ids[number % JOBS]) for number in range(POLLERS)]
            began = asyncio.get_running_loop().time()
            async with asyncio.TaskGroup() as group:
                for share in range(CONNECTIONS):
                    group.create_task(poll_all(session, pollers[share::CONNECTIONS]))
                # What was said of every job has come to everybody, more than once.
                await until(lambda: has_been_heard(vendor, pollers), 60)
                vendor.ends = True
            seconds = asyncio.get_running_loop().time() - began
    for poller in pollers:
        assert poller.seen == sorted(poller.seen)
        assert len(set(poller.seen)) > 2, "nobody saw progress"
        assert poller.seen[-1] == 100
    assert len(vendor.asked) == JOBS
    for path, times in vendor.asked.items():
        assert len(PERCENTS) <= times <= seconds / PACE + 2, path


async def order(session: aiohttp.ClientSession, number: int) -> str:
    """A new video."""
    wanted = {"model": "veo-3.1-fast", "prompt": f"no. {number}"}
    async with session.post("/v1/videos", json=wanted) as answer:
        return str(json.loads(await answer.read())["id"])


async def poll_all(session: aiohttp.ClientSession, pollers: list[Poller]) -> None:
    """Ask for all of them in turn, until each has seen its video completed."""
    while waiting := [poller for poller in pollers if poller.status != "completed"]:
        for poller in waiting:
            await poller.poll(session)


def has_been_heard(vendor: Vendor, pollers: list[Poller]) -> bool:
    said_all = all(times >= len(PERCENTS) for times in vendor.asked.values())
    return said_all and all(len(set(each.seen)) > 1 for each in pollers)
