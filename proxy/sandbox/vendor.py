"""The pretend vendor behind the three gateways: jobs that run to their end, clips, and its bill.

A job belongs to the vendor, not to the connection that asked for it: a caller who hangs up changes
nothing, and there is no cancel (wire facts, section 2.4).
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from proxy.sandbox.faults import Faults
from proxy.sandbox.jobs import Clip, Job, Kind, Made, schedule
from proxy.sandbox.orders import Order

FAST_SECONDS: Final = 6.0
STANDARD_SECONDS: Final = 9.0
"""How long a clip takes at speed 1: a tenth of the vendor's times, so that a demo is bearable."""

LINK_SECONDS: Final = 24 * 3600.0
"""How long a link lives (vendor page, "Video URL TTL")."""

TALLIES_MAX: Final = 100_000


@dataclass(slots=True)
class Tally:
    """Paid requests with one prompt: read from the socket, accepted as jobs, at work just now."""

    received: int = 0
    accepted: int = 0
    in_flight: int = 0
    in_flight_max: int = 0


class Vendor:
    """Jobs, clips and tallies, shared by the gateways; lives in one event loop."""

    def __init__(self, *, speed: float, link_seconds: float) -> None:
        if speed <= 0:
            raise ValueError("speed must be above 0")
        self.jobs: dict[str, Job] = {}
        self.clips: dict[str, tuple[Job, Clip]] = {}
        self._speed = speed
        self._link_seconds = link_seconds
        self._links_dead_before = 0.0
        self._tallies: OrderedDict[str, Tally] = OrderedDict()
        self._running: set[asyncio.Task[None]] = set()

    def accept(self, kind: Kind, order: Order, gateway: tuple[str, str], faults: Faults) -> Job:
        """Take an order at a gateway (name, address) and start on it; from here on it is billed."""
        name, address = gateway
        job = Job(
            id=_job_id(kind),
            kind=kind,
            gateway=name,
            order=order,
            faults=faults,
            created_at=int(time.time()),
            seconds=faults.number("seconds", "seconds", self._usual_seconds(order)),
        )
        self.jobs[job.id] = job
        self.tally(order.prompt).accepted += 1
        task = asyncio.create_task(self._run(job, address))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return job

    def tally(self, prompt: str) -> Tally:
        """The counts of paid requests with this prompt."""
        digest = hashlib.sha256(prompt.encode()).hexdigest()
        tally = self._tallies.setdefault(digest, Tally())
        if len(self._tallies) > TALLIES_MAX:
            self._tallies.popitem(last=False)
        return tally

    @property
    def tallies(self) -> dict[str, Tally]:
        """Every tally by the SHA-256 of its prompt, in hexadecimal."""
        return dict(self._tallies)

    async def idle(self) -> None:
        """Return when every accepted job has ended."""
        while self._running:
            await asyncio.wait(self._running)

    async def close(self) -> None:
        """Drop what is still running."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def find(self, job_id: str, gateway: str) -> Job | None:
        """The asynchronous job of this id, as far as this gateway knows it."""
        job = self.jobs.get(job_id)
        if job is None or job.kind is not Kind.VIDEO:
            return None
        if job.completed_at is not None and job.clips and not self.link_alive(job.clips[0]):
            return None
        return None if "unshared" in job.faults and job.gateway != gateway else job

    def expire_links(self) -> None:
        """Let every link given so far die at once."""
        self._links_dead_before = time.time()

    def link_alive(self, clip: Clip) -> bool:
        """Can the clip still be fetched?"""
        return time.time() < clip.expires_at and clip.made_at > self._links_dead_before

    def _usual_seconds(self, order: Order) -> float:
        return (FAST_SECONDS if order.product.fast else STANDARD_SECONDS) / self._speed

    async def _run(self, job: Job, address: str) -> None:
        """Live through the job's events at their times."""
        begun = asyncio.get_running_loop().time()
        for at, event in schedule(job):
            wait = begun + at * job.seconds - asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, wait))
            job.happen(event if event is not None else self._make(job, address))
        job.happen(None)

    def _make(self, job: Job, address: str) -> Made:
        clip_id = str(uuid.uuid4())
        url = link(address, clip_id, signed=job.faults.word("link", "form") == "signed")
        now = time.time()
        clip = Clip(clip_id, len(job.clips) + 1, url, now, now + self._link_seconds)
        self.clips[clip_id] = (job, clip)
        return Made(clip)


def link(address: str, clip_id: str, *, signed: bool = False) -> str:
    """Where a clip is served; a signed link has no `.mp4` and carries its proof in the query."""
    if not signed:
        return f"{address}/flow/{clip_id}.mp4"
    return (
        f"{address}/ai-sandbox-videofx/video/{clip_id}"
        f"?GoogleAccessId=sandbox%40clipmeter&Expires=4102444800&Signature={signature(clip_id)}"
    )


def signature(clip_id: str) -> str:
    """The proof in a signed link."""
    return hashlib.sha256(f"sandbox:{clip_id}".encode()).hexdigest()[:32]


def _job_id(kind: Kind) -> str:
    return f"video_{uuid.uuid4()}" if kind is Kind.VIDEO else f"foaicmpl-{uuid.uuid4().hex[:29]}"
