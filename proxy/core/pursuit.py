"""What a gateway's word about a video job means: when to ask whom next, and when the job has ended.

A job has a request of its own to the vendor once an interval, never two: at the gateway that made
it, and at the others in turn while that one is in trouble (wire facts, 10.20 and 10.22). Trouble,
of whatever kind, ends no job. It is gone only when every gateway has said so three times with no
other word of it in between (R35), and completed only with a link or bytes in hand (R13).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from proxy.core.failure import Reason
from proxy.core.job import Absent, Garbled, Job, JobState
from proxy.core.rotation import Answered, Outcome

ABSENCES: Final = 3
"""How often every gateway has to say that it does not know a job (R35)."""

GONE_AGE_SECONDS_MIN: Final = 60.0
"""A younger job is not gone: gateways learn of each other's jobs late (R35)."""

OLD_SECONDS: Final = 600.0
"""As long as the vendor says to poll (wire facts, 2.4); an older job is asked for less often."""

CONTENT_TRIES: Final = 4
"""How often `/content` is asked again soon after it had nothing yet (wire facts, 4.5)."""

CONTENT_SECONDS: Final = 4.0
"""Between those tries."""

HOMEWARD: Final = 12
"""After as many good answers of another gateway the one that made the job is tried again."""

DENIALS: Final = 3
"""How often a failure that its own words call transient is to be heard before it is believed."""

SPREAD: Final = 0.1
"""The share by which a pause is stretched at most, so that jobs do not come in step."""

_DOUBLINGS_MAX: Final = 10
_TRANSIENT: Final = re.compile("服务内部异常|internal service error", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a healthy job is asked for, the longest pause, and the age to give a job up at."""

    poll_seconds: float
    pause_seconds_max: float
    give_up_seconds: float

    @property
    def longest_seconds(self) -> float:
        """The longest pause, which is never shorter than the usual one."""
        return max(self.poll_seconds, self.pause_seconds_max)


@dataclass(frozen=True, slots=True)
class Pursuit:
    """What is known of one job, and how it is being asked for.

    `gateways` begins with the one that made it; `turn` is the next to be asked. `absences` counts
    for each gateway how often it did not know the job since any last did; `troubles` and `denials`
    those in a row, `strange` the good answers in a row of another gateway than the first, and
    `refusals` how often `/content` had nothing of the completed job. `percent` is the furthest
    progress seen; `begun` tells that the vendor is at work, `lost` that nobody knows any more.
    """

    gateways: tuple[str, ...]
    absences: tuple[int, ...]
    turn: int = 0
    troubles: int = 0
    denials: int = 0
    strange: int = 0
    refusals: int = 0
    percent: int = 0
    begun: bool = False
    lost: bool = False

    @property
    def wants_content(self) -> bool:
        """Whether the bytes of a job that has completed are asked for, not its state."""
        return 0 < self.refusals <= CONTENT_TRIES


@dataclass(frozen=True, slots=True)
class NotReady:
    """The gateway said that the job has completed, and has no bytes of it yet."""


Met = Job | Absent | Garbled | NotReady | Outcome
"""What a question met: a word about the job, or anything else that can happen to a request."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again, so many seconds after the question that was just answered."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Deliver:
    """The job has completed, and this is the link to its clip."""

    url: str


@dataclass(frozen=True, slots=True)
class FetchContent:
    """The job has completed; its clip, or a link to it, is to be had from `/content`, now."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The vendor told that there is no clip, and why in its own `words`."""

    reason: Reason
    words: str


@dataclass(frozen=True, slots=True)
class Gone:
    """Nobody knows what became of it: `why` is a word for the log. Ask again after `seconds`."""

    seconds: float
    why: str


Decision = Wait | Deliver | FetchContent | Fail | Gone


def begin(
    gateway: str,
    known: Sequence[str],
    percent: int = 0,
    *,
    begun: bool = False,
    lost: bool = False,
) -> Pursuit:
    """Follow a job that `gateway` made, of those that are `known`; it may not be one of them."""
    order = tuple(sorted(known, key=lambda name: name != gateway))
    return Pursuit(order, (0,) * len(order), percent=percent, begun=begun, lost=lost)


def whom(pursuit: Pursuit, unwell: Collection[str] = ()) -> str:
    """The gateway to ask next; one that is `unwell` only if all are, or it is asked for content."""
    names, turn = pursuit.gateways, pursuit.turn
    if names[turn] not in unwell or pursuit.wants_content:
        return names[turn]
    order = (*names[turn:], *names[:turn])
    return next((name for name in order if name not in unwell), names[turn])


def after(
    pursuit: Pursuit, asked: str, met: Met, age_seconds: float, share: float, pace: Pace
) -> tuple[Pursuit, Decision]:
    """What follows from what a question to gateway `asked` met.

    `age_seconds` is the clip's, since it was accepted. `share`, from 0 to 1, is how much of the
    spread the pause is stretched by.
    """
    here = pursuit.gateways.index(asked)
    usual = _usual(pursuit, age_seconds, share, pace)
    match met:
        case Job():
            too_old = age_seconds >= pace.give_up_seconds
            known, decision = _told(pursuit, here, met, usual, stays_lost=too_old)
        case Absent():
            known, decision = _absent(pursuit, here, usual, age_seconds, pace)
        case NotReady():
            known = replace(pursuit, turn=here, refusals=pursuit.refusals + 1)
            decision = Wait(min(CONTENT_SECONDS, pace.longest_seconds))
            if not known.wants_content:  # another may have what this one never will
                following = (here + 1) % len(pursuit.gateways)
                known, decision = replace(known, turn=following), Wait(usual)
        case _:
            known, decision = _troubled(pursuit, here, met, usual, pace)
    if isinstance(decision, Wait) and not known.lost and age_seconds >= pace.give_up_seconds:
        return replace(known, lost=True), Gone(pace.longest_seconds, "too_old")
    return known, decision


def _usual(pursuit: Pursuit, age_seconds: float, share: float, pace: Pace) -> float:
    """The pause after a good answer: longer for a job that is old, the longest for a lost one."""
    if pursuit.lost:
        return pace.longest_seconds
    stretched = 1 + SPREAD * max(0.0, min(1.0, share))
    older = max(1.0, age_seconds / OLD_SECONDS)
    return min(pace.poll_seconds * older * stretched, pace.longest_seconds)


def _told(
    pursuit: Pursuit, here: int, job: Job, usual: float, *, stays_lost: bool
) -> tuple[Pursuit, Decision]:
    """A gateway knows the job; `stays_lost` when only its end is still worth knowing."""
    heard = _heard(pursuit, here)
    if job.state is JobState.COMPLETED:
        completed = replace(heard, denials=0, turn=here)
        return completed, Deliver(job.url) if job.url else FetchContent()
    if job.state is JobState.FAILED:
        if _TRANSIENT.search(job.words) and pursuit.denials + 1 < DENIALS:
            return replace(heard, denials=pursuit.denials + 1), Wait(usual)
        return heard, Fail(job.reason or Reason.VENDOR_ERROR, job.words)
    lost = pursuit.lost and stays_lost
    found = pursuit.lost and not lost
    changed = (
        max(pursuit.percent, job.percent),
        pursuit.begun or found or job.state is JobState.IN_PROGRESS or job.percent > 0,
        lost,
    )
    calm = not (heard.denials or heard.refusals)
    if calm and changed == (heard.percent, heard.begun, heard.lost):
        return heard, Wait(usual)  # most answers bring no news, and ten thousand jobs have many
    percent, begun, _ = changed
    known = replace(heard, percent=percent, begun=begun, lost=lost, denials=0, refusals=0)
    return known, Wait(usual)


def _heard(pursuit: Pursuit, here: int) -> Pursuit:
    """`pursuit` after any word about the job; it goes on where it was heard, or homeward."""
    strange = pursuit.strange + 1 if here else 0
    turn = here
    if strange >= HOMEWARD:
        turn, strange = 0, 0
    calm = not pursuit.troubles and not any(pursuit.absences)
    if calm and (turn, strange) == (pursuit.turn, pursuit.strange):
        return pursuit
    nowhere = (0,) * len(pursuit.gateways)
    return replace(pursuit, turn=turn, strange=strange, troubles=0, absences=nowhere)


def _absent(
    pursuit: Pursuit, here: int, usual: float, age_seconds: float, pace: Pace
) -> tuple[Pursuit, Decision]:
    counts = pursuit.absences
    absences = (*counts[:here], counts[here] + 1, *counts[here + 1 :])
    turn = (here + 1) % len(counts)
    known = replace(pursuit, absences=absences, turn=turn, strange=0, refusals=0)
    everywhere = all(count >= ABSENCES for count in absences)
    if everywhere and age_seconds >= GONE_AGE_SECONDS_MIN and not pursuit.lost:
        return replace(known, lost=True), Gone(pace.longest_seconds, "absent")
    return known, Wait(usual)


def _troubled(
    pursuit: Pursuit, here: int, met: Garbled | Outcome, usual: float, pace: Pace
) -> tuple[Pursuit, Decision]:
    """No word about the job: the next gateway is asked, later and later while troubles go on."""
    turn = (here + 1) % len(pursuit.gateways)
    known = replace(pursuit, troubles=pursuit.troubles + 1, turn=turn, strange=0, refusals=0)
    pause = min(usual * 2 ** min(pursuit.troubles, _DOUBLINGS_MAX), pace.longest_seconds)
    asked_for = met.retry_after_seconds if isinstance(met, Answered) else None
    wished = min(asked_for or 0, pace.longest_seconds)
    return known, Wait(max(pause, wished))
