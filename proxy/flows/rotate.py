"""A paid POST through the gateways: one attempt at a time, each a row, until one answers.

What to do next is decided in `core.rotation`; here it is done. The row of an attempt is durable
before its first byte is sent (law 4), and says how the one before it ended.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy import errors
from proxy.core import clip
from proxy.core.failure import Reason, classify
from proxy.core.headers import UpstreamIds, backward, parse_retry_after, upstream_ids, value_of
from proxy.core.refusal import Kind, Refusal, read_refusal
from proxy.core.rotation import (
    Answered,
    Outcome,
    Relay,
    Try,
    Unanswered,
    Unavailable,
    Unreachable,
    answered,
    maybe_bought,
    next_step,
)
from proxy.core.wire import sound
from proxy.flows.generation import Generation, Mode
from proxy.flows.house import House
from proxy.flows.settle import Write
from proxy.logs import event
from proxy.remote.answer import Answer
from proxy.remote.gateway import Call, Deadlines, Opened
from proxy.store.database import Connection, LedgerUnavailable
from proxy.store.generations import AttemptEnd, begin_attempt, end_attempt

_REASONS = {
    Kind.BAD_REQUEST: Reason.BAD_REQUEST,
    Kind.RATE: Reason.VENDOR_CAPACITY,
    Kind.NO_CHANNEL: Reason.VENDOR_CAPACITY,
    Kind.AUTH: Reason.VENDOR_ACCOUNT,
    Kind.GROUP: Reason.VENDOR_ACCOUNT,
    Kind.BALANCE: Reason.VENDOR_ACCOUNT,
}


@dataclass(frozen=True, slots=True)
class Passed:
    """The vendor's own refusal, to be passed on as it came."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answering:
    """A gateway is answering; `end` will book how the attempt ended."""

    gateway: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Ended:
    """No gateway took the request, or nobody can say.

    `news` is true of every clip, `write` books the last attempt, `reply` is for the caller.
    """

    news: clip.Refused | clip.Lost
    reply: Passed | errors.ProxyError
    write: Write | None
    words: str = ""


@dataclass(frozen=True, slots=True)
class _Turned:
    """One attempt that did not open: what it met, and what the vendor sent with it."""

    outcome: Outcome
    refusal: Refusal | None = None
    answer: Passed | None = None
    ids: UpstreamIds | None = None


async def rotate(house: House, generation: Generation, call: Call) -> Answering | Ended:
    """Send `call` to one gateway after the other as `core.rotation` says; one deadline over all.

    The admission wrote the row of the first attempt.
    """
    turned: list[_Turned] = []
    while True:
        left = generation.deadline - house.clock.monotonic()
        step = next_step(
            generation.gateways, generation.tried, house.config.upstream.rotate_on, left
        )
        if not isinstance(step, Try):
            return _end(house, generation, step, turned)
        if turned:
            begun = await _rotate_to(house, generation, step.name, turned[-1])
            if not begun:
                return _ledger_gone(house, generation, turned)
        met = await _attempt(house, generation, step.name, call)
        if isinstance(met, Answering):
            return met
        turned.append(met)


def attempt_end(
    house: House, generation: Generation, outcome: Outcome, barren_clips: int = 0
) -> Write:
    """The write that books how the latest attempt ended.

    An attempt that may have been accepted books an exposure of every clip at list price; one that
    was answered with success books the `barren_clips` it brought no link to (law 7).
    """
    number, now = len(generation.tried), house.clock.now()
    bought = maybe_bought([("", outcome)])
    exposed = len(generation.clip_ids) if bought else barren_clips
    exposure_micros = exposed * generation.price.list_micros
    if exposure_micros:
        house.metrics.exposed(exposure_micros)
    status = outcome.status if isinstance(outcome, Answered) else None
    end = AttemptEnd(
        outcome=type(outcome).__name__.lower(),
        now=now,
        status=status,
        reason=None if isinstance(outcome, Answered) else outcome.reason,
        maybe_accepted=bool(bought),
        exposure_micros=exposure_micros,
        ids=generation.upstream_row(),
    )
    return lambda tx: end_attempt(tx, generation.id, number, end)


async def _attempt(
    house: House, generation: Generation, name: str, call: Call
) -> Answering | _Turned:
    began = house.clock.monotonic()
    deadlines = within(house, generation.deadline - began, generation.ask.mode)
    met = await house.gateways.open(house.addresses[name], call, deadlines=deadlines)
    answer, refusal, passed = None, None, None
    outcome: Outcome
    if isinstance(met, Opened):
        answer = met.answer
        generation.upstream = upstream_ids(answer.headers)
        if 200 <= answer.status < 300:
            outcome = Answered(answer.status)
        else:
            refusal, passed = await _read_refusal(house, answer)
            wait = parse_retry_after(value_of(answer.headers, b"retry-after"), house.clock.now())
            outcome = answered(answer.status, refusal, wait)
    else:
        outcome = met
    generation.tried.append((name, outcome))
    house.fleet.observe(name, outcome)
    house.metrics.attempted(name, generation.ask.mode, outcome, house.clock.monotonic() - began)
    if answer is not None and refusal is None:
        return Answering(name, answer)
    return _Turned(outcome, refusal, passed, generation.upstream)


def within(house: House, seconds_left: float, mode: Mode = "chat") -> Deadlines:
    """The limits of one attempt, of which `seconds_left` is the last.

    A new job is answered at once, a chat request perhaps not before its clips are made.
    """
    limits = house.config.limits
    head = limits.submit_head_seconds_max if mode == "video" else limits.head_seconds_max
    return Deadlines(
        connect_seconds=limits.connect_seconds_max,
        write_seconds=limits.send_seconds_max,
        head_seconds=head,
        stall_seconds=limits.stall_seconds_max,
        total_seconds=seconds_left,
    )


async def _read_refusal(house: House, answer: Answer) -> tuple[Refusal, Passed]:
    limits = house.config.limits
    body = await answer.read_refusal_body(limits.error_bytes_max)
    content_type = value_of(answer.headers, b"content-type") or ""
    refusal = read_refusal(answer.status, content_type, body)
    return refusal, Passed(answer.status, backward(answer.headers), body)


async def _rotate_to(house: House, generation: Generation, name: str, last: _Turned) -> bool:
    """Book the attempt that failed and the next one; False when that could not be made durable."""
    previous, outcome = generation.tried[-1]
    end = attempt_end(house, generation, outcome)
    number, now = len(generation.tried) + 1, house.clock.now()

    def write(tx: Connection) -> None:
        end(tx)
        begin_attempt(tx, generation.id, number, name, now)

    try:
        await house.database.write(write)
    except LedgerUnavailable:
        return False
    reason = "refused" if last.refusal is not None else "unreachable"
    house.metrics.rotated(previous, name, reason)
    if maybe_bought([generation.tried[-1]]):
        house.metrics.maybe_bought_twice(len(generation.clip_ids))
    event("rotated", generation=generation.id, gateway=previous, reason=reason)
    return True


def _ledger_gone(house: House, generation: Generation, turned: list[_Turned]) -> Ended:
    """The next attempt may not be sent without its row: the request ends here, unsent."""
    reason = _reason(turned[-1])
    end = attempt_end(house, generation, generation.tried[-1][1])
    reply = errors.ledger_unavailable()
    if maybe_bought(generation.tried):
        reply = errors.upstream_unavailable(generation.id, maybe_accepted=True)
    return Ended(clip.Refused(reason), reply, end)


def _end(
    house: House,
    generation: Generation,
    step: Relay | Unavailable | Unanswered,
    turned: list[_Turned],
) -> Ended:
    bought = maybe_bought(generation.tried) > 0
    write = attempt_end(house, generation, generation.tried[-1][1]) if turned else None
    match step:
        case Unanswered():
            reply = errors.outcome_unknown(generation.id)
            return Ended(clip.Lost(Reason.LOST), reply, write, step.reason)
        case Unavailable():
            reply = errors.upstream_unavailable(generation.id, maybe_accepted=bought)
            return Ended(clip.Refused(Reason.UNREACHABLE), reply, write)
        case Relay(index):
            one = turned[index]
            generation.upstream = one.ids or UpstreamIds()
            words = sound(one.refusal.message) if one.refusal is not None else ""
            return Ended(
                clip.Refused(_reason(one)), _reply(generation, one, bought=bought), write, words
            )


def account_trouble(generation: Generation, refusal: Refusal) -> errors.ProxyError | None:
    """The error for a refusal of our own key or account, whose words stay with us (decision 21)."""
    if refusal.kind not in {Kind.AUTH, Kind.GROUP, Kind.BALANCE}:
        return None
    event("vendor_account", generation=generation.id, reason=refusal.kind, words=refusal.message)
    unsure_of = generation.id if maybe_bought(generation.tried) else ""
    if refusal.kind is Kind.BALANCE:
        return errors.upstream_balance(unsure_of)
    return errors.upstream_auth(unsure_of)


def _reply(generation: Generation, one: _Turned, *, bought: bool) -> Passed | errors.ProxyError:
    """What the caller is told: the vendor's words only where they are about the caller (21)."""
    assert one.refusal is not None
    assert one.answer is not None
    ours = account_trouble(generation, one.refusal)
    if ours is not None:
        return ours
    kind = one.refusal.kind
    status = one.answer.status
    if status < 400 or (status < 500 and not one.refusal.recognised):
        return errors.upstream_invalid(generation.id)
    retry = kind is Kind.RATE and status == 429 and not bought
    assert isinstance(one.outcome, Answered)
    seconds = one.outcome.retry_after_seconds
    headers = [(name, value) for name, value in one.answer.headers if name != b"retry-after"]
    headers.append((b"x-should-retry", b"true" if retry else b"false"))
    if retry:
        headers.append((b"retry-after", str(15 if seconds is None else seconds).encode()))
    return Passed(status, headers, one.answer.body)


def _reason(one: _Turned) -> Reason:
    if one.refusal is None:
        return Reason.UNREACHABLE if isinstance(one.outcome, Unreachable) else Reason.LOST
    if one.refusal.kind is Kind.POLICY:
        found = classify(f"{one.refusal.code} {one.refusal.message}")
        return found if found.startswith("policy") else Reason.POLICY_OTHER
    return _REASONS.get(one.refusal.kind, Reason.VENDOR_ERROR)
