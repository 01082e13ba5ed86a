"""The life of a clip: states, events, one transition table.

The table is the one in the architecture's "Clip states". A final state never changes again: news
that comes later (a delivery found after a write-off, say) is an `Impossible`, which the caller of
`advance` lists for the operator and never charges to a tenant.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from proxy.core.failure import Reason


class State(StrEnum):
    """Where a clip stands; the values are what the database and the exports say."""

    ACCEPTED = "accepted"
    GENERATING = "generating"
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    UNKNOWN = "unknown"
    DELIVERED = "delivered"
    FAILED = "failed"
    WRITTEN_OFF = "written_off"
    REPLAYED = "replayed"


OPEN: Final = frozenset({State.ACCEPTED, State.GENERATING, State.QUEUED, State.IN_PROGRESS})
"""The vendor may be rendering; the clip counts as in flight."""

UNSETTLED: Final = OPEN | {State.UNKNOWN}
"""The clip's hold is still open."""

FINAL: Final = frozenset(State) - UNSETTLED

LINK_LIFE: Final = timedelta(hours=24)
"""How long the vendor keeps a clip and its link, from the clip's end on (vendor page)."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A gateway began to answer a chat request."""


@dataclass(frozen=True, slots=True)
class Queued:
    """A gateway accepted a video job."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The vendor, or every gateway, said no before any clip was begun."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Progressed:
    """The vendor reported progress, in percent (0 to 100)."""

    percent: float


@dataclass(frozen=True, slots=True)
class Delivered:
    """A link to the clip, or its bytes, are in our hands.

    `url` is empty for bytes that only the vendor's `/content` gives, to whoever has our key.
    """

    url: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The vendor told us that there is no clip."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Lost:
    """Nobody told us how it ended."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Found:
    """What the follower or the reconciler learned of an unknown clip."""

    outcome: Progressed | Delivered | Failed


@dataclass(frozen=True, slots=True)
class GaveUp:
    """Nothing was found in time; the hold is released and the possible loss listed."""


Event = Opened | Queued | Refused | Progressed | Delivered | Failed | Lost | Found | GaveUp


@dataclass(frozen=True, slots=True)
class Impossible:
    """News that the table does not allow: recorded and counted, never obeyed."""

    state: State
    event: Event


_RUNNING: Final[dict[type[Event], State]] = {
    Progressed: State.IN_PROGRESS,
    Delivered: State.DELIVERED,
    Failed: State.FAILED,
    Lost: State.UNKNOWN,
}

TRANSITIONS: Final[dict[State, dict[type[Event], State]]] = {
    State.ACCEPTED: {
        Opened: State.GENERATING,
        Queued: State.QUEUED,
        Refused: State.FAILED,
        Lost: State.UNKNOWN,
    },
    State.GENERATING: _RUNNING,
    State.QUEUED: _RUNNING,
    State.IN_PROGRESS: _RUNNING,
    State.UNKNOWN: {GaveUp: State.WRITTEN_OFF},
    State.DELIVERED: {},
    State.FAILED: {},
    State.WRITTEN_OFF: {},
    State.REPLAYED: {},
}

_FOUND: Final[dict[type[Progressed | Delivered | Failed], State]] = {
    Progressed: State.IN_PROGRESS,
    Delivered: State.DELIVERED,
    Failed: State.FAILED,
}


def advance(state: State, event: Event) -> State | Impossible:
    """The state after `event`, or `Impossible` where the table has no such step."""
    if isinstance(event, Found):
        if state is State.UNKNOWN:
            return _FOUND[type(event.outcome)]
        return Impossible(state, event)
    following = TRANSITIONS[state].get(type(event))
    return Impossible(state, event) if following is None else following
