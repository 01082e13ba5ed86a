"""Which clips leave the vault: those past their time, then those unused longest, until it fits.

Eviction takes names away, never bytes from under a reader: whoever has a clip open reads on.
Pictures go with their clip and are not counted; all of them together are small beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from proxy.store.keepings import KeptRow


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long and how much is kept.

    What was kept before `expired_before` goes; for room nothing goes that was kept at or after
    `spared_from`.
    """

    expired_before: datetime
    spared_from: datetime
    bytes_max: int


def victims(kept: Iterable[KeptRow], keeping: Keeping) -> tuple[str, ...]:
    """The clips to evict, in the order in which they go.

    A clip that nobody asked for was last used when it was kept.
    """
    rows = sorted(kept, key=lambda row: (row.kept_at, row.clip_id))
    expired = [row for row in rows if row.kept_at < keeping.expired_before]
    others = rows[len(expired) :]
    left = sum(row.size_bytes for row in others)
    leaving = [row.clip_id for row in expired]
    spare = (row for row in others if row.kept_at < keeping.spared_from)
    for row in sorted(spare, key=lambda row: (_used_at(row), row.clip_id)):
        if left <= keeping.bytes_max:
            break
        leaving.append(row.clip_id)
        left -= row.size_bytes
    return tuple(leaving)


def _used_at(row: KeptRow) -> datetime:
    return row.kept_at if row.used_at is None else max(row.used_at, row.kept_at)
