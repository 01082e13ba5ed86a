"""Clip bytes as objects in a bucket (S3, Google Cloud Storage, Azure), through obstore.

An object appears whole or not at all, also one that is sent in parts. Its name holds the digest of
its bytes, so sending it twice writes the same thing again, and no condition is needed that some
S3-compatible stores do not know (R72). Credentials and endpoints come from the environment, by the
names that each cloud's own tools use; `AWS_ALLOW_HTTP=true` allows an endpoint without TLS. A
sending that broke off can leave invisible parts behind; the bucket's life-cycle rule removes them.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from proxy.store.kept import MARK, Kept, Stored, VaultUnavailable, check_clip_id, read_key

if TYPE_CHECKING:
    from obstore import SignCapableStore
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

SIGNED_SECONDS_MAX: Final = 300
"""How long a signed link lasts at most."""

_CONNECT_SECONDS: Final = 5
_SILENCE_SECONDS: Final = 30
_REQUEST_SECONDS: Final = 300
_RETRIES: Final = 3
_RETRY_SECONDS: Final = 30
_SEND_BYTES: Final = 8 * 2**20
_SENDS_AT_ONCE: Final = 2
_READ_BYTES: Final = 256 * 2**10
_SET_ASIDE: Final = ".corrupt"
_WORDS_MAX: Final = 300


class Bucket:
    """The objects below one address; every method raises `VaultUnavailable` if it is away."""

    def __init__(self, url: str) -> None:
        """Use `s3://bucket/prefix`, `gs://…` or `az://…`; nothing is asked of it yet."""
        import obstore
        from obstore.store import from_url

        client: ClientConfig = {
            "allow_http": _may_be_plain(),
            "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
            "read_timeout": timedelta(seconds=_SILENCE_SECONDS),
            "timeout": timedelta(seconds=_REQUEST_SECONDS),
        }
        retry: RetryConfig = {
            "max_retries": _RETRIES,
            "retry_timeout": timedelta(seconds=_RETRY_SECONDS),
        }
        self._obstore = obstore
        with self._trouble():
            self._store: ObjectStore = from_url(url, client_options=client, retry_config=retry)

    async def probe(self) -> None:
        """Whether it can be listed."""
        with self._trouble():
            await anext(self._obstore.list(self._store, chunk_size=1), None)

    async def send(self, kept: Kept, path: Path) -> None:
        """Put the file at `path` there."""
        with self._trouble(), self._nothing_there():
            await self._obstore.put_async(
                self._store,
                kept.key,
                path,
                attributes={
                    "Content-Type": kept.kind.content_type,
                    "Content-Disposition": "inline",
                    "Cache-Control": "private, max-age=31536000, immutable",
                },
                chunk_size=_SEND_BYTES,
                max_concurrency=_SENDS_AT_ONCE,
            )

    async def mark(self) -> str | None:
        """The mark that stands beside the clips, if any does."""
        with self._trouble():
            try:
                found = await self._obstore.get_async(self._store, MARK)
                data = await found.bytes_async()
            except FileNotFoundError:
                return None
        return bytes(data).decode("utf-8", "replace").strip()

    async def set_mark(self, mark: str) -> None:
        """Put `mark` there."""
        with self._trouble(), self._nothing_there():
            await self._obstore.put_async(self._store, MARK, mark.encode())

    async def chunks(self, kept: Kept) -> AsyncGenerator[bytes, None]:
        """The bytes that stand under its name, unchecked. Raises `FileNotFoundError`."""
        with self._trouble():
            result = await self._obstore.get_async(self._store, kept.key)
            async for chunk in result.stream(_READ_BYTES):
                yield chunk

    async def set_aside(self, kept: Kept) -> None:
        """Take it out of use; it goes for good with the rest of its clip."""
        with self._trouble():
            await self._obstore.rename_async(self._store, kept.key, kept.key + _SET_ASIDE)

    async def stored(self, clip_id: str | None = None) -> AsyncIterator[Stored]:
        """All that is kept, or all that is kept of one clip, in no order."""
        if clip_id is not None:
            check_clip_id(clip_id)
        with self._trouble():
            async for page in self._obstore.list(self._store, clip_id, chunk_size=1000):
                for each in page:
                    kept = read_key(each["path"], each["size"])
                    if kept is not None:
                        yield Stored(kept, each["last_modified"])

    async def delete(self, clip_id: str) -> None:
        """Remove all that is kept of a clip."""
        check_clip_id(clip_id)
        with self._trouble():
            async for page in self._obstore.list(self._store, clip_id, chunk_size=1000):
                try:
                    await self._obstore.delete_async(self._store, [each["path"] for each in page])
                except FileNotFoundError:  # somebody else was quicker
                    continue

    async def signed_url(self, kept: Kept, lasts: timedelta) -> str:
        """A link by which anybody can GET it, for no longer than `SIGNED_SECONDS_MAX`."""
        lasts = min(lasts, timedelta(seconds=SIGNED_SECONDS_MAX))
        # Whatever `VaultUrl` lets in but `file:` can sign.
        store = cast("SignCapableStore", self._store)
        with self._trouble():
            return await self._obstore.sign_async(store, "GET", kept.key, lasts)

    @contextmanager
    def _nothing_there(self) -> Iterator[None]:
        """Whatever is put somewhere is not missed there; it is the bucket that is."""
        try:
            yield
        except FileNotFoundError as error:
            raise VaultUnavailable("there is no such bucket") from error

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        """Whatever the bucket or the way to it does wrong, as `VaultUnavailable`."""
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as error:
            words = str(error).partition("\n")[0].partition("<?xml")[0][:_WORDS_MAX]
            raise VaultUnavailable(f"{type(error).__name__}: {words}") from error


def _may_be_plain() -> bool:
    """Whether the operator allows plain HTTP to the bucket; our own options would hide it."""
    names = ("AWS_ALLOW_HTTP", "AZURE_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP")
    return any(os.environ.get(name, "").lower() in {"1", "true"} for name in names)
