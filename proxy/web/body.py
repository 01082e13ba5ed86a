"""A request's body as it comes, bounded in bytes and in time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from proxy import errors
from proxy.config import Limits
from proxy.core.headers import value_of
from proxy.flows.reply import CallerGone
from proxy.web.exchange import Exchange, Receive

DISCARD_TIMES: Final = 4
DISCARD_SECONDS: Final = 2.0
"""How much more than is allowed, and for how long, is read of a body that is refused."""


async def read_body(exchange: Exchange, receive: Receive, limits: Limits) -> bytes:
    """The whole body; refused as soon as it is too large, or too slow in coming.

    Raises `ProxyError`, and `CallerGone` when the caller leaves before its last byte.
    """
    pieces: list[bytes] = []
    await take_body(exchange, receive, limits, pieces.append, pieces.clear)
    return b"".join(pieces)


async def take_body(
    exchange: Exchange,
    receive: Receive,
    limits: Limits,
    feed: Callable[[bytes], None],
    drop: Callable[[], None],
) -> None:
    """Have `feed` see the body piece by piece; it may refuse, by a `ProxyError`.

    `drop` is called after a refusal, before the rest of the body is heard out. Raises as
    `read_body` does.
    """
    bytes_max = limits.request_bytes_max
    length = value_of(exchange.headers, b"content-length")
    size = int(length[:20]) if length is not None and length.isdigit() else 0
    more = True
    try:
        if size > bytes_max:
            raise errors.request_too_large(bytes_max)
        size = 0
        async with asyncio.timeout(limits.request_seconds_max):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise CallerGone
                more = message.get("more_body", False)
                piece = message.get("body", b"")
                size += len(piece)
                if size > bytes_max:
                    raise errors.request_too_large(bytes_max)
                feed(piece)
    except TimeoutError:
        words = "The request did not arrive in time; nothing was bought. Send it again."
        raise errors.ProxyError("invalid_request", words) from None
    except errors.ProxyError:
        drop()
        if more:
            await _discard(receive, bytes_max)
        raise


async def has_left(receive: Receive) -> bool:
    """Whether the caller has hung up by now; its whole request must have been read."""
    try:
        async with asyncio.timeout(0):
            message = await receive()
    except TimeoutError:
        return False
    return bool(message["type"] == "http.disconnect")


async def _discard(receive: Receive, bytes_max: int) -> None:
    """Let a caller finish sending, for a while: one who is still sending cannot hear a refusal."""
    left = DISCARD_TIMES * bytes_max
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
