"""`/v1/videos/{id}/content`: a clip's bytes or its pictures, by a key or by a signed link."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlsplit

from proxy import errors
from proxy.core import portions, ranges
from proxy.core.caller import Role
from proxy.core.content_request import ContentRequest, Variant, read_content_request
from proxy.core.headers import value_of
from proxy.core.playback import Disposition, content_disposition
from proxy.core.request import Malformed
from proxy.flows.content import Coming, Contents, Need, Still
from proxy.flows.house import House
from proxy.flows.pictures import Pictures
from proxy.flows.redirect import Redirects
from proxy.flows.videos import signed_link
from proxy.store.incoming import NotFinished
from proxy.store.kept import Kind, VaultUnavailable, is_clip_id
from proxy.web.auth import Keyring, require
from proxy.web.body import has_left
from proxy.web.exchange import Exchange, Receive, Send, link_base, send_json

Headers = list[tuple[bytes, bytes]]

_KINDS: Final = {
    Variant.VIDEO: Kind.CLIP,
    Variant.THUMBNAIL: Kind.THUMBNAIL,
    Variant.SPRITESHEET: Kind.SPRITESHEET,
}
_GUARDED: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox"),
    (b"referrer-policy", b"no-referrer"),
)
_KEEP: Final = (b"cache-control", b"private, max-age=31536000, immutable")
_FORGET: Final = (b"cache-control", b"no-store")
_LOOK_PIECES: Final = 8
"""After so many pieces it is looked whether the caller is still there."""


@dataclass(frozen=True, slots=True)
class _Grant:
    """Whose clip may be had, and what a browser is to do with it; `by_key` or by a link."""

    tenant_id: str
    by_key: bool
    disposition: Disposition = Disposition.INLINE


class Content:
    """Answers GET and HEAD; finds out by itself who asks, because a signed link needs no key."""

    def __init__(self, house: House, keyring: Keyring) -> None:
        """One for each process."""
        self._house = house
        self._keyring = keyring
        self._contents = Contents(house)
        self._pictures = Pictures(house, self._contents)
        self._redirects = Redirects(house)

    async def serve(self, exchange: Exchange, clip_id: str, receive: Receive, send: Send) -> None:
        """Answer one request. Raises `ProxyError` and `LedgerUnavailable` before anything is sent.

        A body that breaks off looks broken: the answer is left without an end.
        """
        query = exchange.query.decode("latin-1")
        grant = await self._grant(exchange, clip_id, query)
        exchange.note(clip=clip_id if is_clip_id(clip_id) else "")
        asked = read_content_request(query, exchange.headers)
        if isinstance(asked, Malformed):
            raise errors.ProxyError(asked.code, asked.message, asked.param)
        # A link must not beget links, or it would last for ever.
        if asked.as_link and grant.by_key:
            await self._send_link(exchange, grant, clip_id, asked, send)
            return
        pour = _Pour(receive, send, self._house.config.limits.listener_stall_seconds_max)
        kind = _KINDS[asked.variant]
        named = content_disposition(grant.disposition, clip_id, kind.suffix).encode()
        headers: Headers = [*_GUARDED, (b"content-disposition", named)]
        if kind is not Kind.CLIP:
            async with self._pictures.opened(grant.tenant_id, clip_id, kind) as picture:
                await _send_still(exchange, picture, headers, pour)
            return
        link = None if asked.direct else await self._redirect(exchange, grant, clip_id)
        if link is not None:
            moved = [*_GUARDED, _FORGET, (b"location", link.encode()), (b"content-length", b"0")]
            await pour.head(302, moved)
            await pour.end()
            return
        need = Need.WHOLE if asked.whole else Need.PART
        async with self._contents.opened(grant.tenant_id, clip_id, need) as clip:
            if isinstance(clip, Still):
                await _send_still(exchange, clip, headers, pour)
            else:
                await _send_coming(exchange, clip, headers, pour)

    async def _grant(self, exchange: Exchange, clip_id: str, query: str) -> _Grant:
        """Who asks: a key counts, and only without one a signed link. Raises `ProxyError`."""
        named = any(name == b"authorization" for name, _ in exchange.headers)
        if named or "sig" not in parse_qs(query, keep_blank_values=True):
            exchange.caller = await self._keyring.caller(exchange.headers)
            require(exchange.caller, Role.TENANT)
            return _Grant(exchange.caller.tenant_id, by_key=True)
        playback = await self._contents.granted(clip_id, query)
        return _Grant(playback.tenant, by_key=False, disposition=playback.disposition)

    async def _send_link(
        self, exchange: Exchange, grant: _Grant, clip_id: str, asked: ContentRequest, send: Send
    ) -> None:
        row = await self._contents.find(grant.tenant_id, clip_id)
        link = signed_link(self._house, row, link_base(exchange, self._house.config.server))
        expires_at = int(parse_qs(urlsplit(link).query)["exp"][0])
        if asked.variant is not Variant.VIDEO:
            link += f"&variant={asked.variant}"
        answer = {
            "id": row.id,
            "object": "video.content",
            "url": link,
            "expires_at": expires_at,
        }
        await send_json(exchange, answer, [("cache-control", "no-store")], send)

    async def _redirect(self, exchange: Exchange, grant: _Grant, clip_id: str) -> str | None:
        """Where in the bucket the clip is, for a GET that the bucket can answer; else None."""
        if not self._house.config.vault.redirect or exchange.method != "GET":
            return None
        if value_of(exchange.headers, b"if-match") is not None:
            return None  # the bucket has a tag of its own for the very same bytes
        row = await self._contents.find(grant.tenant_id, clip_id)
        if row.keeping != "kept" or row.sha256 is None or row.kept_at is None:
            return None
        kept = ranges.Kept(row.size_bytes or 0, f'"{row.sha256}"', row.kept_at)
        found = ranges.answer(exchange.method, exchange.headers, kept)
        if not isinstance(found, ranges.Whole | ranges.Part | ranges.Parts):
            return None
        return await self._redirects.link(row)


class _Pour:
    """Sends a body piece by piece, each within `stall_seconds`, while its caller is there."""

    def __init__(self, receive: Receive, send: Send, stall_seconds: float) -> None:
        self.sent_bytes = 0
        self._receive = receive
        self._send = send
        self._stall_seconds = stall_seconds
        self._pieces = 0

    async def head(self, status: int, headers: Headers) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def piece(self, piece: bytes) -> bool:
        """Send `piece`; False for a caller who has left. Raises `TimeoutError`."""
        async with asyncio.timeout(self._stall_seconds):
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        self.sent_bytes += len(piece)
        self._pieces += 1
        return self._pieces % _LOOK_PIECES != 0 or not await has_left(self._receive)

    async def chunks(self, chunks: AsyncGenerator[bytes, None]) -> bool:
        """Send `chunks`, as `piece` does, and close them. Raises what they raise, too."""
        async with aclosing(chunks):
            async for chunk in chunks:
                if not await self.piece(chunk):
                    return False
        return True

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})


async def _send_still(exchange: Exchange, still: Still, headers: Headers, pour: _Pour) -> None:
    """Answer with kept bytes, as the request's ranges and conditions have it."""
    of = still.reader.kept
    kept = ranges.Kept(of.size_bytes, f'"{of.sha256}"', still.kept_at, of.kind.content_type)
    found = ranges.answer(exchange.method, exchange.headers, kept)
    own = portions.fields(found, kept)
    if isinstance(found, ranges.PreconditionFailed):
        raise errors.precondition_failed(_words(own))
    if isinstance(found, ranges.Unsatisfiable):
        raise errors.range_not_satisfiable(kept.size, _words(own))
    hit = (b"cache-status", b"clipmeter; hit")
    await pour.head(found.status, [*own, *headers, _KEEP, hit])
    try:
        for piece in portions.body(found, kept) if exchange.method == "GET" else ():
            if isinstance(piece, bytes):
                going = await pour.piece(piece)
            else:
                going = await pour.chunks(still.reader.chunks(piece.start, piece.stop))
            if not going:
                _note_broken(exchange, pour, caller_left=True)
                return
    except (TimeoutError, VaultUnavailable):
        _note_broken(exchange, pour)
        return
    exchange.note(bytes_out=pour.sent_bytes)
    await pour.end()


async def _send_coming(exchange: Exchange, coming: Coming, headers: Headers, pour: _Pour) -> None:
    """Answer with all of a clip as it comes in; without validators, for it may break off yet."""
    own = [(b"content-type", Kind.CLIP.content_type.encode()), _FORGET]
    own.append((b"cache-status", coming.cache_status.encode()))
    if coming.declared is not None:
        own.append((b"content-length", str(coming.declared).encode()))
    await pour.head(200, [*own, *headers])
    try:
        if exchange.method == "GET" and not await pour.chunks(coming.chunks()):
            _note_broken(exchange, pour, caller_left=True)
            return
    except (TimeoutError, NotFinished, VaultUnavailable):
        _note_broken(exchange, pour)
        return
    exchange.note(bytes_out=pour.sent_bytes)
    await pour.end()


def _note_broken(exchange: Exchange, pour: _Pour, *, caller_left: bool = False) -> None:
    exchange.ended_well = False
    exchange.note(outcome="broken", bytes_out=pour.sent_bytes, caller_left=caller_left)


def _words(headers: Headers) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value in headers]
