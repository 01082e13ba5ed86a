"""An answer given again for free: what an earlier request means for the one that repeats it.

A request that names an earlier one, that an SDK sent again by itself, or for which an identical
answer will do, buys nothing while the earlier one has something to give: its caller listens to the
run that is under way, or gets the kept answer, the video as it stands, or an error that says what
is known (decision 8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from proxy import errors
from proxy.core.clip import FINAL, State
from proxy.core.headers import STREAMING
from proxy.core.replay import Earlier, Meaning, Standing, Why, meaning
from proxy.core.retelling import Retelling
from proxy.flows.admit import take_hold
from proxy.flows.generation import Generation, named
from proxy.flows.house import House
from proxy.flows.listener import Listener
from proxy.flows.reply import Headers, Repeats, Reply, as_json, error_code, raw, told
from proxy.flows.videos import signed_link, view
from proxy.store.answers import KeptAnswer, find_answer
from proxy.store.clips import ClipRow, clips_of
from proxy.store.database import Connection, LedgerUnavailable
from proxy.store.earlier import unname
from proxy.store.generations import GenerationRow, UpstreamIds, find_generation
from proxy.store.replay import find_standing
from proxy.store.videos import VideoRow, find_video

if TYPE_CHECKING:
    from proxy.flows.paid import PaidRun

HIT: Final = "clipmeter; hit"
COLLAPSED: Final = "clipmeter; fwd=miss; collapsed"
"""What `cache-status` says of an answer that was kept, and of one that is shared (RFC 9211)."""

_REPLAYED: Final = (b"idempotency-replayed", b"true")


@dataclass(frozen=True, slots=True)
class Repeat:
    """An earlier generation as it stood when a request turned out to repeat it.

    `run` is its run, where that is in this process; `videos` has those of its `clips` that were not
    deleted; `answer` is there if it is to be given again byte for byte.
    """

    earlier: Earlier
    meaning: Meaning
    standing: Standing
    row: GenerationRow
    clips: Sequence[ClipRow]
    videos: Sequence[VideoRow]
    run: PaidRun | None = None
    answer: KeptAnswer | None = None

    @property
    def delivered(self) -> int:
        """How many of its clips were delivered."""
        return self.standing.states.count(State.DELIVERED)

    def headers(self, cache_status: str = "") -> Headers:
        """The headers that name it, as they named it the first time."""
        row = self.row
        ids = UpstreamIds(row.upstream_request_id, row.upstream_origin_request_id, row.upstream_id)
        clip_ids = [clip.id for clip in self.clips]
        where = (row.gateway, row.attempts)
        return [*raw(named(row.id, clip_ids, where, ids, cache_status)), *self.marks]

    @property
    def marks(self) -> Headers:
        """The header by which a caller knows that it was not the first; who reuses knows anyway."""
        return [] if self.earlier.why is Why.REUSE else [_REPLAYED]


async def admitted(house: House, generation: Generation, prompt: str | None) -> Repeat | None:
    """Write the intent of `generation`; or find what it repeats, and write nothing.

    Raises `ProxyError` for a request that is refused, of which nothing was written.
    """
    claim = generation.claim
    while True:
        earlier = await take_hold(house, generation, claim, prompt)
        if earlier is None:
            if generation.claim.asks:
                house.metrics.cache_asked("replay", "miss")
            return None
        repeat = await _look(house, generation, earlier)
        if repeat.meaning is not Meaning.NEW:
            return repeat
        # It has nothing to give after all: asked for in this way, nothing else has either.
        await _part(house, generation, earlier)
        retried = earlier.why is Why.RETRY
        claim = replace(claim, retry_count=0) if retried else replace(claim, reuse=False)


async def _part(house: House, generation: Generation, earlier: Earlier) -> None:
    """Take from an earlier request, which has nothing to give, the name that it was just given."""
    key, mode = generation.claim.key, generation.ask.mode
    if key is None or earlier.why is not Why.REUSE:
        return
    tenant_id, of = generation.caller.tenant_id, earlier.generation_id
    try:
        await house.database.write(lambda tx: unname(tx, tenant_id, mode, key, of))
    except LedgerUnavailable:
        raise errors.ledger_unavailable() from None


async def _look(house: House, generation: Generation, earlier: Earlier) -> Repeat:
    tenant_id, now = generation.caller.tenant_id, house.clock.now()
    # Alone with its database a process knows that all others are dead, whatever they last said.
    alone = house.config.database.url is None
    silent = timedelta(days=-1) if alone else timedelta(seconds=house.config.limits.orphan_seconds)
    dead_before = now - silent
    # Before the database is asked: a run that ends meanwhile can be listened to all the same.
    run = house.runs.get(earlier.generation_id)

    def read(tx: Connection) -> Repeat:
        standing = find_standing(tx, tenant_id, earlier.generation_id, now, dead_before)
        row = find_generation(tx, tenant_id, earlier.generation_id)
        assert standing is not None
        assert row is not None
        standing = replace(standing, here=run is not None and run.can_be_joined)
        means = meaning(earlier, standing)
        clips = clips_of(tx, row.id)
        videos = [find_video(tx, tenant_id, clip.id) for clip in clips]
        answer = None
        if means is Meaning.REPLAY:
            answer = find_answer(tx, tenant_id, row.id, now)
        there = [video for video in videos if video is not None]
        return Repeat(earlier, means, standing, row, clips, there, run, answer)

    try:
        return await house.database.read(read)
    except LedgerUnavailable:
        raise errors.ledger_unavailable() from None


async def again(
    house: House, generation: Generation, repeat: Repeat, link_base: str | None
) -> Reply:
    """What the caller of `generation`, which repeats another, gets for it.

    Signed links begin with `link_base`. Raises `ProxyError` for a key of another body.
    """
    if repeat.meaning is Meaning.REUSED:
        raise errors.idempotency_key_reused()
    if repeat.meaning is Meaning.JOIN:
        return await _join(house, generation, repeat)
    refusal = _refusal(repeat)
    if refusal is not None:
        return _told(generation, repeat, refusal)
    house.metrics.cache_asked("replay", "hit")
    house.savings.book(generation, repeat.earlier, _awaited(repeat))
    match repeat.meaning:
        case Meaning.REPLAY:
            return _as_before(generation, repeat)
        case Meaning.REMAKE:
            return _afresh(house, generation, repeat, link_base)
        case _:
            return _as_it_stands(house, generation, repeat, link_base)


async def _join(house: House, generation: Generation, repeat: Repeat) -> Reply:
    """The reply of a run that is under way, as soon as there is one, and all of its answer."""
    run = repeat.run
    assert run is not None
    reply = await run.reply()
    body = reply.body
    if isinstance(body, Listener):
        listener = run.join()
        if listener is None:  # too much to be kept was said meanwhile
            return _told(generation, repeat, errors.idempotency_in_progress())
        body = listener
    house.metrics.cache_asked("replay", "collapsed")
    house.savings.book(generation, repeat.earlier, _awaited(repeat), run.over)
    headers = reply.headers + raw(run.generation.headers())
    return Reply(
        reply.status,
        [*_with(headers, COLLAPSED), *repeat.marks],
        body,
        generation,
        reply.code,
        _of(repeat),
    )


def _refusal(repeat: Repeat) -> errors.ProxyError | None:
    match repeat.meaning:
        case Meaning.IN_PROGRESS:
            return errors.idempotency_in_progress()
        case Meaning.UNKNOWN:
            return errors.outcome_unknown(repeat.row.id)
        case Meaning.GONE:
            return errors.answer_gone(repeat.row.id, delivered=repeat.delivered > 0)
        case _:
            return None


def _told(generation: Generation, repeat: Repeat, refusal: errors.ProxyError) -> Reply:
    reply = told(refusal, generation)
    return replace(reply, headers=reply.headers + repeat.headers(), repeats=_of(repeat))


def _as_before(generation: Generation, repeat: Repeat) -> Reply:
    """The kept answer, byte for byte."""
    answer = repeat.answer
    assert answer is not None
    headers = [*_with(list(answer.headers), HIT), *repeat.marks]
    code = error_code(answer.body) if answer.status >= 400 else ""
    return Reply(answer.status, headers, answer.body, generation, code, _of(repeat))


def _afresh(house: House, generation: Generation, repeat: Repeat, link_base: str | None) -> Reply:
    """A new answer of the kept clips, in the form that was asked for."""
    row = repeat.row
    links = {
        video.id: signed_link(house, video, link_base or "")
        for video in repeat.videos
        if video.state is State.DELIVERED
    }
    retelling = Retelling(
        id=f"chatcmpl-{row.id.partition('_')[2]}",
        model=row.asked_model,
        created=int(row.accepted_at.timestamp()),
        links=[links.get(clip.id) for clip in repeat.clips],
    )
    headers = repeat.headers(HIT)
    if row.stream:
        kind = (b"content-type", b"text/event-stream")
        body = retelling.stream()
        return Reply(200, [kind, *STREAMING, *headers], body, generation, repeats=_of(repeat))
    kind = (b"content-type", b"application/json")
    body = retelling.completion()
    return Reply(200, [kind, *headers], body, generation, repeats=_of(repeat))


def _as_it_stands(
    house: House, generation: Generation, repeat: Repeat, link_base: str | None
) -> Reply:
    """The video that the earlier request ordered."""
    (row,) = repeat.videos
    headers, body = as_json(view(house, row, link_base))
    headers += repeat.headers(HIT)
    return Reply(200, headers, body, generation, repeats=_of(repeat))


def _with(headers: Headers, cache_status: str) -> Headers:
    """`headers` under another `cache-status`."""
    kept = [one for one in headers if one[0] != b"cache-status"]
    return [*kept, (b"cache-status", cache_status.encode())]


def _of(repeat: Repeat) -> Repeats:
    return Repeats(repeat.row.id, repeat.earlier.why, repeat.delivered)


def _awaited(repeat: Repeat) -> str | None:
    """The clip that is still being made, of a video."""
    if repeat.row.mode != "video" or FINAL & {*repeat.standing.states}:
        return None
    return repeat.clips[0].id
