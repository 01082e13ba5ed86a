"""Clip bytes, kept long after the vendor's link died: in a folder, or in an S3-compatible bucket.

With a bucket, the folder holds what is on its way in and the copies that were read last. So
whatever is read has been checked against its digest, comes from a file that nobody can take away,
and never keeps a connection to the bucket waiting for a slow caller.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple
from urllib.parse import unquote, urlsplit
from weakref import WeakValueDictionary

from proxy.store.bucket import Bucket
from proxy.store.folder import Folder
from proxy.store.held import Held, Reader
from proxy.store.incoming import Incoming
from proxy.store.kept import (
    Absence,
    Kept,
    Kind,
    Rejected,
    Source,
    Stored,
    VaultUnavailable,
    check_clip_id,
)
from proxy.store.part import Part

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_LISTED_AT_ONCE: Final = 256


@dataclass(frozen=True, slots=True)
class VaultBounds:
    """The named limits of the vault.

    Nothing is taken in that leaves less than `free_bytes_min` (of a small disk: a tenth) of room.
    `near_bytes_max` bounds the copies of a bucket's clips; `threads_max` those who wait for disks.
    """

    clip_bytes_max: int = 256 * 2**20
    free_bytes_min: int = 2 * 2**30
    near_bytes_max: int = 2 * 2**30
    threads_max: int = 4


@dataclass(frozen=True, slots=True)
class Ready:
    """A source whose bytes are all there already, as those of a picture made here."""

    data: bytes

    @property
    def declared(self) -> int:
        """Its length in bytes."""
        return len(self.data)

    @property
    def complete(self) -> bool:
        """Always."""
        return True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.data


@dataclass(frozen=True, slots=True)
class _Sent:
    """A source that a bucket sends; one that breaks off raises."""

    chunks: AsyncIterator[bytes]
    declared: int
    complete: bool = True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.chunks


def folder_of(url: str | None, data_dir: Path) -> Path:
    """The folder on this machine that a vault at `url` uses: for its clips, or a bucket's copies.

    Raises `ValueError` for a `file:` address with a host.
    """
    parts = urlsplit(url or "")
    if parts.scheme == "file" and parts.netloc:
        raise ValueError("the vault's folder is written as file:///folder")
    if url is None:
        return data_dir / "vault"
    return Path(unquote(parts.path)) if is_folder(url) else data_dir / "near"


def is_folder(url: str | None) -> bool:
    """Whether a vault at `url` is a folder, and not a bucket."""
    return url is None or urlsplit(url).scheme == "file"


class Vault:
    """Every method that waits raises `VaultUnavailable` when the disk or the bucket fails."""

    def __init__(self, folder: Folder, bucket: Bucket | None, bounds: VaultBounds) -> None:
        """Keep clips in `bucket`, with copies in `folder`; without one, in `folder` itself."""
        self._folder = folder
        self._bucket = bucket
        self._bounds = bounds
        self._threads = ThreadPoolExecutor(bounds.threads_max, thread_name_prefix="vault")
        self._incoming: dict[str, Incoming] = {}
        self._opening: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @classmethod
    def open(cls, url: str | None, data_dir: Path, bounds: VaultBounds | None = None) -> Vault:
        """The vault at `url` (`file:///folder`, `s3://bucket/prefix`, `gs://…`, `az://…`).

        Without one it is `data_dir/vault`. Raises `ValueError` for a `file:` address with a host.
        """
        bounds = bounds or VaultBounds()
        folder = Folder(folder_of(url, data_dir), bounds.free_bytes_min)
        bucket = None if url is None or is_folder(url) else Bucket(url)
        return cls(folder, bucket, bounds)

    async def put(self, clip_id: str, source: Source, *, kind: Kind = Kind.CLIP) -> Kept | Rejected:
        """Keep the bytes of `source` durably: all of them, or nothing.

        Only what is complete is kept, as long as it was declared, no longer than a clip may be, and
        begins as its kind does. While it comes in, `incoming` gives it to readers. The caller
        closes the source.
        """
        check_clip_id(clip_id)
        async with self._part(source.declared or 0) as part:
            incoming = Incoming(part, source, self._threads)
            with self._announced(clip_id, kind, incoming):
                rejected = await incoming.receive(kind, self._bounds.clip_bytes_max)
                if rejected is not None:
                    return rejected
                kept = part.named(clip_id, kind)
                if self._bucket is not None:
                    await self._bucket.send(kept, part.path)
                await self._run(self._folder.publish, part, kept)
                incoming.end(kept=True)
        if self._bucket is not None:
            await self._run(self._folder.trim, self._bounds.near_bytes_max)
        return kept

    def incoming(self, clip_id: str) -> Incoming | None:
        """The clip as it is being put by this process."""
        return self._incoming.get(clip_id)

    async def reader(self, kept: Kept) -> Reader | Absence:
        """The bytes that were kept, checked against their digest when they are first read.

        What is not what was kept is set aside and CORRUPT; from then on it is MISSING.
        """
        # The dictionary forgets a lock that nobody holds or waits for.
        lock = self._opening.setdefault(kept.key, asyncio.Lock())
        async with lock:
            found = await self._open(kept)
            if isinstance(found, Reader) or self._bucket is None:
                return found
            return await self._bring_near(self._bucket, kept)

    async def verify(self, kept: Kept) -> Absence | None:
        """Read all of it again where it is kept; what is wrong, after setting it aside."""
        if self._bucket is None:
            await self._run(self._folder.forget, kept)
            found = await self._open(kept)
            if isinstance(found, Absence):
                return found
            found.close()
            return None
        digest = hashlib.sha256()
        try:
            async for chunk in self._bucket.chunks(kept):
                await self._run(digest.update, chunk)
        except FileNotFoundError:
            return Absence.MISSING
        if digest.hexdigest() == kept.sha256:
            return None
        await self._set_aside(self._bucket, kept)
        return Absence.CORRUPT

    async def find(self, clip_id: str) -> list[Stored]:
        """All that is kept of one clip."""
        if self._bucket is None:
            return await self._run(self._folder.find, clip_id)
        return [each async for each in self._bucket.stored(clip_id)]

    async def stored(self) -> AsyncIterator[Stored]:
        """All that is kept, in no order."""
        if self._bucket is not None:
            async for each in self._bucket.stored():
                yield each
            return
        clip_ids = await self._run(self._folder.clip_ids)
        for at in range(0, len(clip_ids), _LISTED_AT_ONCE):
            for each in await self._run(self._find_all, clip_ids[at : at + _LISTED_AT_ONCE]):
                yield each

    async def delete(self, clip_id: str) -> None:
        """Forget a clip and its pictures; whoever has them open reads on."""
        if self._bucket is not None:
            await self._bucket.delete(clip_id)
        await self._run(self._folder.delete, clip_id)

    async def signed_url(self, kept: Kept, lasts: timedelta) -> str | None:
        """A link straight into the bucket, for minutes at most; None for a folder.

        What it leads to is not checked on the way: call `reader` before, once in a while.
        """
        return None if self._bucket is None else await self._bucket.signed_url(kept, lasts)

    async def short_bytes(self) -> int:
        """How many bytes would have to go before a clip of any size can come; a bucket has room."""
        if self._bucket is not None:
            return 0
        return await self._run(self._folder.short_bytes, self._bounds.clip_bytes_max)

    async def mark(self) -> str | None:
        """What tells this vault from another one, if it was ever given anything."""
        if self._bucket is not None:
            return await self._bucket.mark()
        return await self._run(self._folder.mark)

    async def set_mark(self, mark: str) -> None:
        """Give it `mark`, a few letters, in place of any other."""
        if self._bucket is not None:
            await self._bucket.set_mark(mark)
        else:
            await self._run(self._folder.set_mark, mark)

    async def sweep(self) -> int:
        """Remove what died with the process that put it, and copies of what a bucket no longer has.

        How many of both.
        """
        removed = await self._run(self._folder.sweep)
        if self._bucket is not None:
            for clip_id in await self._run(self._folder.clip_ids):
                if not await self.find(clip_id):  # deleted by another replica
                    await self._run(self._folder.delete, clip_id)
                    removed += 1
        return removed

    async def probe(self) -> None:
        """Whether it can be written, as far as that can be told without keeping anything."""
        async with self._part(0) as part:
            await self._run(part.write, b"probe")
        if self._bucket is not None:
            await self._bucket.probe()

    def close(self) -> None:
        """Wait for what the disks are doing."""
        self._threads.shutdown()

    async def _bring_near(self, bucket: Bucket, kept: Kept) -> Reader | Absence:
        """Copy it from the bucket, check it, and open the copy."""
        async with self._part(kept.size_bytes) as part, aclosing(bucket.chunks(kept)) as chunks:
            incoming = Incoming(part, _Sent(chunks, kept.size_bytes), self._threads)
            try:
                rejected = await incoming.receive(kept.kind, kept.size_bytes)
            except FileNotFoundError:
                return Absence.MISSING
            if rejected is None and part.named(kept.clip_id, kept.kind) == kept:
                await self._run(self._folder.publish, part, kept)
                found = await self._open(kept)
                await self._run(self._folder.trim, self._bounds.near_bytes_max)
                return found
        await self._set_aside(bucket, kept)
        return Absence.CORRUPT

    async def _set_aside(self, bucket: Bucket, kept: Kept) -> None:
        with suppress(FileNotFoundError):
            await bucket.set_aside(kept)
        await self._run(self._folder.set_aside, kept)

    @asynccontextmanager
    async def _part(self, size_bytes: int) -> AsyncIterator[Part]:
        """A new file in the folder, which is gone afterwards unless it was published."""
        part = await self._run(self._folder.begin, size_bytes)
        try:
            yield part
        finally:
            await self._run(part.drop)  # begun, and so done, even if the wait is interrupted

    @contextmanager
    def _announced(self, clip_id: str, kind: Kind, incoming: Incoming) -> Iterator[None]:
        """Let others read a clip while it comes in, and tell them when nothing more comes."""
        if kind is Kind.CLIP:
            self._incoming[clip_id] = incoming
        try:
            yield
        finally:
            incoming.end(kept=False)
            if self._incoming.get(clip_id) is incoming:
                del self._incoming[clip_id]

    async def _open(self, kept: Kept) -> Reader | Absence:
        found = await self._run(self._folder.open, kept)
        if isinstance(found, Absence):
            return found
        descriptor, mark = found
        return Reader(kept, Held(descriptor, self._threads, mark))

    def _find_all(self, clip_ids: list[str]) -> list[Stored]:
        return [each for clip_id in clip_ids for each in self._folder.find(clip_id)]

    async def _run(self, deed: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Do what may wait for a disk in a thread."""
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, deed, *arguments)
        except OSError as error:
            raise VaultUnavailable(f"the vault's disk: {error.strerror}") from error
