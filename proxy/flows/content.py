"""Which bytes a caller gets for a clip: those that are kept, those coming in, or the vendor's own.

A caller who comes while the clip is being fetched reads along with the one fetch there is. Where
nothing can be kept, because the disk is full or the bucket is away, the vendor's bytes are passed
on as long as its link lives.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from proxy import errors
from proxy.core.headers import RETRY_AFTER_SECONDS_MAX
from proxy.core.job import JobState
from proxy.core.playback import Playback, verify
from proxy.core.video import poll_after_ms, status_of
from proxy.flows.archive import LOOK_SECONDS, VAULT
from proxy.flows.fetch import open_clip
from proxy.flows.house import House
from proxy.logs import event
from proxy.remote.download import Download
from proxy.store.held import Reader
from proxy.store.incoming import NotFinished
from proxy.store.keepings import Waiting
from proxy.store.kept import (
    HEAD_BYTES,
    Kept,
    Kind,
    VaultUnavailable,
    is_clip_id,
    looks_right,
)
from proxy.store.tenants import is_let_in
from proxy.store.videos import VideoRow


class Need(Enum):
    """What a caller can do with."""

    WHOLE = "all of it from the beginning, as it comes"
    PART = "a part or a version, so rather what is kept; in need the whole"
    KEPT = "what is kept and nothing else"


@dataclass(frozen=True, slots=True)
class Still:
    """Kept bytes, held open."""

    reader: Reader
    kept_at: datetime


@dataclass(frozen=True, slots=True)
class Coming:
    """All of a clip, as it comes in; `declared` is its length, where that was stated.

    It begins as a clip does. `result` is "collapsed" for one that is fetched into the vault, which
    others may read as well, and "miss" for one that is fetched for this caller alone.
    """

    declared: int | None
    first: bytes
    rest: AsyncIterator[bytes]
    result: str

    @property
    def cache_status(self) -> str:
        """That header's value (RFC 9211)."""
        return "clipmeter; fwd=uri-miss" + ("" if self.result == "miss" else f"; {self.result}")

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Every byte. Raises `NotFinished` where they end too early, and `VaultUnavailable`."""
        yield self.first
        async for chunk in self.rest:
            yield chunk


class Contents:
    """Gives out clips, each to its own tenant."""

    def __init__(self, house: House) -> None:
        """One for each process."""
        self._house = house
        self._straight = asyncio.Semaphore(house.config.limits.downloads_in_flight_max)

    async def granted(self, clip_id: str, query: str) -> Playback:
        """What the signed link to `clip_id` with this query grants.

        Raises `ProxyError` for a link that grants nothing, and `LedgerUnavailable`.
        """
        house = self._house
        lasts = math.ceil(house.config.vault.signed_link_seconds)
        found = verify(clip_id, query, house.playback_keys, house.clock.now(), lasts)
        if isinstance(found, Playback):
            tenant_id = found.tenant
            if await house.database.read(lambda tx: is_let_in(tx, tenant_id)):
                return found
        raise errors.link_invalid()

    async def find(self, tenant_id: str, clip_id: str) -> VideoRow:
        """The tenant's own clip, whose bytes are kept or will be.

        Raises `ProxyError` for any other (`video_not_found`, `video_not_ready`, `video_failed`,
        `video_expired`), and `LedgerUnavailable`.
        """
        row = None
        if is_clip_id(clip_id):
            row = await self._house.standings.find(tenant_id, clip_id)
        if row is None:
            raise errors.video_not_found()
        status = status_of(row.state)
        if status is JobState.FAILED:
            raise errors.video_failed(row.reason or "lost")
        if status is not JobState.COMPLETED:
            age = (self._house.clock.now() - row.accepted_at).total_seconds()
            pause = poll_after_ms(row.model, age, self._house.config.follow.poll_seconds)
            raise errors.video_not_ready(max(1, math.ceil(pause / 1000)))
        if row.keeping not in {"waiting", "kept"}:
            raise errors.video_expired()
        return row

    @asynccontextmanager
    async def opened(
        self, tenant_id: str, clip_id: str, need: Need
    ) -> AsyncIterator[Still | Coming]:
        """The clip's bytes, for as long as the block runs; nothing kept is taken away in it.

        Waits up to `content_wait_seconds_max` for a clip that is not there yet. Raises as `find`
        does, and `ProxyError` for bytes that cannot be had.
        """
        clock = self._house.clock
        async with AsyncExitStack() as stack:
            deadline = clock.monotonic() + self._house.config.limits.content_wait_seconds_max
            found: Still | Coming | None = None
            while found is None:
                row = await self.find(tenant_id, clip_id)
                left = deadline - clock.monotonic()
                if row.keeping == "kept":
                    found = await self._kept(row, need, left, stack)
                else:
                    found = await self._on_its_way(row, need, left, stack)
            if need is not Need.KEPT:  # a picture is what was asked for then
                result = "hit" if isinstance(found, Still) else found.result
                self._house.metrics.cache_asked("clip", result)
            yield found

    async def _kept(
        self, row: VideoRow, need: Need, left: float, stack: AsyncExitStack
    ) -> Still | Coming | None:
        """The kept bytes; None if they are gone, which then is written down."""
        assert row.kept_at is not None
        try:
            found = await self._house.vault.reader(kept_of(row))
            if isinstance(found, Reader):
                self._house.archive.used(row.id)
                return Still(stack.enter_context(found), row.kept_at)
            await self._house.archive.missed(kept_of(row), found)
        except VaultUnavailable as away:
            event("vault_unavailable", level="warning", clip=row.id, words=str(away))
            return await self._pass_on(row, need, left, stack)
        self._house.standings.forget(row.id)
        if left <= 0:
            raise self._not_fetched(row)
        return None

    async def _on_its_way(
        self, row: VideoRow, need: Need, left: float, stack: AsyncExitStack
    ) -> Coming | None:
        """A waiting clip as it comes in; None once something may have changed."""
        incoming = self._house.vault.incoming(row.id)
        if incoming is None and row.trouble == VAULT:
            return await self._pass_on(row, need, left, stack)
        try:
            async with asyncio.timeout(left):
                if incoming is None:
                    await self._wait(row, left)
                elif need is Need.WHOLE:
                    rest = incoming.chunks()
                    stack.push_async_callback(rest.aclose)
                    first = await anext(rest)
                    return Coming(incoming.declared, first, rest, "collapsed")
                elif await incoming.ended():
                    await self._wait(row, left)  # kept now, and written down in a moment
        except TimeoutError:
            raise self._not_fetched(row) from None
        except (NotFinished, VaultUnavailable):
            self._house.standings.forget(row.id)
        return None

    async def _wait(self, row: VideoRow, left: float) -> None:
        """Wait until the clip comes in, or what is known of it may have changed."""
        until = 0.0 if row.next_try_at is None else self._until(row.next_try_at)
        if until > left:
            raise self._not_fetched(row)
        if until > 0:
            await asyncio.sleep(min(until, LOOK_SECONDS))
        else:
            await self._house.archive.wait_for(row.id, left)
            # Another process may have changed it: what is remembered would have us ask in vain.
            self._house.standings.forget(row.id)

    async def _pass_on(
        self, row: VideoRow, need: Need, left: float, stack: AsyncExitStack
    ) -> Coming:
        """The vendor's own bytes, of which nothing is kept; so many at once as may be fetched."""
        dead = row.link_dies_at is None or row.link_dies_at <= self._house.clock.now()
        if need is Need.KEPT or dead:
            raise errors.vault_unavailable()
        assert row.link_dies_at is not None
        try:
            async with asyncio.timeout(left):
                await stack.enter_async_context(self._straight)
                source = Waiting(
                    row.id, row.url, row.gateway, row.upstream_id, row.link_dies_at, 0, 0
                )
                download = await open_clip(self._house, source)
                if isinstance(download, Download):
                    stack.callback(download.close)
                    rest = _checked(download)
                    stack.push_async_callback(rest.aclose)
                    first = await anext(rest)
                    return Coming(download.declared, first, rest, "miss")
        except (TimeoutError, NotFinished):
            raise self._not_fetched(row) from None
        raise self._not_fetched(row)

    def _not_fetched(self, row: VideoRow) -> errors.ProxyError:
        seconds = 1 if row.next_try_at is None else math.ceil(self._until(row.next_try_at))
        return errors.clip_not_fetched(max(1, min(seconds, RETRY_AFTER_SECONDS_MAX)))

    def _until(self, moment: datetime) -> float:
        return (moment - self._house.clock.now()).total_seconds()


async def _checked(download: Download) -> AsyncGenerator[bytes, None]:
    """The bytes of a clip, and of nothing else. Raises `NotFinished` where they end too early."""
    begun = b""
    async for chunk in download:
        begun += chunk
        if len(begun) < HEAD_BYTES:
            continue
        if not looks_right(Kind.CLIP, begun):
            raise NotFinished("what the vendor gives is no clip")
        yield begun
        break
    async for chunk in download:
        yield chunk
    if not download.complete or len(begun) < HEAD_BYTES:
        raise NotFinished("the vendor's bytes broke off")


def kept_of(row: VideoRow) -> Kept:
    """A kept clip, as the vault names it."""
    assert row.sha256 is not None
    assert row.size_bytes is not None
    return Kept(row.id, Kind.CLIP, row.sha256, row.size_bytes)
