"""Which clips leave the vault: those past their time, then those unused longest, until it fits.

Eviction takes names away, never bytes from under a reader: whoever has a clip open reads on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from proxy.store.kept import Stored


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long and how much is kept.

    What was stored before `expired_before` goes; for room nothing goes that was stored at or after
    `spared_from`.
    """

    expired_before: datetime
    spared_from: datetime
    bytes_max: int


def victims(
    stored: Iterable[Stored], keeping: Keeping, used: Mapping[str, datetime]
) -> tuple[str, ...]:
    """The clips to delete, each with all that is kept of it, in the order in which they go.

    `used` says when a clip was last asked for; one that it does not name was used when it was
    stored.
    """
    since: dict[str, datetime] = {}
    sizes: defaultdict[str, int] = defaultdict(int)
    for each in stored:
        clip_id = each.kept.clip_id
        since[clip_id] = min(each.modified, since.get(clip_id, each.modified))
        sizes[clip_id] += each.kept.size_bytes
    expired = [clip_id for clip_id, at in since.items() if at < keeping.expired_before]
    leaving = sorted(expired, key=lambda clip_id: (since[clip_id], clip_id))
    left = sum(sizes.values()) - sum(sizes[clip_id] for clip_id in leaving)
    others = (
        clip_id
        for clip_id, at in since.items()
        if keeping.expired_before <= at < keeping.spared_from
    )
    for clip_id in sorted(
        others, key=lambda each: (max(used.get(each, since[each]), since[each]), each)
    ):
        if left <= keeping.bytes_max:
            break
        leaving.append(clip_id)
        left -= sizes[clip_id]
    return tuple(leaving)
