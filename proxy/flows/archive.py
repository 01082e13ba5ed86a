"""Finished clips are fetched into the vault before their link dies.

A clip's row was born with its charge, so whoever comes after a crash finds what is still to be
fetched (R25). A clip is claimed, fetched, published in the vault, and then its row says so, in this
order: a process that dies in between leaves a clip that is fetched again, or bytes that are found
where they belong. Nothing that happens here changes a charge (law 3).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from weakref import WeakValueDictionary

from proxy.core import patience
from proxy.core.clip import State
from proxy.flows.fetch import open_clip
from proxy.flows.house import House
from proxy.flows.own_vault import prove
from proxy.logs import event
from proxy.remote.download import Download, Ended, NotFetched, Trouble
from proxy.store.clips import Settled
from proxy.store.database import Connection, LedgerUnavailable
from proxy.store.keepings import (
    Waiting,
    claim_waiting,
    earliest_try,
    find_keeping,
    forsake,
    put_off,
    record_kept,
    record_lost,
    record_missing,
    strangers,
)
from proxy.store.kept import Absence, Kept, Kind, Rejected, VaultUnavailable

PAUSE_SECONDS: Final = 0.02
"""Between two looks at least; clips that are delivered together are claimed together."""

LOOK_SECONDS: Final = 1.0
"""How often one who waits for a clip looks whether another process is done with it."""

USED_MAX: Final = 65_536
"""Of so many clips it is remembered when they were asked for, until that is written down."""

EXPIRED: Final = "expired"
VAULT: Final = "vault"

_FORSAKEN_AT_ONCE: Final = 500
_LASTING: Final = frozenset(
    {Trouble.BLOCKED, Trouble.TOO_LARGE, Ended.TOO_LARGE, Rejected.TOO_LARGE}
)


@dataclass(frozen=True, slots=True)
class _Unkept:
    """Why a clip could not be kept this time; `lasting` if only an operator can cure it."""

    trouble: str
    lasting: bool = False


class Archive:
    """Fetches the clips that wait for it, those whose links die first before the others."""

    def __init__(self, house: House) -> None:
        """One for each process."""
        self._house = house
        self._news = asyncio.Event()
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue()
        self._fetching: set[str] = set()
        # The dictionary forgets an event that nobody waits for.
        self._awaited: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()
        self._used: dict[str, datetime] = {}
        self._full = False
        self._resting: set[str] = set()
        self._forsaking = True

    def start(self) -> None:
        """From now on fetch what is due."""
        house = self._house
        house.settler.listeners.append(self._hear)
        house.background.forever("archive", self._look, PAUSE_SECONDS)
        for number in range(house.config.limits.downloads_in_flight_max):
            house.background.forever(f"archive {number}", self._fetch_next, PAUSE_SECONDS)

    def nudge(self) -> None:
        """There may be something to fetch."""
        self._news.set()

    async def wait_for(self, clip_id: str, seconds: float) -> None:
        """Wait until the clip comes in, has been kept or lost, or is put off; or time is up."""
        clock, vault = self._house.clock, self._house.vault
        deadline = clock.monotonic() + seconds
        before = None
        while (left := deadline - clock.monotonic()) > 0:
            news = self._awaited.setdefault(clip_id, asyncio.Event())
            if vault.incoming(clip_id) is not None:
                return
            with suppress(LedgerUnavailable):
                stands = await self._house.database.read(lambda tx: find_keeping(tx, clip_id))
                before = before or stands
                if stands is None or stands[0] != "waiting" or stands != before:
                    return
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, LOOK_SECONDS)):
                    await news.wait()

    async def missed(self, kept: Kept, absence: Absence) -> None:
        """Kept bytes are gone or damaged: they are fetched again, if they can still be had.

        That they are gone is believed of our own vault alone: raises `VaultUnavailable` for
        another, and `LedgerUnavailable`.
        """
        house, now = self._house, self._house.clock.now()
        if absence is Absence.MISSING:
            await prove(house)
        state = await house.database.write(
            lambda tx: record_missing(tx, kept.clip_id, kept.sha256, absence.value, now)
        )
        if state is None:  # evicted or deleted in the meantime
            return
        event("clip_damaged", level="error", clip=kept.clip_id, reason=absence, state=state)
        house.metrics.clip_damaged()
        house.standings.forget(kept.clip_id)
        if state == "lost":
            house.metrics.clips_lost(1)
        self.nudge()

    def used(self, clip_id: str) -> None:
        """Somebody asked for the clip's bytes, now."""
        if clip_id in self._used or len(self._used) < USED_MAX:
            self._used[clip_id] = self._house.clock.now()

    def take_used(self) -> dict[str, datetime]:
        """When clips were asked for since the last call, by their ids."""
        used, self._used = self._used, {}
        return used

    def _hear(self, settled: Settled) -> None:
        if settled.changed and settled.state is State.DELIVERED:
            self.nudge()

    async def _look(self) -> None:
        """Claim what is due, as much as there is room for; else wait until there may be some."""
        limits = self._house.config.limits
        self._news.clear()
        pause = limits.heartbeat_seconds
        room = limits.downloads_in_flight_max - len(self._fetching)
        self._full = room <= 0
        if room > 0:
            with suppress(LedgerUnavailable):
                due = await self._seconds_until_due()
                if due <= 0:
                    await self._claim(room)
                    return
                pause = min(pause, due)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._news.wait()

    async def _seconds_until_due(self) -> float:
        """How long nothing will be due that is not being fetched already."""
        house, now = self._house, self._house.clock.now()
        before, besides = self._dead_before(now), self._fetching | self._resting
        at = await house.database.read(
            lambda tx: earliest_try(tx, house.process_id, before, besides)
        )
        return math.inf if at is None else (at - now).total_seconds()

    async def _claim(self, room: int) -> None:
        """Claim up to `room` clips for the workers."""
        house, now = self._house, self._house.clock.now()
        before, besides = self._dead_before(now), self._fetching | self._resting

        def take(tx: Connection) -> tuple[list[str], list[Waiting]]:
            dead: list[str] = []
            if self._forsaking:
                dead = forsake(tx, now - patience.LONG_DEAD, EXPIRED, _FORSAKEN_AT_ONCE)
            return dead, claim_waiting(tx, house.process_id, now, before, room, besides)

        dead, found = await house.database.write(take)
        self._forsaking = len(dead) == _FORSAKEN_AT_ONCE
        if dead:
            house.metrics.clips_lost(len(dead))
            event("clips_lost", level="warning", count=len(dead), clips=dead, reason=EXPIRED)
        for waiting in found:
            self._fetching.add(waiting.clip_id)
            self._queue.put_nowait(waiting)

    def _dead_before(self, now: datetime) -> datetime:
        """Who was last seen before that is dead; on SQLite that is everybody else."""
        if self._house.config.database.url is None:
            return now + timedelta(days=1)
        return now - timedelta(seconds=self._house.config.limits.orphan_seconds)

    async def _fetch_next(self) -> None:
        """Fetch one clip; its row is changed, or it is claimed again.

        One at which this crashes is left alone for the longest pause: its host is not to blame.
        """
        waiting = await self._queue.get()
        crashed = True
        try:
            await self._archive(waiting)
            crashed = False
        except LedgerUnavailable:
            crashed = False
            event("archive_put_off", clip=waiting.clip_id)
        finally:
            if crashed:
                self._rest(waiting.clip_id)
            self._fetching.discard(waiting.clip_id)
            self._tell(waiting.clip_id)
            if self._full:
                self.nudge()

    def _rest(self, clip_id: str) -> None:
        pause = self._house.config.limits.download_pause_seconds_max
        self._resting.add(clip_id)
        asyncio.get_running_loop().call_later(pause, self._resting.discard, clip_id)

    async def _archive(self, waiting: Waiting) -> None:
        began = self._house.clock.monotonic()
        try:
            kept = await self._stored(waiting.clip_id) or await self._fetch(waiting)
        except VaultUnavailable as trouble:
            event("vault_unavailable", level="warning", clip=waiting.clip_id, words=str(trouble))
            kept = _Unkept(VAULT)
        if isinstance(kept, _Unkept):
            await self._give_up_for_now(waiting, kept)
        else:
            await self._record(waiting, kept, began)
        self._house.standings.forget(waiting.clip_id)

    async def _stored(self, clip_id: str) -> Kept | None:
        """The clip, if the vault has it: from a process that died, or whoever put it before."""
        vault = self._house.vault
        incoming = vault.incoming(clip_id)
        if incoming is not None:
            await incoming.ended()
        for each in await vault.find(clip_id):
            if each.kept.kind is Kind.CLIP and await vault.verify(each.kept) is None:
                return each.kept
        return None

    async def _fetch(self, waiting: Waiting) -> Kept | _Unkept:
        """The clip's bytes, from the vendor into the vault. Raises `VaultUnavailable`."""
        if patience.is_long_dead(self._house.clock.now(), waiting.link_dies_at):
            return _Unkept(EXPIRED)
        download = await open_clip(self._house, waiting)
        if isinstance(download, NotFetched):
            return _Unkept(download.trouble.value, lasting=download.trouble in _LASTING)
        with closing(download):
            source = _Announced(download, lambda: self._tell(waiting.clip_id))
            kept = await self._house.vault.put(waiting.clip_id, source)
            if isinstance(kept, Kept):
                return kept
            why = kept if download.ended in {None, Ended.COMPLETE} else download.ended
            return _Unkept(str(why), lasting=why in _LASTING)

    async def _record(self, waiting: Waiting, kept: Kept, began: float) -> None:
        """Write down that the bytes are there; if nobody is to have them, take them away again.

        A claim that was lost to another process leaves the bytes to it.
        """
        house, now = self._house, self._house.clock.now()
        clip_id, fence = waiting.clip_id, waiting.fence
        is_new = await house.database.write(
            lambda tx: record_kept(tx, clip_id, fence, kept.sha256, kept.size_bytes, now)
        )
        if is_new:
            seconds = round(house.clock.monotonic() - began, 3)
            event("clip_kept", clip=clip_id, bytes_in=kept.size_bytes, seconds=seconds)
        elif await house.database.read(lambda tx: strangers(tx, [clip_id])):
            await self._delete(clip_id)

    async def _give_up_for_now(self, waiting: Waiting, unkept: _Unkept) -> None:
        """Put the clip off, or for good if its link is dead."""
        house, now = self._house, self._house.clock.now()
        clip_id, fence, trouble = waiting.clip_id, waiting.fence, unkept.trouble
        at = patience.next_try(
            now,
            waiting.link_dies_at,
            waiting.tries,
            house.config.limits.download_pause_seconds_max,
            lasting=unkept.lasting,
        )
        tries = waiting.tries + 1
        if at is not None:
            if await house.database.write(lambda tx: put_off(tx, clip_id, fence, trouble, at)):
                seconds = round((at - now).total_seconds(), 1)
                event("clip_put_off", clip=clip_id, reason=trouble, attempts=tries, seconds=seconds)
            self.nudge()
        elif await house.database.write(lambda tx: record_lost(tx, clip_id, fence, trouble)):
            # These clips were charged all the same: whoever reads this may give a credit.
            event("clip_lost", level="warning", clip=clip_id, reason=trouble, attempts=tries)
            house.metrics.clips_lost(1)
            await self._delete(clip_id)

    async def _delete(self, clip_id: str) -> None:
        """Leave nothing of the clip in the vault; what cannot be deleted now is swept later."""
        with suppress(VaultUnavailable):
            await self._house.vault.delete(clip_id)

    def _tell(self, clip_id: str) -> None:
        """Wake those who wait for the clip."""
        news = self._awaited.pop(clip_id, None)
        if news is not None:
            news.set()


class _Announced:
    """A download that tells when it is first read: by then the vault gives it to readers."""

    def __init__(self, download: Download, tell: Callable[[], None]) -> None:
        self._download = download
        self._tell = tell

    @property
    def declared(self) -> int | None:
        """The length of the whole in bytes, where the host states it."""
        return self._download.declared

    @property
    def complete(self) -> bool:
        """Whether every byte came."""
        return self._download.complete

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._tell()
        return self._download
