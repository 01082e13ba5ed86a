"""What every paid request has in common: a reply for its caller, and an end that settles its clips.

A paid request runs in a task of the application's. Its caller waits for the reply, and nothing
that happens to the caller changes what is metered (law 3).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import closing
from typing import ClassVar

from proxy import errors
from proxy.core import clip
from proxy.core.failure import Reason
from proxy.core.headers import value_of
from proxy.core.replay import keep_until
from proxy.core.rotation import Answered, maybe_bought
from proxy.flows.claim import key_life
from proxy.flows.generation import Generation
from proxy.flows.house import House
from proxy.flows.listener import Listener
from proxy.flows.replay import Repeat, admitted, again
from proxy.flows.reply import Reply, raw, told
from proxy.flows.rotate import Ended, Passed, rotate
from proxy.flows.settle import Settlement, Write
from proxy.remote.answer import Answer
from proxy.remote.gateway import Call
from proxy.store.answers import KeptAnswer, keep_answer
from proxy.store.database import Connection
from proxy.store.earlier import free_key
from proxy.store.generations import GenerationEnd, end_generation, record_opened


class PaidRun(ABC):
    """One paid request from its admission to its last settlement.

    Its kind says how an answer is read, and what news its being answered is to the clips. `over` is
    done when nothing of it is left to be done; until then those who repeat it find it in the house.
    """

    opened_as: ClassVar[clip.Opened | clip.Queued]

    def __init__(self, house: House, generation: Generation, link_base: str | None) -> None:
        """Made within a running event loop; nothing is written or sent before `begin`.

        Signed links in the reply begin with `link_base`.
        """
        loop = asyncio.get_running_loop()
        self._house = house
        self._generation = generation
        self._link_base = link_base
        self._head: asyncio.Future[Reply | Repeat | errors.ProxyError] = loop.create_future()
        self._admitted = False
        self._ended = True  # until there is something to end
        self._may_come_again = False
        self.over: asyncio.Future[None] = loop.create_future()

    @property
    def generation(self) -> Generation:
        """The request, as far as it has come."""
        return self._generation

    def begin(self, call: Call, prompt: str | None = None) -> None:
        """Buy what `call` asks for, whoever waits for it; `prompt` is kept for its tenant.

        Neither is kept here once it was sent and written down.
        """
        house, name = self._house, self._generation.id
        house.runs[name] = self  # before anybody can be told of it
        house.background.start(name, self._run(call, prompt))

    async def reply(self) -> Reply:
        """What the caller gets, as soon as it is known.

        Raises `ProxyError` where nothing was written.
        """
        reply = await asyncio.shield(self._head)
        if isinstance(reply, errors.ProxyError):
            raise reply
        if isinstance(reply, Repeat):
            return await again(self._house, self._generation, reply, self._link_base)
        return reply

    @property
    def can_be_joined(self) -> bool:
        """Whether somebody who repeats the request can have all of its answer."""
        return True

    def join(self) -> Listener | None:
        """A further listener to an answer that is listened to; None for one that missed some."""
        return None

    async def _run(self, call: Call, prompt: str | None) -> None:
        """See the request through; every end of it replies, and settles every clip."""
        house, generation = self._house, self._generation
        try:
            try:
                repeat = await admitted(house, generation, prompt)
            except errors.ProxyError as refusal:
                self._answer(refusal)
                return
            generation.overhead_seconds = house.clock.monotonic() - generation.started
            if repeat is not None:
                self._head.set_result(repeat)
                return
            del prompt
            self._admitted, self._ended = True, False
            with house.metrics.stream_open():
                met = await rotate(house, generation, call)
                del call
                if isinstance(met, Ended):
                    await self._turned_away(met)
                else:
                    with closing(met.answer):
                        await self._read(met.answer)
        finally:
            self._close()

    @abstractmethod
    async def _read(self, answer: Answer) -> None:
        """Read `answer` to its end, reply, and settle every clip or have it followed."""

    def _close(self) -> None:
        """The run is over, however it went: leave nothing unsettled, and nobody waiting."""
        # Reached unended only by a crash, or by a shutdown that waits no longer.
        if not self._ended:
            lost = self._last([clip.Lost(Reason.LOST)], "interrupted")
            self._house.settler.later(lost)
        self._answer(errors.internal_error(self._generation.id))
        self._house.runs.pop(self._generation.id, None)
        if not self.over.done():
            self.over.set_result(None)

    async def _turned_away(self, ended: Ended) -> None:
        generation = self._generation
        refused = isinstance(ended.news, clip.Refused)
        ending = "refused" if refused else "untold"
        reply: Reply | errors.ProxyError
        if isinstance(ended.reply, Passed):
            passed = ended.reply
            reply = Reply(passed.status, passed.headers, passed.body, generation)
        else:
            reply = ended.reply
        last = self._last([ended.news], ending, ended.words, ended.write, reply)
        durable = await self._end(last)
        surely_free = refused and not maybe_bought(generation.tried)
        if surely_free and not durable and isinstance(reply, errors.ProxyError):
            reply = errors.ledger_unavailable()
        self._answer(reply)

    def _opened(self) -> Write | None:
        """The write that says which gateway is answering; harmless where it is written twice."""
        generation = self._generation
        if not generation.tried:
            return None
        gateway, outcome = generation.tried[-1]
        if not isinstance(outcome, Answered) or outcome.refusal is not None:
            return None
        status, ids = outcome.status, generation.upstream_row()
        return lambda tx: record_opened(tx, generation.id, gateway, status, ids, self.opened_as)

    async def _end(self, settlement: Settlement) -> bool:
        """Write the last settlement; whether it is durable. Nothing is left to be settled then."""
        try:
            durable = await self._house.settler.settle(settlement)
        except asyncio.CancelledError:  # what is known is not made unknown by a shutdown
            self._house.settler.later(settlement)
            self._ended = True
            raise
        self._ended = True
        return durable

    def _last(
        self,
        news: Sequence[clip.Event],
        ending: str,
        words: str = "",
        booked: Write | None = None,
        reply: Reply | errors.ProxyError | None = None,
    ) -> Settlement:
        """The last settlement: `news` of the clips left, its last one for all the rest.

        With it the `reply` is kept, if it is whole and no clip's end is unknown.
        """
        generation, now = self._generation, self._house.clock.now()
        left = generation.clip_ids[generation.delivered :]
        generation.delivered += sum(isinstance(one, clip.Delivered) for one in news)
        told = [*news, *[news[-1]] * (len(left) - len(news))] if news else []
        self._count(news, ending)
        reason = next((str(one.reason) for one in news if hasattr(one, "reason")), None)
        outcome = generation.tried[-1][1] if generation.tried else None
        status = outcome.status if isinstance(outcome, Answered) else None
        end = GenerationEnd(ending, now, status, reason, words)
        unknown = any(isinstance(one, clip.Lost) for one in news)
        # Whoever sends a failed request again without naming it wants to buy it.
        wanted = generation.delivered > 0 or generation.claim.key is not None
        kept = self._kept(reply) if reply is not None and wanted and not unknown else None

        def last(tx: Connection) -> None:
            if booked is not None:
                booked(tx)
            end_generation(tx, generation.id, end)
            if kept is not None:
                kept(tx)

        clips = list(zip(left, told, strict=False))
        return Settlement(clips, now, words, first=self._opened(), last=last)

    def _kept(self, reply: Reply | errors.ProxyError) -> Write:
        """The write that keeps the reply; or frees the key of one that may be sent again."""
        house, generation = self._house, self._generation
        if isinstance(reply, errors.ProxyError):
            reply = told(reply, generation)
        assert isinstance(reply.body, bytes)
        now, settings = house.clock.now(), house.config.replay
        keyed, reusable = generation.claim.key is not None, settings.reuse != "never"
        until = keep_until(now, key_life(house.config), keyed=keyed, reusable=reusable)
        headers = [one for one in reply.headers if one[0] != b"content-length"]
        answer = KeptAnswer(reply.status, [*headers, *raw(generation.headers())], reply.body)
        may_come_again = _invites(reply)

        def write(tx: Connection) -> None:
            if may_come_again or self._may_come_again:
                free_key(tx, generation.id)
            else:
                keep_answer(tx, generation.id, answer, now, until, settings.answer_bytes_max)

        return write

    def _count(self, news: Sequence[clip.Event], ending: str) -> None:
        generation, metrics = self._generation, self._house.metrics
        if generation.delivered:
            whole = generation.delivered == len(generation.clip_ids)
            outcome = "delivered" if whole else "partial"
        elif ending == "refused":
            outcome = "refused"
        else:
            outcome = "unknown" if isinstance(news[-1], clip.Lost) else "failed"
        seconds = self._house.clock.monotonic() - generation.started
        metrics.generation_ended(generation.ask.model.name, outcome, seconds)

    def _answer(self, reply: Reply | errors.ProxyError) -> None:
        """Reply to the caller; the first reply stands."""
        if self._head.done():
            return
        if isinstance(reply, errors.ProxyError) and self._admitted:
            reply = told(reply, self._generation)
        # A settlement that is late must not keep what the caller was told to ask again for.
        self._may_come_again = isinstance(reply, Reply) and _invites(reply)
        self._head.set_result(reply)


def _invites(reply: Reply) -> bool:
    """Whether the caller is told to send the same again, because nothing was bought."""
    return value_of(reply.headers, b"x-should-retry") == "true"
