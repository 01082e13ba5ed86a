"""admit → rotate → read → follow: one video job, handed over to the follower, or ended at once.

The vendor answers a new job with its own name for it. That name, and who asks about it from now
on, are durable before the caller hears of it, so that no job can run without being followed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from proxy import errors
from proxy.core import clip
from proxy.core.acceptance import Accepted, Over, Untold, read_acceptance
from proxy.core.caller import Caller
from proxy.core.encoding import Decoder
from proxy.core.failure import Reason
from proxy.core.headers import forward, value_of
from proxy.core.replay import fingerprint_video
from proxy.core.rotation import Answered
from proxy.core.submission import submission
from proxy.core.video_request import VideoRequest
from proxy.flows.admit import quote
from proxy.flows.claim import read_claim
from proxy.flows.generation import Ask, Generation
from proxy.flows.house import House
from proxy.flows.paid import PaidRun
from proxy.flows.reply import CallerGone, Headers, Reply, as_json
from proxy.flows.rotate import account_trouble, attempt_end
from proxy.flows.settle import Settlement, Write
from proxy.flows.videos import view
from proxy.remote.answer import Answer, Ending
from proxy.remote.gateway import Call
from proxy.store.database import Connection
from proxy.store.jobs import JobRow, add_job, find_job, note_progress
from proxy.store.videos import VideoRow, find_video

PATH: Final = "/v1/videos"

PROMPT_CHARS_MAX: Final = 32_000
"""The longest prompt that is kept for its tenant; OpenAI takes none that is longer."""


async def submit(
    house: House,
    caller: Caller,
    request: VideoRequest,
    headers: Headers,
    gone: Callable[[], Awaitable[bool]],
    link_base: str | None,
) -> Reply:
    """Buy the video that `request` wants, unless it was; answer as soon as a gateway has the job.

    `headers` are the caller's. `gone` tells whether the caller has left: then nothing is bought,
    but only until the intent is written. Signed links in the answer begin with `link_base`. Raises
    `CallerGone`, and `ProxyError` where nothing was written.
    """
    # Whatever `n` says, the vendor makes one clip of a job (wire facts, 10.12).
    ask = Ask("video", request.model, request.asked_model, clips=1, stream=False)
    generation = quote(house, caller, ask, read_claim(house.config, headers))
    prompt = request.prompt if len(request.prompt) <= PROMPT_CHARS_MAX else None
    # Two images are ten megabytes to copy and digest: others are served meanwhile.
    content_type, body, generation.body_hash = await asyncio.to_thread(_written, request)
    del request  # its images are in the body now
    if await gone():
        raise CallerGone
    run = VideoRun(house, generation, link_base)
    run.begin(Call("POST", PATH, tuple(forward(headers)), body, content_type), prompt)
    del body, prompt  # not kept while the answer runs
    return await run.reply()


def _written(request: VideoRequest) -> tuple[str, bytes, str]:
    """The content type, the body and the fingerprint of what is sent for `request`."""
    content_type, body = submission(request)
    return content_type, body, fingerprint_video(body)


class VideoRun(PaidRun):
    """One video job from its admission until it is followed, or ended."""

    opened_as = clip.Queued()

    def __init__(self, house: House, generation: Generation, link_base: str | None) -> None:
        """`link_base` is for the links in the reply."""
        super().__init__(house, generation, link_base)
        self._row: VideoRow | None = None
        self._job: JobRow | None = None

    @property
    def _clip_id(self) -> str:
        return self._generation.clip_ids[0]

    async def _read(self, answer: Answer) -> None:
        house, generation = self._house, self._generation
        body, whole = await read_whole(answer, house.config.limits.job_bytes_max)
        content_type = value_of(answer.headers, b"content-type") or ""
        meaning = read_acceptance(answer.status, content_type, body)
        outcome = Answered(answer.status)
        match meaning:
            case Accepted():
                generation.upstream_id = meaning.id
                booked = attempt_end(house, generation, outcome)
                durable = await self._end(self._followed(meaning, booked))
                self._answer(self._reply(durable=durable))
            case Over():
                generation.upstream_id = meaning.id
                barren = 0 if meaning.refusal is None else 1
                booked = self._shown(attempt_end(house, generation, outcome, barren))
                refusal = meaning.refusal
                ours = None if refusal is None else account_trouble(generation, refusal)
                ended = self._last([meaning.news], "told", meaning.words, booked, ours)
                durable = await self._end(ended)
                self._answer((durable and ours) or self._reply(durable=durable))
            case Untold():
                booked = attempt_end(house, generation, outcome)
                lost = self._last([clip.Lost(Reason.LOST)], "untold", meaning.words, booked)
                known = await self._end(lost) and whole
                unknown = errors.upstream_invalid if known else errors.outcome_unknown
                self._answer(unknown(generation.id))

    def _followed(self, accepted: Accepted, booked: Write) -> Settlement:
        """The settlement that makes the job's name durable, and the job ours to follow."""
        house, generation, now = self._house, self._generation, self._house.clock.now()
        clip_id, gateway, owner = self._clip_id, generation.gateway, house.process_id
        shown = self._shown(booked)

        def last(tx: Connection) -> None:
            add_job(tx, clip_id, gateway, accepted.id, owner, now)
            note_progress(tx, [(clip_id, 0, accepted.percent)])
            self._job = find_job(tx, clip_id, owner)
            shown(tx)

        begun: list[tuple[str, clip.Event]] = []
        if accepted.running:
            begun.append((clip_id, clip.Progressed(accepted.percent)))
        return Settlement(begun, now, first=self._opened(), last=last, then=self._follow)

    def _follow(self) -> None:
        self._house.standings.forget(self._clip_id)
        if self._job is not None:
            self._house.follower.follow(self._job)

    def _shown(self, booked: Write) -> Write:
        """`booked`, and a look at what the clip has become, for the reply."""

        def write(tx: Connection) -> None:
            booked(tx)
            self._row = find_video(tx, self._generation.caller.tenant_id, self._clip_id)

        return write

    def _reply(self, *, durable: bool) -> Reply | errors.ProxyError:
        """The video as it was written; an error that says so if it was not written in time."""
        if not durable or self._row is None:
            return errors.outcome_unknown(self._generation.id)
        headers, body = as_json(view(self._house, self._row, self._link_base))
        return Reply(200, headers, body, self._generation)


async def read_whole(answer: Answer, bytes_max: int) -> tuple[bytes, bool]:
    """The answer's decoded body, as far as it came, and whether that is all of it.

    What is longer than `bytes_max` is cut there.
    """
    decoder = Decoder(value_of(answer.headers, b"content-encoding"), bytes_max)
    body = bytearray()
    async for chunk in answer:
        body += decoder.feed(chunk)
        if len(body) > bytes_max or decoder.broken:
            answer.close()
    return bytes(body[:bytes_max]), answer.ending is Ending.COMPLETE and not decoder.broken
