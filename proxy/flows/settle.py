"""One verdict → clip, entry, metrics; exactly once.

A settlement is a function of facts: entry ids are derived, the clip's table refuses a second end,
so one that is tried again, or seen by two, changes nothing. What cannot be committed in time is
kept and tried again until it can; a process that dies before leaves the clip `unknown`, never
billed by guess.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from proxy.core import clip
from proxy.flows.background import Background
from proxy.logs import event
from proxy.metrics import Metrics
from proxy.store.clips import Settled, settle
from proxy.store.database import Connection, Database, LedgerUnavailable

RETRY_PAUSE_SECONDS = 0.2
"""Between two tries of a settlement while the database is away."""


Write = Callable[[Connection], object]


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is to be written in one transaction about clips of one generation.

    `first` and `last` are further writes of the same transaction: that the answer was opened, say,
    and how its attempt ended. `words` are the vendor's own. `then` is called in this process once
    it is all durable, however late. `held` asks, in the same transaction, whether whoever settles
    this still may; if not, nothing is written (R24).
    """

    clips: Sequence[tuple[str, clip.Event]]
    now: datetime
    words: str = ""
    first: Write | None = None
    last: Write | None = None
    then: Callable[[], object] | None = None
    held: Callable[[Connection], bool] | None = None

    def write(self, tx: Connection) -> list[Settled]:
        """Write it all; the changes that were new."""
        if self.held is not None and not self.held(tx):
            return []
        if self.first is not None:
            self.first(tx)
        settled = [self._one(tx, clip_id, news) for clip_id, news in self.clips]
        if self.last is not None:
            self.last(tx)
        return settled

    def _one(self, tx: Connection, clip_id: str, news: clip.Event) -> Settled:
        settled = settle(tx, clip_id, news, self.now, self.words)
        if settled.impossible is None or settled.state is not clip.State.UNKNOWN:
            return settled
        # Given up for dead by another process; its own answer is as good as a find.
        if isinstance(news, clip.Refused):
            news = clip.Failed(news.reason)
        if isinstance(news, (clip.Progressed, clip.Delivered, clip.Failed)):
            return settle(tx, clip_id, clip.Found(news), self.now, self.words)
        return settled


class Settler:
    """Writes settlements; keeps those that the database would not take, and tries them again.

    What it keeps is bounded by what is running: while the database is away nothing new is admitted.
    """

    def __init__(
        self, database: Database, metrics: Metrics, background: Background, seconds_max: float
    ) -> None:
        """One for each process; `seconds_max` is how long an answer may wait for the database."""
        self._database = database
        self._metrics = metrics
        self._background = background
        self._seconds_max = seconds_max
        self._late: deque[Settlement] = deque()
        self.listeners: list[Callable[[Settled], None]] = []
        """Told of every change that is durable, in this process."""

    @property
    def late(self) -> int:
        """How many settlements wait for the database."""
        return len(self._late)

    async def settle(self, settlement: Settlement) -> bool:
        """Write `settlement`; False when it is not durable in time, and is tried again later.

        Settlements are kept in their order: one that follows a late one is late as well.
        """
        if not self._late:
            try:
                async with asyncio.timeout(self._seconds_max):
                    await self._until_written(settlement)
            except TimeoutError:
                event("settlement_late", clips=[clip_id for clip_id, _ in settlement.clips])
            else:
                return True
        self.later(settlement)
        return False

    def later(self, settlement: Settlement) -> None:
        """Write `settlement` in the background, as soon as the database takes it."""
        self._late.append(settlement)
        if len(self._late) == 1:
            self._catch_up_later()

    def _catch_up_later(self) -> None:
        task = self._background.start("late settlements", self._catch_up())
        task.add_done_callback(lambda ended: self._go_on(cancelled=ended.cancelled()))

    async def _catch_up(self) -> None:
        while self._late:
            try:
                await self._until_written(self._late[0])
            finally:
                # One that cannot be written at all is a crash, and must not stop the others.
                self._late.popleft()

    def _go_on(self, *, cancelled: bool) -> None:
        if self._late and not cancelled:
            self._catch_up_later()

    async def _until_written(self, settlement: Settlement) -> None:
        while True:
            try:
                settled = await self._database.write(settlement.write)
            except LedgerUnavailable:
                await asyncio.sleep(RETRY_PAUSE_SECONDS)
            else:
                self.count(settled)
                if settlement.then is not None:
                    settlement.then()
                return

    def count(self, settled: Sequence[Settled]) -> None:
        """Show in the metrics and the log what was written, and tell the listeners."""
        for one in settled:
            if one.impossible is not None:
                event("clip_news_impossible", clip=one.clip_id, state=one.state, outcome=one.news)
            elif one.changed:
                self._metrics.clip_is(one.tenant, one.model, one.state, one.amount_micros)
                for tell in self.listeners:
                    tell(one)
