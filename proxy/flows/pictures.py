"""A clip's thumbnail and its sheet of frames: made once from the kept clip, and kept beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from proxy import errors
from proxy.files.thumbnail import Undecodable, spritesheet, thumbnail
from proxy.flows.content import Contents, Need, Still
from proxy.flows.house import House
from proxy.logs import event
from proxy.store.held import Reader
from proxy.store.kept import Kept, Kind, VaultUnavailable
from proxy.store.vault import Ready

if TYPE_CHECKING:
    from asyncio import Task

RETRY_SECONDS: Final = 5
"""When one who found too many waiting may ask again; a picture takes a second of a core."""

_DRAWN_BY: Final[Mapping[Kind, Callable[[bytes], bytes]]] = {
    Kind.THUMBNAIL: thumbnail,
    Kind.SPRITESHEET: spritesheet,
}


class _Unmade(Enum):
    """Why there is no picture."""

    UNDECODABLE = auto()
    UNREADABLE = auto()


_Made = Kept | _Unmade


class Pictures:
    """Makes pictures, one at a time; a hundred who ask for the same one share its making."""

    def __init__(self, house: House, contents: Contents) -> None:
        """One for each process; `contents` gives the clips."""
        self._house = house
        self._contents = contents
        self._turn = asyncio.Lock()
        self._making: dict[tuple[Kept, Kind], Task[_Made]] = {}
        self._known: dict[tuple[Kept, Kind], _Made] = {}

    @asynccontextmanager
    async def opened(self, tenant_id: str, clip_id: str, kind: Kind) -> AsyncIterator[Still]:
        """The picture, held open for as long as the block runs, and dated as its clip.

        Raises `ProxyError` as `Contents.find` does, and for a picture that cannot be made.
        """
        async with self._contents.opened(tenant_id, clip_id, Need.KEPT) as clip:
            assert isinstance(clip, Still)
            try:
                reader = await self._reader(clip.reader.kept, kind)
            except VaultUnavailable as away:
                event("vault_unavailable", level="warning", clip=clip_id, words=str(away))
                raise errors.vault_unavailable() from None
            with reader:
                yield Still(reader, clip.kept_at)

    async def _reader(self, clip: Kept, kind: Kind) -> Reader:
        """The picture of `clip`, found or made. Raises `ProxyError` and `VaultUnavailable`."""
        made = self._known.get((clip, kind)) or await self._find(clip, kind)
        reader = await self._open(made)
        joins = "collapsed" if (clip, kind) in self._making else "miss"
        self._house.metrics.cache_asked("picture", joins if reader is None else "hit")
        if reader is None and made is not _Unmade.UNDECODABLE:
            # Never made; or gone or damaged, and another is as good.
            made = await asyncio.shield(self._begin(clip, kind))
            self._remember(clip, kind, made)
            reader = await self._open(made)
        if made is _Unmade.UNDECODABLE:
            raise errors.picture_failed()
        if reader is None:
            raise errors.vault_unavailable()
        return reader

    async def _open(self, made: _Made | None) -> Reader | None:
        found = await self._house.vault.reader(made) if isinstance(made, Kept) else None
        return found if isinstance(found, Reader) else None

    async def _find(self, clip: Kept, kind: Kind) -> Kept | None:
        """The picture that an earlier process, or another one, has made."""
        if (clip, kind) in self._making:
            return None
        for each in await self._house.vault.find(clip.clip_id):
            if each.kept.kind is kind:
                self._remember(clip, kind, each.kept)
                return each.kept
        return None

    def _begin(self, clip: Kept, kind: Kind) -> Task[_Made]:
        """The making of the picture, which whoever asks first begins."""
        key = (clip, kind)
        making = self._making.get(key)
        if making is None:
            waiting_max = self._house.config.limits.pictures_waiting_max
            if len(self._making) >= waiting_max:
                raise errors.rate_limit_exceeded("pictures_waiting_max", waiting_max, RETRY_SECONDS)
            making = self._house.background.start(f"{kind} {clip.clip_id}", self._make(clip, kind))
            self._making[key] = making
            making.add_done_callback(lambda _: self._making.pop(key))
        return making

    async def _make(self, clip: Kept, kind: Kind) -> _Made:
        vault = self._house.vault
        async with self._turn:
            try:
                reader = await vault.reader(clip)
                if not isinstance(reader, Reader):
                    return _Unmade.UNREADABLE
                with reader:
                    film = b"".join([chunk async for chunk in reader.chunks()])
                picture = await asyncio.to_thread(_DRAWN_BY[kind], film)
                kept = await vault.put(clip.clip_id, Ready(picture), kind=kind)
            except VaultUnavailable as away:
                event("vault_unavailable", level="warning", clip=clip.clip_id, words=str(away))
                return _Unmade.UNREADABLE
            except Undecodable as flaw:
                event("clip_undecodable", level="warning", clip=clip.clip_id, words=str(flaw))
                return _Unmade.UNDECODABLE
        return kept if isinstance(kept, Kept) else _Unmade.UNDECODABLE

    def _remember(self, clip: Kept, kind: Kind, made: _Made) -> None:
        """So that the vault is not asked again, and no clip is decoded twice in vain."""
        if made is _Unmade.UNREADABLE:
            return
        self._known[clip, kind] = made
        if len(self._known) > self._house.config.limits.videos_remembered_max:
            del self._known[next(iter(self._known))]
