"""Sends callers on to the bucket itself, where a checked clip is, by links of minutes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final
from weakref import WeakValueDictionary

from proxy.flows.content import kept_of
from proxy.flows.house import House
from proxy.logs import event
from proxy.store.bucket import SIGNED_SECONDS_MAX
from proxy.store.kept import Kept, VaultUnavailable
from proxy.store.videos import VideoRow

RECHECK_SECONDS: Final = 3600.0
"""How long a clip in a bucket counts as checked: nobody sees what callers get from there."""


class Redirects:
    """Knows which clips were checked lately."""

    def __init__(self, house: House) -> None:
        """One for each process."""
        self._house = house
        self._checked: dict[str, float] = {}
        self._checking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def link(self, row: VideoRow) -> str | None:
        """A link to the kept clip that anybody can GET for minutes.

        None where there is no bucket, where it is away, and where it has other bytes than those
        that were kept, which then are fetched again. Raises `LedgerUnavailable`.
        """
        kept = kept_of(row)
        try:
            lasts = timedelta(seconds=SIGNED_SECONDS_MAX)
            link = await self._house.vault.signed_url(kept, lasts)
            if link is None or not await self._is_sound(kept):
                return None
        except VaultUnavailable as away:
            event("vault_unavailable", level="warning", clip=row.id, words=str(away))
            return None
        self._house.metrics.cache_asked("clip", "hit")
        self._house.archive.used(row.id)
        return link

    async def _is_sound(self, kept: Kept) -> bool:
        """Whether the bucket has what was kept, as far as was looked within `RECHECK_SECONDS`."""
        clock = self._house.clock
        async with self._checking.setdefault(kept.key, asyncio.Lock()):
            checked_at = self._checked.get(kept.key)
            if checked_at is not None and clock.monotonic() - checked_at < RECHECK_SECONDS:
                return True
            absence = await self._house.vault.verify(kept)
            if absence is not None:
                await self._house.archive.missed(kept, absence)
                return False
            self._checked.pop(kept.key, None)
            self._checked[kept.key] = clock.monotonic()
            if len(self._checked) > self._house.config.limits.videos_remembered_max:
                del self._checked[next(iter(self._checked))]
            return True
