"""Which gateway next: Try, Relay, Unavailable or Unanswered; gateway health as a value.

A paid POST rotates on a connection that never came about and on the statuses of
`upstream.rotate_on` (every 5xx by default: the vendor documents them as not billed), at most once
through each gateway. It never rotates on silence: what was sent and not answered may have been
accepted (decisions 1 and 2, law 7).

Health is counted from faults of the host alone: a refusal, however rude, is an answer. Enough
faults in a row open the gateway's breaker for a pause that grows; a paused gateway is still tried
when all else failed, and comes back by a free GET probe.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from proxy.core.refusal import Kind, Refusal

RotateOn = Collection[str | int]
"""`upstream.rotate_on`: "5xx" for all of them, or single statuses."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A complete head came back; `refusal` is None where it is no refusal.

    `maybe_accepted` tells that the request may be running, and be billed, in spite of the status.
    """

    status: int
    refusal: Kind | None = None
    maybe_accepted: bool = False
    retry_after_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Not one byte of the request left; `reason` is a short word for logs and metrics."""

    reason: str


@dataclass(frozen=True, slots=True)
class Silent:
    """The request was sent, or maybe was, and no complete head came back."""

    reason: str


Outcome = Answered | Unreachable | Silent

Tried = Sequence[tuple[str, Outcome]]
"""Attempts in the order they were made, each with its gateway's name."""

_TIMED_OUT: Final = frozenset({408, 499, 504, *range(520, 525)})
"""Statuses of somebody on the way who stopped waiting; the work behind may go on."""


def answered(
    status: int, refusal: Refusal | None, retry_after_seconds: int | None = None
) -> Answered:
    """The outcome of an answer whose refusal, if it is one, was read.

    A 5xx in an envelope of the vendor's is its word that nothing was accepted; a 5xx that nobody
    owns up to, and a time-out on the way, are not (decision 1).
    """
    recognised = refusal is not None and refusal.recognised
    maybe_accepted = status in _TIMED_OUT or (status >= 500 and not recognised)
    kind = refusal.kind if refusal is not None else None
    return Answered(status, kind, maybe_accepted, retry_after_seconds)


@dataclass(frozen=True, slots=True)
class Try:
    """Send the request to this gateway."""

    name: str


@dataclass(frozen=True, slots=True)
class Relay:
    """Pass on the answer of the attempt with this index."""

    index: int


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No gateway answered and nothing was sent: 502 `upstream_unavailable`."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The request may be running and nobody will say: 504 `outcome_unknown`."""

    reason: str


Step = Try | Relay | Unavailable | Unanswered


def next_step(order: Sequence[str], tried: Tried, rotate_on: RotateOn, seconds_left: float) -> Step:
    """What to do after `tried`, with `order` as `plan` gave it.

    No attempt begins when no `seconds_left` remain of the one deadline over all. When every
    gateway failed, the last real answer is passed on.
    """
    names = {name for name, _ in tried}
    rest = [name for name in order if name not in names] if seconds_left > 0 else []
    if tried:
        last = tried[-1][1]
        if isinstance(last, Silent):
            return Unanswered(last.reason)
        if isinstance(last, Answered) and not rotates(last.status, rotate_on):
            return Unanswered("maybe_accepted") if last.maybe_accepted else Relay(len(tried) - 1)
    if rest:
        return Try(rest[0])
    answers = [index for index, (_, one) in enumerate(tried) if isinstance(one, Answered)]
    return Relay(answers[-1]) if answers else Unavailable()


def rotates(status: int, rotate_on: RotateOn) -> bool:
    """Whether an answer with `status` sends the request on to the next gateway."""
    if status < 400:
        return False
    return status in rotate_on or (500 <= status <= 599 and "5xx" in rotate_on)


def maybe_bought(tried: Tried) -> int:
    """How many attempts may have been accepted without an answer of ours to show for it.

    Each books an exposure (decision 1). An answer that is being passed on as a success is metered
    and counts nothing here.
    """
    return sum(
        isinstance(outcome, Silent) or (isinstance(outcome, Answered) and outcome.maybe_accepted)
        for _, outcome in tried
    )


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When a gateway is paused, and for how long.

    `faults` in a row open the breaker for `pause_seconds` times the number of times it was opened
    since the gateway was last well, at most `pause_seconds_max`; each pause is stretched or
    shortened by up to `jitter_ratio` of itself, so that replicas do not come back in step.
    """

    faults: int
    pause_seconds: float
    pause_seconds_max: float
    jitter_ratio: float


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of one gateway; `paused_until`, in monotonic seconds, is None when it is well.

    `faults` are those in a row, `opened` the pauses since it was last well.
    """

    name: str
    faults: int = 0
    opened: int = 0
    paused_until: float | None = None
    probing: bool = False


State = Literal["closed", "open", "half_open"]

_RANK: Final[dict[State, int]] = {"closed": 0, "half_open": 1, "open": 2}


@dataclass(frozen=True, slots=True)
class Fleet:
    """The gateways' health, in the order of the configuration."""

    gateways: tuple[Health, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> Fleet:
        """All of them in good health."""
        return cls(tuple(Health(name) for name in names))


def state(health: Health, now: float) -> State:
    """Closed: in use. Open: paused. Half open: its pause is over, and a probe must say."""
    if health.paused_until is None:
        return "closed"
    return "open" if now < health.paused_until else "half_open"


def plan(fleet: Fleet, now: float) -> tuple[str, ...]:
    """Every gateway, in the order to try them: the well ones as configured, the paused ones last.

    Nobody is left out: when all are bad, all are tried.
    """
    ranked = sorted(fleet.gateways, key=lambda health: _RANK[state(health, now)])
    return tuple(health.name for health in ranked)


def observe(
    fleet: Fleet, name: str, outcome: Outcome, now: float, jitter: float, limits: BreakerLimits
) -> Fleet:
    """The fleet after `outcome` at gateway `name`; `jitter` is a number from -1 to 1.

    A fault while the gateway is paused changes nothing: it belongs to a request sent before, or to
    one that had nowhere else to go.
    """
    health = _named(fleet, name)
    fault = _is_fault(outcome)
    if fault is None:
        return fleet
    if not fault:
        return _with(fleet, Health(name, probing=health.probing))
    match state(health, now):
        case "open":
            return fleet
        case "half_open":
            return _with(fleet, _paused(health, now, jitter, limits))
        case "closed":
            counted = replace(health, faults=health.faults + 1)
            if counted.faults >= limits.faults:
                counted = _paused(counted, now, jitter, limits)
            return _with(fleet, counted)


def probe_due(fleet: Fleet, now: float) -> tuple[str, ...]:
    """The gateways whose pause is over and which nobody is asking yet."""
    return tuple(
        health.name
        for health in fleet.gateways
        if state(health, now) == "half_open" and not health.probing
    )


def begin_probe(fleet: Fleet, name: str) -> Fleet:
    """A free GET to gateway `name` is on its way."""
    return _with(fleet, replace(_named(fleet, name), probing=True))


def end_probe(
    fleet: Fleet,
    name: str,
    ok: bool,  # noqa: FBT001 - what the probe said stands where `observe` has its outcome
    now: float,
    jitter: float,
    limits: BreakerLimits,
) -> Fleet:
    """The probe of gateway `name` came back: in use again if `ok`, else paused for longer."""
    health = replace(_named(fleet, name), probing=False)
    if ok:
        return _with(fleet, Health(name))
    if state(health, now) == "half_open":
        health = _paused(health, now, jitter, limits)
    return _with(fleet, health)


def _is_fault(outcome: Outcome) -> bool | None:
    """True for a fault of the host, False for a sign of its health, None for neither."""
    if not isinstance(outcome, Answered):
        return True
    if outcome.status < 500:
        return False
    # A 5xx about a channel, a balance, a rate or a policy is the vendor's word, not the host's.
    return True if outcome.refusal in {None, Kind.SERVER, Kind.OTHER} else None


def _paused(health: Health, now: float, jitter: float, limits: BreakerLimits) -> Health:
    opened = health.opened + 1
    pause = min(limits.pause_seconds * opened, limits.pause_seconds_max)
    pause *= 1 + limits.jitter_ratio * max(-1.0, min(1.0, jitter))
    return replace(health, faults=0, opened=opened, paused_until=now + pause)


def _named(fleet: Fleet, name: str) -> Health:
    """The health of gateway `name`; a `KeyError` for a name the fleet does not have."""
    for health in fleet.gateways:
        if health.name == name:
            return health
    raise KeyError(name)


def _with(fleet: Fleet, changed: Health) -> Fleet:
    gateways = tuple(
        changed if health.name == changed.name else health for health in fleet.gateways
    )
    return Fleet(gateways)
