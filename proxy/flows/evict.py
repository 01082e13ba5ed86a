"""Keeps the vault in order: clips leave it by age and for room, leftovers go, damage is found.

A row is changed first, then its bytes go; a crash in between leaves bytes that the next round finds
and deletes. Readers of a clip that goes read on to its end.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from proxy.flows.house import House
from proxy.flows.own_vault import claim, prove
from proxy.logs import event
from proxy.store.database import Connection, LedgerUnavailable
from proxy.store.eviction import Keeping, victims
from proxy.store.keepings import (
    KeptRow,
    evict,
    kept_rows,
    kept_totals,
    record_found,
    strangers,
    touch_used,
    unarchived,
    unheard_of,
)
from proxy.store.kept import Kept, Kind, Stored, VaultUnavailable

MARK_SECONDS_MAX: Final = 5.0
"""How long a start waits for a bucket that is to get its mark."""

ROUND_SECONDS: Final = 3600.0
"""Between two rounds through the vault; the first comes soon after the start."""

SPARED: Final = timedelta(hours=24)
"""No clip goes for room so soon after it came, whatever the room."""

SETTLING: Final = timedelta(hours=1)
"""What was stored so lately is no leftover: its row may not have been written yet."""

SCRUBBED_AT_ONCE: Final = 32
"""So many kept clips are read again in each round."""

LISTED_AT_ONCE: Final = 500
"""Of so many clips the database is asked at once."""

_DAYS_MAX: Final = 36_500


class Rounds:
    """The vault's chores: a few at every heartbeat, the others once an hour."""

    def __init__(self, house: House) -> None:
        """One for each process."""
        self._house = house
        self._due = -math.inf
        self._scrubbed_to = ""

    async def begin(self) -> None:
        """Give the vault its mark, unless it has one; a bucket that is away gets it later."""
        with suppress(LedgerUnavailable, VaultUnavailable, TimeoutError):
            async with asyncio.timeout(MARK_SECONDS_MAX):
                await claim(self._house)

    def start(self) -> None:
        """From now on do the chores, every `heartbeat_seconds`."""
        pause = self._house.config.limits.heartbeat_seconds
        self._house.background.forever("vault", self.tend, pause)

    async def tend(self) -> None:
        """Do what is due."""
        now = self._house.clock.monotonic()
        try:
            await show(self._house)
            if now >= self._due:
                self._due = now + ROUND_SECONDS
                await self.go_round()
        except LedgerUnavailable:
            event("vault_chores_put_off")
        except VaultUnavailable as trouble:
            event("vault_unavailable", level="warning", words=str(trouble))

    async def go_round(self) -> None:
        """Evict, sweep and scrub. Raises `LedgerUnavailable` and `VaultUnavailable`."""
        await make_room(self._house)
        await sweep(self._house)
        await self.scrub()

    async def scrub(self, clips_max: int = SCRUBBED_AT_ONCE) -> int:
        """Read some kept clips again, others each time; how many were damaged or gone (R60).

        Raises `LedgerUnavailable` and `VaultUnavailable`.
        """
        house, count = self._house, 0
        rows = await house.database.read(lambda tx: self._next_to_scrub(kept_rows(tx), clips_max))
        for row in rows:
            kept = Kept(row.clip_id, Kind.CLIP, row.sha256, row.size_bytes)
            absence = await house.vault.verify(kept)
            if absence is not None:
                count += 1
                await house.archive.missed(kept, absence)
        return count

    def _next_to_scrub(self, rows: Sequence[KeptRow], clips_max: int) -> list[KeptRow]:
        """The next clips by their ids, from the beginning again after the last."""
        ordered = sorted(rows, key=lambda row: row.clip_id)
        at = bisect_right(ordered, self._scrubbed_to, key=lambda row: row.clip_id)
        chosen = [*ordered[at:], *ordered[:at]][:clips_max]
        if chosen:
            self._scrubbed_to = chosen[-1].clip_id
        return chosen


async def show(house: House) -> None:
    """Bring the vault's gauges up to date, and write down what was used.

    Raises `LedgerUnavailable`.
    """
    now, used = house.clock.now(), house.archive.take_used()
    if used:
        await house.database.write(lambda tx: touch_used(tx, used))
    clips, size_bytes = await house.database.read(kept_totals)
    waiting, dies_at = await house.database.read(unarchived)
    house.metrics.vault_is(clips, size_bytes)
    seconds = math.inf if dies_at is None else (dies_at - now).total_seconds()
    house.metrics.waiting_are(waiting, seconds)


async def make_room(house: House) -> int:
    """Evict clips that are past their time, and for room in the vault and on its disk; how many.

    Raises `LedgerUnavailable` and `VaultUnavailable`.
    """
    now, vault = house.clock.now(), house.config.vault
    short_bytes = await house.vault.short_bytes()
    if short_bytes:
        await prove(house)  # it may be another disk that is full

    def choose(tx: Connection) -> tuple[str, ...]:
        rows = kept_rows(tx)
        fitting = sum(row.size_bytes for row in rows) - short_bytes
        keeping = Keeping(
            expired_before=now - timedelta(days=min(vault.retention_days, _DAYS_MAX)),
            spared_from=now - SPARED,
            bytes_max=min(vault.bytes_max, fitting) if short_bytes else vault.bytes_max,
        )
        return victims(rows, keeping)

    # Where the rows are read: a hundred thousand are a tenth of a second's sorting.
    leaving = await house.database.read(choose)
    for at in range(0, len(leaving), LISTED_AT_ONCE):
        await _evict(house, leaving[at : at + LISTED_AT_ONCE])
    if leaving:
        event("clips_evicted", count=len(leaving))
    return len(leaving)


async def _evict(house: House, clip_ids: Sequence[str]) -> None:
    evicted = await house.database.write(lambda tx: evict(tx, clip_ids))
    for clip_id in evicted:
        house.standings.forget(clip_id)
        await house.vault.delete(clip_id)


async def sweep(house: House, listed_at_once: int = LISTED_AT_ONCE) -> int:
    """Delete what processes that died left, and bytes that nobody is to have; of how many clips.

    What no row names at all may be another installation's, or a lost database's: it goes only when
    it has been there for as long as anything is kept. Raises `LedgerUnavailable`, and
    `VaultUnavailable`, also where the vault is not ours.
    """
    await claim(house)
    await prove(house)
    count = await house.vault.sweep()
    listed: dict[str, list[Stored]] = {}
    async for each in house.vault.stored():
        if each.kept.clip_id not in listed and len(listed) >= listed_at_once:
            count += await _drop_strangers(house, listed)
            listed.clear()
        listed.setdefault(each.kept.clip_id, []).append(each)
    return count + await _drop_strangers(house, listed)


async def _drop_strangers(house: House, listed: dict[str, list[Stored]]) -> int:
    now = house.clock.now()
    settled = [clip_id for clip_id, every in listed.items() if _newest(every) < now - SETTLING]
    unwanted, unknown = await house.database.read(
        lambda tx: (strangers(tx, settled), set(unheard_of(tx, settled)))
    )
    ours = [clip_id for clip_id in unwanted if clip_id not in unknown]
    kept = [each.kept for clip_id in ours for each in listed[clip_id]]
    back = await _take_back(house, [each for each in kept if each.kind is Kind.CLIP])
    retention = timedelta(days=min(house.config.vault.retention_days, _DAYS_MAX))
    old = [each for each in unknown if _newest(listed[each]) < now - retention]
    leaving = [clip_id for clip_id in ours if clip_id not in back] + old
    for clip_id in leaving:
        await house.vault.delete(clip_id)
    if leaving:
        event("clips_swept", count=len(leaving), clips=leaving)
    if len(unknown) > len(old):
        event("vault_strange", level="warning", count=len(unknown) - len(old))
    return len(leaving)


async def _take_back(house: House, kept: Sequence[Kept]) -> set[str]:
    """Those clips that were given up for lost and are there again, now kept as before."""

    def write(tx: Connection) -> set[str]:
        return {each.clip_id for each in kept if record_found(tx, each.clip_id, each.sha256)}

    found = await house.database.write(write) if kept else set[str]()
    if found:
        event("clips_found_again", level="warning", count=len(found), clips=sorted(found))
    return found


def _newest(every: Sequence[Stored]) -> datetime:
    return max(each.modified for each in every)
