"""admit → rotate → pump → settle: one chat request, whether or not its caller stays.

All of it runs in a task of the application's. The caller holds the other end of a listener, and
nothing that happens to the caller changes what is metered (law 3).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

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
from proxy.core.rotation import Answered
from proxy.flows.admit import quote
from proxy.flows.audience import Audience
from proxy.flows.claim import fingerprint, read_claim
from proxy.flows.generation import Ask, Generation
from proxy.flows.house import House
from proxy.flows.listener import Listener
from proxy.flows.paid import PaidRun
from proxy.flows.reply import CallerGone, Headers, Reply
from proxy.flows.rotate import account_trouble, attempt_end
from proxy.flows.settle import Settlement
from proxy.remote.answer import Answer, Ending
from proxy.remote.gateway import Call

PATH = "/v1/chat/completions"


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
    link_base: str,
) -> Reply:
    """Buy what `request` wants, unless it was bought before; answer as soon as a gateway does.

    `headers` are the caller's. `gone` tells whether the caller has left: then nothing is bought,
    but only until the intent is written. Signed links, in an answer that is made afresh, begin with
    `link_base`. Raises `CallerGone`, and `ProxyError` where nothing was written.
    """
    ask = Ask("chat", request.model, request.asked_model, request.clips, request.stream)
    generation = quote(house, caller, ask, read_claim(house.config, headers))
    generation.body_hash = await fingerprint(request.body)
    if await gone():
        raise CallerGone
    run = ChatRun(house, generation, request.texts, link_base)
    # The vendor must read the body as we did, whatever the caller called it (decision 19).
    call = Call("POST", PATH, tuple(forward(headers)), request.body, "application/json")
    run.begin(call)
    del request, call  # a body with images is not kept while its answer runs
    return await run.reply()


class ChatRun(PaidRun):
    """One chat request from its admission to its last settlement."""

    opened_as = clip.Opened()

    def __init__(
        self, house: House, generation: Generation, texts: tuple[str, ...], link_base: str | None
    ) -> None:
        """`texts` are the request's, in which no link counts; `link_base` is for links of ours."""
        super().__init__(house, generation, link_base)
        self._asked = Asked(texts)
        limits = house.config.limits
        # The vendor echoes the prompt, each character in up to six bytes of JSON.
        echo_bytes = 6 * sum(map(len, texts))
        self._audience = Audience(
            limits.listener_bytes_max + echo_bytes,
            house.config.replay.answer_bytes_max,
            limits.listeners_max,
        )

    @property
    def can_be_joined(self) -> bool:
        """Whether somebody who repeats the request can have all of its answer."""
        return self._audience.can_be_joined

    def join(self) -> Listener | None:
        """A further listener to a streamed answer, from its first byte; None if that is gone."""
        return self._audience.join()

    def _close(self) -> None:
        self._audience.end(broken=True)
        if self._audience.dropped:
            self._house.metrics.listener_dropped(self._audience.dropped)
        super()._close()

    async def _read(self, answer: Answer) -> None:
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
            self._answer(Reply(answer.status, headers, self._audience.first, generation))
            self._house.background.start(f"{generation.id} opened", self._settle([]))
        encoded: list[bytes] = []
        held_bytes = 0
        async for chunk in answer:
            reading = meter.feed(decoder.feed(chunk))
            if reading.links and not await self._charge(reading.links):
                self._audience.end(broken=True)  # what is not durable is not announced (law 4)
            if decoder.plain:
                await self._audience.offer(reading.passed, between=meter.between_events)
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
        reply: Reply | errors.ProxyError | None
        # An end that only the closed connection told, of an answer that said nothing, is a break.
        ends_well = whole and (answer.framed or verdict.told)
        if streamed:
            reply = self._streamed(answer, verdict) if ends_well else None
        else:
            reply = self._unary(answer, verdict, whole=whole)
        last = self._last(news, ending, verdict.words, booked, reply)
        durable = await self._end(last)
        if verdict.surplus:
            self._house.metrics.surplus_links(verdict.surplus)
        if reply is not None and not streamed:
            self._answer(reply if durable else errors.outcome_unknown(generation.id))
            return
        if durable or not verdict.links:
            await self._audience.offer(verdict.passed, between=False)
        self._audience.end(broken=not (ends_well and durable))

    def _streamed(self, answer: Answer, verdict: Verdict) -> Reply | None:
        """The whole of a streamed answer, as it is kept; None for one that is too long for that."""
        said = self._audience.whole(verdict.passed)
        if said is None:
            return None
        headers = backward(answer.headers, streamed=True)
        return Reply(answer.status, headers, said, self._generation)

    def _unary(self, answer: Answer, verdict: Verdict, *, whole: bool) -> Reply | errors.ProxyError:
        """A whole body is passed on as it came; anything less is an error that says so."""
        generation = self._generation
        if answer.ending is not Ending.COMPLETE:
            return errors.outcome_unknown(generation.id)
        delivered = generation.delivered + len(verdict.links)
        if not whole or not (verdict.told or delivered):
            return errors.upstream_invalid(generation.id)
        if not delivered:
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
