"""A job on its way: what happens to it and when, told to everyone who watches."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from proxy.sandbox.faults import Faults
from proxy.sandbox.orders import Order

_BEAT_SECONDS: Final = 0.7
_BEATS_MIN: Final = 3
_BEATS_MAX: Final = 14


class Kind(StrEnum):
    """How a job was asked for."""

    CHAT = "chat"
    VIDEO = "video"


@dataclass(frozen=True, slots=True)
class Clip:
    """One finished clip: `number` counts from 1, the times are Unix times in seconds."""

    id: str
    number: int
    url: str
    made_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class Queued:
    """The job waits for its turn."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The job has come so far, in percent with one decimal."""

    percent: float


@dataclass(frozen=True, slots=True)
class Made:
    """A clip is ready, and billed."""

    clip: Clip


@dataclass(frozen=True, slots=True)
class Spoiled:
    """A clip failed; it is free."""

    number: int
    code: str


Event = Queued | Progress | Made | Spoiled


@dataclass(slots=True)
class Job:
    """One accepted order on its way."""

    id: str
    kind: Kind
    gateway: str
    order: Order
    faults: Faults
    created_at: int
    seconds: float
    events: list[Event] = field(default_factory=list)
    completed_at: int | None = None
    content_refusals: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def clips(self) -> list[Clip]:
        """The clips made so far."""
        return [event.clip for event in self.events if isinstance(event, Made)]

    @property
    def percent(self) -> float:
        """How far the job has come, as last told."""
        told = [event.percent for event in self.events if isinstance(event, Progress)]
        return told[-1] if told else 0.0

    @property
    def fail_code(self) -> str:
        """Why the last spoiled clip failed; "" when none did."""
        codes = [event.code for event in self.events if isinstance(event, Spoiled)]
        return codes[-1] if codes else ""

    async def watch(self) -> AsyncIterator[Event]:
        """The events from the first one on, until the job has ended."""
        seen = 0
        while True:
            while seen < len(self.events):
                yield self.events[seen]
                seen += 1
            if self.completed_at is not None:
                return
            await self._changed.wait()

    def happen(self, event: Event | None) -> None:
        """Add an event, or None for the end of the job, and wake who watches."""
        if event is None:
            self.completed_at = int(time.time())
        else:
            self.events.append(event)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def schedule(job: Job) -> Iterator[tuple[float, Event | None]]:
    """The job's events and their times, 0 to 1 of its duration; None stands for a clip made.

    Progress grows unevenly and need not reach 100, as in the captures (wire facts, section 3.2).
    """
    beats = min(_BEATS_MAX, max(_BEATS_MIN, round(job.seconds / _BEAT_SECONDS)))
    chance = hashlib.sha256(job.id.encode()).digest()
    top = 60 + chance[0] % 36
    yield 0.0, Queued()
    ended: list[tuple[float, Event | None]] = list(_results(job))
    for beat in range(1, beats + 1):
        at = beat / (beats + 1)
        while ended and ended[0][0] < at:
            yield ended.pop(0)
        uneven = (chance[beat] - 128) / 128 * 0.4 / beats
        yield at, Progress(round(top * min(1.0, max(0.01, at + uneven)), 1))
    yield from ended


def _results(job: Job) -> Iterator[tuple[float, Event | None]]:
    """When each clip is made or spoiled; the last one at the end of the job."""
    order = job.order
    made = min(order.clips, job.faults.whole("deliver", "clips", order.clips))
    code = "PUBLIC_ERROR_AUDIO_FILTERED"
    for name in ("fail", "fail-reasoning", "error-frame"):
        if name in job.faults:
            made, code = 0, job.faults.word(name, "code")
    if "silent" in job.faults or "bare" in job.faults:
        made = 0
    for number in range(1, order.clips + 1):
        at = 0.7 + 0.3 * number / order.clips
        yield at, None if number <= made else Spoiled(number, code)
