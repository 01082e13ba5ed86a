"""What giving an answer again has saved: clips that cost nothing, booked once they are delivered.

It is no money that anybody owes: what a process that dies had still to book is not made up for.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from proxy.core.clip import FINAL, State
from proxy.core.replay import Earlier
from proxy.flows.generation import Generation
from proxy.flows.house import House
from proxy.flows.settle import Settlement
from proxy.store.clips import Settled
from proxy.store.database import Connection
from proxy.store.replay import Again, Avoided, record_replay


class Savings:
    """Books each answer that is given again: now, or when the clip it is about is delivered."""

    def __init__(self, house: House) -> None:
        """One for each process; from now on told of every settlement in it."""
        self._house = house
        self._awaiting: OrderedDict[str, list[tuple[Generation, Earlier]]] = OrderedDict()
        self._given: OrderedDict[str, int] = OrderedDict()
        house.settler.listeners.append(self._told)

    def book(
        self,
        generation: Generation,
        earlier: Earlier,
        awaited: str | None = None,
        after: asyncio.Future[None] | None = None,
    ) -> None:
        """Book what `generation` has saved by repeating `earlier`; nobody waits for it.

        That is after the run whose end is `after`, and again when the clip `awaited` is delivered,
        where nothing was until then. What one answer saves is booked `listeners_max` times at most:
        who asks again without end must not fill the database.
        """
        if not self._counts(earlier.generation_id):
            return
        name = f"{generation.id} replayed"
        self._house.background.start(name, self._book(generation, earlier, awaited, after))

    async def _book(
        self,
        generation: Generation,
        earlier: Earlier,
        awaited: str | None = None,
        after: asyncio.Future[None] | None = None,
    ) -> None:
        house, caller = self._house, generation.caller
        if after is not None:
            await asyncio.shield(after)
        now = house.clock.now()
        again = Again(
            of=earlier.generation_id,
            tenant_id=caller.tenant_id,
            key_id=caller.key_id,
            why=earlier.why,
            generation_id=generation.id,
            clip_ids=generation.clip_ids,
            process_id=house.process_id,
            now=now,
        )
        avoided = Avoided()

        def write(tx: Connection) -> None:
            nonlocal avoided
            avoided = record_replay(tx, again)

        def then() -> None:
            if avoided.clips:
                house.metrics.replayed(
                    caller.tenant_name, avoided.model, again.why, avoided.clips, avoided.micros
                )
            elif awaited is not None:
                self._await(awaited, generation, earlier)

        await house.settler.settle(Settlement([], now, last=write, then=then))

    def _counts(self, generation_id: str) -> bool:
        """Whether the answer was not given again too often to be booked once more."""
        limits = self._house.config.limits
        times = self._given.pop(generation_id, 0)
        self._given[generation_id] = times + 1
        while len(self._given) > limits.videos_remembered_max:
            self._given.popitem(last=False)
        return times < limits.listeners_max

    def _await(self, clip_id: str, generation: Generation, earlier: Earlier) -> None:
        limits = self._house.config.limits
        waiting = self._awaiting.setdefault(clip_id, [])
        if len(waiting) < limits.listeners_max:
            waiting.append((generation, earlier))
        while len(self._awaiting) > limits.videos_remembered_max:
            self._awaiting.popitem(last=False)

    def _told(self, settled: Settled) -> None:
        if settled.state not in FINAL or settled.clip_id not in self._awaiting:
            return
        for generation, earlier in self._awaiting.pop(settled.clip_id):
            if settled.state is State.DELIVERED:
                self.book(generation, earlier)
