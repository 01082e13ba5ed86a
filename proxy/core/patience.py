"""How long a clip that cannot be fetched is tried again: until its link dies, and once more."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

LAST_CHANCE: Final = timedelta(seconds=60)
"""So long before its link dies a clip is tried in any case."""

LONG_DEAD: Final = timedelta(hours=24)
"""A link that died so long ago is not tried at all: the vendor's clock is not off by a day."""

_DOUBLINGS_MAX: Final = 30


def next_try(
    now: datetime,
    link_dies_at: datetime,
    tries: int,
    pause_seconds_max: float,
    *,
    lasting: bool = False,
) -> datetime | None:
    """When to try again after a try that failed at `now`; None when the link is dead by then.

    `tries` failed before this one: the pause begins at a second and doubles with each. With
    `lasting` trouble, which only an operator can cure, it is the longest from the first. No pause
    reaches beyond the last chance before the link's death, and none beyond the death itself, so
    that a dead link is tried exactly once.
    """
    if now >= link_dies_at:
        return None
    seconds = 2.0 ** min(tries, _DOUBLINGS_MAX)
    at = now + timedelta(seconds=pause_seconds_max if lasting else min(seconds, pause_seconds_max))
    last_chance = link_dies_at - LAST_CHANCE
    return min(at, last_chance if now < last_chance else link_dies_at)


def is_long_dead(now: datetime, link_dies_at: datetime) -> bool:
    """Whether the link is so dead that nobody need be asked."""
    return now >= link_dies_at + LONG_DEAD
