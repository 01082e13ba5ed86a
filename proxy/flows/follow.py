"""Unfinished jobs are polled until they end, whoever is watching.

The schedule is memory, the jobs are rows: what a process follows, it holds by its own sign of life
(`store.jobs`), and compares with its rows at every chore. So nothing is written for an answer
without news, a crash loses nothing but the time of the next question, and a process that was silent
for too long stops asking before another begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from heapq import heappop, heappush
from typing import Final, Self
from urllib.parse import quote
from zlib import crc32

from proxy.core import clip, pursuit
from proxy.core.clip import State
from proxy.core.job import Job
from proxy.core.pursuit import Deliver, Fail, FetchContent, Gone, Met, Pace, Pursuit, Wait
from proxy.flows.conclude import Collected, collect, conclude, lose
from proxy.flows.house import House
from proxy.flows.poll import Questions
from proxy.flows.settle import Settlement
from proxy.logs import event
from proxy.store.clips import Settled
from proxy.store.database import Connection, LedgerUnavailable
from proxy.store.jobs import (
    JobRow,
    held_by,
    is_any_free,
    is_held,
    let_go,
    note_progress,
    take_over,
    unfollowed,
)

LOOK_SECONDS: Final = 0.02
"""How often the schedule is looked at; so late a question may be."""

NEWS_SECONDS: Final = 1.0
"""How often progress is written down."""

NEWS_MAX: Final = 1_000
"""As much of it goes into one transaction."""

ADOPTED_AT_ONCE: Final = 500
"""So many jobs are taken up on end; it takes five milliseconds."""

LET_GO_SECONDS_MAX: Final = 2.0
"""How long a shutdown waits for the answers that are on their way."""

_GOLDEN: Final = 0.6180339887498949


@dataclass(slots=True, eq=False)
class _Followed:
    """One job of this process: `noted` is the state of its clip, as far as this process knows."""

    row: JobRow
    path: str
    known: Pursuit
    noted: State
    salt: float
    asked: int = 0

    @property
    def share(self) -> float:
        """A number from 0 to 1, another with each question, evenly spread over all jobs."""
        return (self.salt + self.asked * _GOLDEN) % 1.0

    @property
    def has_moved(self) -> bool:
        """Whether the vendor is at work on it, and that is not written down."""
        return self.known.begun and not self.known.lost and self.noted is not State.IN_PROGRESS


class Follower:
    """Asks the gateways about every job that this process owns, each at its own pace."""

    def __init__(self, house: House) -> None:
        """One for each process."""
        follow, limits = house.config.follow, house.config.limits
        self._house = house
        self._pace = Pace(
            follow.poll_seconds, limits.poll_pause_seconds_max, follow.give_up_hours * 3600
        )
        self._questions = Questions(house)
        self._jobs: dict[str, _Followed] = {}
        self._due: list[tuple[float, int, _Followed]] = []
        self._planned = 0
        self._polls: asyncio.Queue[_Followed] = asyncio.Queue()
        self._contents: asyncio.Queue[_Followed] = asyncio.Queue()
        self._news: dict[str, _Followed] = {}
        self._unwell: frozenset[str] = frozenset()
        self._held_until: datetime | None = None
        self._busy = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._stopped = False

    def __len__(self) -> int:
        """How many jobs this process follows."""
        return len(self._jobs)

    def start(self) -> None:
        """From now on poll what is due."""
        house, limits = self._house, self._house.config.limits
        house.settler.listeners.append(self._heed)
        house.background.forever("follow", self._look, LOOK_SECONDS)
        house.background.forever("follow news", self._write_news, NEWS_SECONDS)
        for number in range(limits.polls_in_flight_max):
            house.background.forever(f"poll {number}", self._poll_next, 0)
        for number in range(limits.downloads_in_flight_max):
            house.background.forever(f"poll content {number}", self._fetch_next, 0)

    def follow(self, job: JobRow) -> None:
        """Poll this job, which is this process's, to its end.

        Beyond `jobs_followed_max` it waits until there is room (`take_over`).
        """
        if self._stopped:
            self._house.background.start("let go", self._leave_rows())
        elif len(self._jobs) < self._house.config.limits.jobs_followed_max:
            self._adopt(job, self._pace.poll_seconds)

    def renewed(self, at: datetime) -> None:
        """This process's sign of life of the time `at` is written down: its jobs are its own.

        For as long as nobody takes it for dead, less one beat.
        """
        limits = self._house.config.limits
        self._held_until = at + timedelta(seconds=limits.orphan_seconds - limits.heartbeat_seconds)

    async def take_over(self, dead_before: datetime) -> None:
        """Make the jobs of processes not seen since `dead_before`, and those let go, ours.

        What this process follows is compared with its rows: what is another's by now is dropped,
        what is its own and not followed is followed. Raises `LedgerUnavailable`.
        """
        house, me = self._house, self._house.process_id
        if not self._may_take():
            return
        before = dict(self._jobs)
        held = await house.database.read(lambda tx: held_by(tx, me))
        for clip_id, job in before.items():
            if held.get(clip_id) != job.row.fence and self._is_followed(job):
                self._drop(clip_id)
        mine = set(self._jobs)
        rows, free = await house.database.read(
            lambda tx: (unfollowed(tx, me, mine), is_any_free(tx, dead_before))
        )
        room = house.config.limits.jobs_followed_max - len(self._jobs)
        rows = rows[: max(0, room)]
        if free and room > len(rows):
            more = room - len(rows)
            taken = await house.database.write(lambda tx: take_over(tx, me, dead_before, more))
            if taken:
                event("jobs_taken_over", count=len(taken))
            rows += taken
        if self._stopped:  # in the meantime
            await self._leave_rows()
            return
        for number, row in enumerate(rows, 1):
            if number % ADOPTED_AT_ONCE == 0:
                await asyncio.sleep(0)  # a dead process may leave ten thousand: others have a turn
            # Its last question, whoever asked it, may have been a moment ago.
            self._adopt(row, self._pace.poll_seconds * (1 + _salt(row.clip_id)))

    async def let_go(self) -> None:
        """Poll nothing more, and leave our jobs to other processes."""
        self._stopped = True
        with suppress(TimeoutError):
            async with asyncio.timeout(LET_GO_SECONDS_MAX):
                await self._quiet.wait()
        await self._write_news()
        self._forget_all()
        await self._leave_rows()

    async def _leave_rows(self) -> None:
        me = self._house.process_id
        with suppress(LedgerUnavailable):  # they are taken for a dead process's soon
            await self._house.database.write(lambda tx: let_go(tx, me))

    def _may_take(self) -> bool:
        # With settlements waiting, the rows do not say what has ended.
        return not self._stopped and self._holds() and not self._house.settler.late

    def _holds(self) -> bool:
        return self._held_until is not None and self._house.clock.now() < self._held_until

    def _adopt(self, row: JobRow, seconds: float) -> None:
        """Follow the job of `row`, asking for the first time in so many `seconds`."""
        known = self._jobs.get(row.clip_id)
        if known is not None and known.row.fence >= row.fence:
            return
        state = row.state
        job = _Followed(
            row,
            f"/v1/videos/{quote(row.upstream_id, safe='')}",
            pursuit.begin(
                row.gateway,
                list(self._house.addresses),
                row.percent,
                begun=state is State.IN_PROGRESS,
                lost=state is State.UNKNOWN,
            ),
            state,
            _salt(row.clip_id),
        )
        self._jobs[row.clip_id] = job
        self._plan(job, self._house.clock.monotonic() + seconds)

    def _plan(self, job: _Followed, due: float) -> None:
        """Ask about `job` at `due`, in monotonic seconds, if it is still followed then."""
        if self._is_followed(job):
            self._planned += 1
            heappush(self._due, (due, self._planned, job))

    def _is_followed(self, job: _Followed) -> bool:
        return self._jobs.get(job.row.clip_id) is job

    def _drop(self, clip_id: str) -> None:
        self._jobs.pop(clip_id, None)
        self._news.pop(clip_id, None)

    def _forget_all(self) -> None:
        self._jobs.clear()
        self._news.clear()
        self._due.clear()

    def _heed(self, settled: Settled) -> None:
        """Whoever ended a clip in this process, its job is not asked for any more."""
        if settled.state in clip.FINAL:
            self._drop(settled.clip_id)

    async def _look(self) -> None:
        """Hand out what is due."""
        if not self._jobs:
            return
        if not self._holds():
            # Others may take this process for dead, and its jobs for theirs.
            event("jobs_dropped", level="warning", count=len(self._jobs))
            self._forget_all()
            return
        states = self._house.fleet.states()
        self._unwell = frozenset(name for name, state in states.items() if state != "closed")
        now = self._house.clock.monotonic()
        while self._due and self._due[0][0] <= now:
            job = heappop(self._due)[2]
            if self._is_followed(job):
                queue = self._contents if job.known.wants_content else self._polls
                queue.put_nowait(job)

    async def _poll_next(self) -> None:
        await self._pursue(await self._polls.get(), self._poll)

    async def _fetch_next(self) -> None:
        await self._pursue(await self._contents.get(), self._fetch)

    async def _pursue(
        self, job: _Followed, step: Callable[[_Followed], Awaitable[float | None]]
    ) -> None:
        """Do `step`, which says in how many seconds from its beginning the next one is due."""
        if self._stopped or not self._is_followed(job):
            return
        began = self._house.clock.monotonic()
        seconds: float | None = self._pace.longest_seconds
        job.asked += 1
        self._busy += 1
        self._quiet.clear()
        try:
            seconds = await step(job)
        finally:
            self._busy -= 1
            if not self._busy:
                self._quiet.set()
            if seconds is not None:
                self._plan(job, began + seconds)

    async def _poll(self, job: _Followed) -> float | None:
        name = pursuit.whom(job.known, self._unwell)
        met = await self._questions.ask(name, job.path)
        return await self._learn(job, name, met)

    async def _fetch(self, job: _Followed) -> float | None:
        name = pursuit.whom(job.known)
        met = await collect(self._house, name, job.row)
        if not isinstance(met, Collected):
            return await self._learn(job, name, met)
        if self._is_followed(job):
            await conclude(self._house, job.row, clip.Delivered(met.url), kept=met.kept)
            self._drop(job.row.clip_id)
        return None

    async def _learn(self, job: _Followed, name: str, met: Met) -> float | None:
        """Do what `core.pursuit` says; the seconds to the next question, None where there is none.

        An answer that came after the job was dropped is another's business.
        """
        if not self._is_followed(job):
            return None
        row, before = job.row, job.known
        age = (self._house.clock.now() - row.accepted_at).total_seconds()
        job.known, decision = pursuit.after(before, name, met, age, job.share, self._pace)
        match decision:
            case Wait(seconds):
                if isinstance(met, Job) and (job.known.percent > before.percent or job.has_moved):
                    self._news[row.clip_id] = job
                return seconds
            case FetchContent():
                self._contents.put_nowait(job)
                return None
            case Gone(seconds, why):
                job.noted = State.UNKNOWN
                if await lose(self._house, row, why):
                    return seconds
            case Deliver(url):
                await conclude(self._house, row, clip.Delivered(url))
            case Fail(reason, words):
                await conclude(self._house, row, clip.Failed(reason), words)
        self._drop(row.clip_id)
        return None

    async def _write_news(self) -> None:
        """Write down the progress that was seen since the last time."""
        while self._news:
            batch = [_News.of(job) for job in list(self._news.values())[:NEWS_MAX]]
            now = self._house.clock.now()
            try:
                settled = await self._house.database.write(partial(_note, batch, now))
            except LedgerUnavailable:
                return  # it is news still
            self._house.settler.count(settled)
            for each in batch:
                job, clip_id = each.job, each.job.row.clip_id
                if each.moved_from is job.noted:
                    job.noted = State.IN_PROGRESS
                if job.known.percent == each.percent:
                    self._news.pop(clip_id, None)
                self._house.standings.forget(clip_id)


@dataclass(frozen=True, slots=True)
class _News:
    """How far a job had come; `moved_from` is the state that its clip is to leave, if it does."""

    job: _Followed
    percent: int
    moved_from: State | None

    @classmethod
    def of(cls, job: _Followed) -> Self:
        return cls(job, job.known.percent, job.noted if job.has_moved else None)


def _note(batch: Sequence[_News], now: datetime, tx: Connection) -> list[Settled]:
    """Write `batch` down, as far as its jobs are still held."""
    begun: list[tuple[str, clip.Event]] = [
        (each.job.row.clip_id, clip.Progressed(each.percent))
        for each in batch
        if each.moved_from is not None and is_held(tx, each.job.row.clip_id, each.job.row.fence)
    ]
    note_progress(tx, [(each.job.row.clip_id, each.job.row.fence, each.percent) for each in batch])
    return Settlement(begun, now).write(tx)


def _salt(clip_id: str) -> float:
    return crc32(clip_id.encode()) / 2**32
