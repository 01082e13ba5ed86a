"""admit → rotate → pump → settle: one chat request, whether or not its caller stays.

All of it runs in a task of the application's. The caller holds the other end of a listener, and
nothing that happens to the caller changes what is metered (law 3).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from proxy import errors
from proxy.core import clip
from proxy.core.caller import Caller
from proxy.core.encoding import Decoder
from proxy.core.failure import Reason
from proxy.core.headers import backward, forward, value_of
from proxy.core.images import ImageLimits
from proxy.core.links import Asked
from proxy.core.meter import Meter, Verdict
from proxy.core.refusal import read_refusal
from proxy.core.request import BodyLimits, ChatRequest, Malformed, read_chat
from proxy.core.rotation import Answered, maybe_bought
from proxy.flows.admit import quote, take_hold
from proxy.flows.generation import Ask, Generation
from proxy.flows.house import House
from proxy.flows.listener import Listener
from proxy.flows.rotate import Ended, Passed, account_trouble, attempt_end, rotate
from proxy.flows.settle import Settlement, Write
from proxy.remote.answer import Answer, Ending
from proxy.remote.gateway import Call
from proxy.store.database import Connection
from proxy.store.generations import GenerationEnd, end_generation, record_opened

PATH = "/v1/chat/completions"

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the caller gets: a head, and a whole body or a listener to read it from.

    `code` is set on an error of ours about a request that was bought, or may have been.
    """

    status: int
    headers: Headers
    body: bytes | Listener
    generation: Generation
    code: str = ""


class CallerGone(Exception):
    """The caller left before anything was sent; nothing was bought."""


def read(house: House, body: bytes) -> ChatRequest:
    """The request in `body`; raises `ProxyError` for one that is refused."""
    limits = house.config.limits
    image = ImageLimits(limits.image_bytes_max, limits.image_side_max, limits.image_pixels_max)
    body_limits = BodyLimits(
        limits.request_text_bytes_max, limits.json_values_max, limits.json_depth_max, image
    )
    request = read_chat(body, house.catalog, house.config.aliases, body_limits)
    if isinstance(request, Malformed):
        raise errors.ProxyError(request.code, request.message, request.param)
    return request


async def answer(
    house: House,
    caller: Caller,
    request: ChatRequest,
    headers: Headers,
    gone: Callable[[], Awaitable[bool]],
) -> Reply:
    """Buy what `request` wants, and answer as soon as a gateway does.

    `headers` are the caller's. `gone` tells whether the caller has left: then nothing is bought,
    but only until the intent is written. Raises `CallerGone`, and `ProxyError` where nothing was
    written.
    """
    ask = Ask("chat", request.model, request.asked_model, request.clips, request.stream)
    generation = quote(house, caller, ask)
    if await gone():
        raise CallerGone
    run = ChatRun(house, generation, request.texts)
    # The vendor must read the body as we did, whatever the caller called it (decision 19).
    call = Call("POST", PATH, tuple(forward(headers)), request.body, "application/json")
    house.background.start(generation.id, run.run(call))
    del request, call  # a body with images is not kept while its answer runs
    reply = await asyncio.shield(run.head)
    if isinstance(reply, errors.ProxyError):
        raise reply
    return reply


class ChatRun:
    """One chat request from its admission to its last settlement."""

    def __init__(self, house: House, generation: Generation, texts: tuple[str, ...]) -> None:
        """`texts` are the request's; `head` is answered once, with the reply or the refusal."""
        self.head: asyncio.Future[Reply | errors.ProxyError] = (
            asyncio.get_running_loop().create_future()
        )
        self._house = house
        self._generation = generation
        self._asked = Asked(texts)
        # The vendor echoes the prompt, each character in up to six bytes of JSON.
        echo_bytes = 6 * sum(map(len, texts))
        self._listener = Listener(house.config.limits.listener_bytes_max + echo_bytes)
        self._admitted = False
        self._ended = True  # until there is something to end

    async def run(self, call: Call) -> None:
        """See the request through; every end of it answers `head` and settles every clip."""
        house, generation = self._house, self._generation
        try:
            try:
                await take_hold(house, generation, call.body)
            except errors.ProxyError as refusal:
                self._answer(refusal)
                return
            self._admitted, self._ended = True, False
            generation.overhead_seconds = house.clock.monotonic() - generation.started
            with house.metrics.stream_open():
                met = await rotate(house, generation, call)
                del call
                if isinstance(met, Ended):
                    await self._turned_away(met)
                else:
                    with closing(met.answer):
                        await self._pump(met.answer)
        finally:
            # Reached unended only by a crash, or by a shutdown that waits no longer.
            if not self._ended:
                house.settler.later(self._last([clip.Lost(Reason.LOST)], "interrupted"))
            self._listener.end(broken=True)
            self._answer(errors.internal_error(generation.id))

    async def _turned_away(self, ended: Ended) -> None:
        generation = self._generation
        refused = isinstance(ended.news, clip.Refused)
        ending = "refused" if refused else "untold"
        durable = await self._end(self._last([ended.news], ending, ended.words, ended.write))
        reply = ended.reply
        if isinstance(reply, Passed):
            self._answer(Reply(reply.status, reply.headers, reply.body, generation))
        elif refused and not durable and not maybe_bought(generation.tried):
            self._answer(errors.ledger_unavailable())
        else:
            self._answer(reply)

    async def _pump(self, answer: Answer) -> None:
        """Read the answer to its end, whoever listens; charge each clip before it is announced."""
        generation, limits = self._generation, self._house.config.limits
        content_type = (value_of(answer.headers, b"content-type") or "").lower()
        streamed = content_type.startswith("text/event-stream")
        encoding = value_of(answer.headers, b"content-encoding")
        decoder = Decoder(encoding, limits.answer_bytes_max)
        meter = Meter(
            len(generation.clip_ids),
            self._asked,
            streamed=streamed,
            event_bytes_max=limits.event_bytes_max,
        )
        if streamed:
            headers = backward(answer.headers, streamed=True)
            self._answer(Reply(answer.status, headers, self._listener, generation))
            self._house.background.start(f"{generation.id} opened", self._settle([]))
        encoded: list[bytes] = []
        held_bytes = 0
        async for chunk in answer:
            reading = meter.feed(decoder.feed(chunk))
            if reading.links and not await self._charge(reading.links):
                self._listener.end(broken=True)  # what is not durable is not announced (law 4)
            if decoder.plain:
                await self._listener.offer(reading.passed, between=meter.between_events)
            else:
                encoded.append(chunk)
            held_bytes += len(chunk) if meter.opaque or encoded else 0
            if held_bytes > limits.answer_bytes_max:
                answer.close()
        whole = answer.ending is Ending.COMPLETE and not decoder.broken
        verdict = meter.finish(complete=whole)
        if encoded:
            verdict = replace(verdict, passed=b"" if decoder.broken else b"".join(encoded))
        await self._finish(answer, verdict, streamed=streamed, whole=whole)

    async def _finish(
        self, answer: Answer, verdict: Verdict, *, streamed: bool, whole: bool
    ) -> None:
        generation = self._generation
        news: list[clip.Event] = [clip.Delivered(link) for link in verdict.links]
        news += [clip.Failed(verdict.reason)] * verdict.failed
        news += [clip.Lost(Reason.LOST)] * verdict.lost
        # A sibling of the vendor bills answers of 200 that bring no clip at all.
        barren = verdict.failed if verdict.failed == len(generation.clip_ids) else 0
        booked = attempt_end(self._house, generation, Answered(answer.status), barren)
        ending = "told" if verdict.told else "untold"
        durable = await self._end(self._last(news, ending, verdict.words, booked))
        if verdict.surplus:
            self._house.metrics.surplus_links(verdict.surplus)
        if not streamed:
            self._answer(self._unary(answer, verdict, whole=whole, durable=durable))
            return
        if durable or not verdict.links:
            await self._listener.offer(verdict.passed, between=False)
        # An end that only the closed connection told, of an answer that said nothing, is a break.
        ended_well = whole and durable and (answer.framed or verdict.told)
        self._listener.end(broken=not ended_well)

    def _unary(
        self, answer: Answer, verdict: Verdict, *, whole: bool, durable: bool
    ) -> Reply | errors.ProxyError:
        """A whole body is passed on as it came; anything less is an error that says so."""
        generation = self._generation
        if not durable or answer.ending is not Ending.COMPLETE:
            return errors.outcome_unknown(generation.id)
        if not whole or not (verdict.told or generation.delivered):
            return errors.upstream_invalid(generation.id)
        if not generation.delivered:
            # Some refusals come with a status of success; whose business they are is the same.
            ours = account_trouble(generation, read_refusal(200, "", verdict.passed))
            if ours is not None:
                return ours
        return Reply(answer.status, backward(answer.headers), verdict.passed, generation)

    async def _charge(self, links: Sequence[str]) -> bool:
        began = self._house.clock.monotonic()
        durable = await self._settle([clip.Delivered(link) for link in links])
        self._generation.overhead_seconds += self._house.clock.monotonic() - began
        return durable

    async def _settle(self, news: Sequence[clip.Event]) -> bool:
        clips = zip(self._generation.take_clips(len(news)), news, strict=True)
        now = self._house.clock.now()
        return await self._house.settler.settle(Settlement(list(clips), now, first=self._opened()))

    def _opened(self) -> Write | None:
        """The write that says which gateway is answering; harmless where it is written twice."""
        generation = self._generation
        if not generation.tried:
            return None
        gateway, outcome = generation.tried[-1]
        if not isinstance(outcome, Answered) or outcome.refusal is not None:
            return None
        status, ids = outcome.status, generation.upstream_row()
        return lambda tx: record_opened(tx, generation.id, gateway, status, ids, clip.Opened())

    async def _end(self, settlement: Settlement) -> bool:
        """Write the last settlement; whether it is durable. Nothing is left to be settled then."""
        durable = await self._house.settler.settle(settlement)
        self._ended = True
        return durable

    def _last(
        self,
        news: Sequence[clip.Event],
        ending: str,
        words: str = "",
        booked: Write | None = None,
    ) -> Settlement:
        """The last settlement: `news` of the clips left, its last one for all the rest."""
        generation, now = self._generation, self._house.clock.now()
        left = generation.clip_ids[generation.delivered :]
        generation.delivered += sum(isinstance(one, clip.Delivered) for one in news)
        told = [*news, *[news[-1]] * (len(left) - len(news))] if news else []
        self._count(news, ending)
        reason = next((str(one.reason) for one in news if hasattr(one, "reason")), None)
        outcome = generation.tried[-1][1] if generation.tried else None
        status = outcome.status if isinstance(outcome, Answered) else None
        end = GenerationEnd(ending, now, status, reason, words)

        def last(tx: Connection) -> None:
            if booked is not None:
                booked(tx)
            end_generation(tx, generation.id, end)

        clips = list(zip(left, told, strict=False))
        return Settlement(clips, now, words, first=self._opened(), last=last)

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
        if self._listener.dropped:
            metrics.listener_dropped()

    def _answer(self, reply: Reply | errors.ProxyError) -> None:
        if self.head.done():
            return
        if isinstance(reply, errors.ProxyError) and self._admitted:
            headers = [(name.encode(), value.encode()) for name, value in reply.headers()]
            reply = Reply(reply.status, headers, reply.body(), self._generation, reply.code)
        self.head.set_result(reply)
