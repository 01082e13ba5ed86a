"""What is known of each video, from memory where fresh: pollers cost next to nothing.

However many ask at once, the database is asked once, and then not again for
`video_memory_seconds`. While the database is away the last that was known is answered, for ten
minutes (R65).
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from proxy.flows.house import House
from proxy.store.database import LedgerUnavailable
from proxy.store.videos import VideoRow, find_video

STALE_SECONDS_MAX: Final = 600.0
"""How old an answer may be while the database is away (reliability facts, R65)."""

_Read = VideoRow | LedgerUnavailable | None


@dataclass(frozen=True, slots=True)
class Standing:
    """A video as it stands, None where the tenant has none of that id, and whence it is known.

    `cache_status` is that header's value (RFC 9211).
    """

    row: VideoRow | None
    cache_status: str


@dataclass(slots=True)
class _Known:
    """A row as the database had it at `read_at`, in monotonic seconds; fresh until it changes."""

    row: VideoRow
    read_at: float
    fresh: bool = True


class Standings:
    """The videos that were asked for lately, each known to its own tenant alone.

    A tenant's look-up of what is not its own is never remembered, so that one who guesses learns
    nothing from how long an answer takes, and pushes nobody's videos out.
    """

    def __init__(self, house: House) -> None:
        """One for each process; from now on told of every settlement in it."""
        self._house = house
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._reading: dict[tuple[str, str], asyncio.Task[_Read]] = {}
        house.settler.listeners.append(lambda settled: self.forget(settled.clip_id))

    async def find(self, tenant_id: str, clip_id: str) -> VideoRow | None:
        """The tenant's own clip, as it stands. Raises `LedgerUnavailable`."""
        return (await self.look(tenant_id, clip_id)).row

    async def look(self, tenant_id: str, clip_id: str) -> Standing:
        """The tenant's own clip, and how fresh that is. Raises `LedgerUnavailable`."""
        known = self._of(tenant_id, clip_id)
        if known is not None and known.fresh and self._seconds_left(known) > 0:
            return self._hit(known)
        key = (tenant_id, clip_id)
        reading = self._reading.get(key)
        joined = reading is not None
        if reading is None:
            reading = self._house.background.start("standing", self._read(key))
            self._reading[key] = reading
        # Whoever asked first may leave: the others still wait.
        found = await asyncio.shield(reading)
        if not isinstance(found, LedgerUnavailable):
            self._house.metrics.cache_asked("video", "collapsed" if joined else "miss")
            return Standing(found, "clipmeter; fwd=miss" + ("; collapsed" if joined else ""))
        known = self._of(tenant_id, clip_id)
        if known is None or self._age(known) > STALE_SECONDS_MAX:
            raise found
        return self._hit(known)

    def forget(self, clip_id: str) -> None:
        """The clip has changed: ask the database again."""
        known = self._known.get(clip_id)
        if known is not None:
            known.fresh = False
        # Who asks from now on does not join those who may be reading what it was before.
        for key in [key for key in self._reading if key[1] == clip_id]:
            del self._reading[key]

    def drop(self, clip_id: str) -> None:
        """The clip is deleted: not even the last that was known of it is answered any more."""
        self.forget(clip_id)
        self._known.pop(clip_id, None)

    async def _read(self, key: tuple[str, str]) -> _Read:
        tenant_id, clip_id = key
        read_at = self._house.clock.monotonic()
        try:
            row = await self._house.database.read(lambda tx: find_video(tx, tenant_id, clip_id))
        except LedgerUnavailable as away:
            return away
        finally:
            # Forgotten meanwhile, it tells those who wait for it, and nobody else.
            counts = self._reading.get(key) is asyncio.current_task()
            if counts:
                del self._reading[key]
        if counts and row is not None:
            self._remember(_Known(row, read_at))
        elif row is None and self._of(tenant_id, clip_id) is not None:
            del self._known[clip_id]
        return row

    def _remember(self, known: _Known) -> None:
        self._known[known.row.id] = known
        self._known.move_to_end(known.row.id)
        videos_max = self._house.config.limits.videos_remembered_max
        while len(self._known) > videos_max or self._age(self._oldest()) > STALE_SECONDS_MAX:
            self._known.popitem(last=False)

    def _oldest(self) -> _Known:
        return next(iter(self._known.values()))

    def _of(self, tenant_id: str, clip_id: str) -> _Known | None:
        known = self._known.get(clip_id)
        return known if known is not None and known.row.tenant_id == tenant_id else None

    def _age(self, known: _Known) -> float:
        return self._house.clock.monotonic() - known.read_at

    def _seconds_left(self, known: _Known) -> float:
        return self._house.config.limits.video_memory_seconds - self._age(known)

    def _hit(self, known: _Known) -> Standing:
        self._house.metrics.cache_asked("video", "hit")
        return Standing(known.row, f"clipmeter; hit; ttl={math.floor(self._seconds_left(known))}")
