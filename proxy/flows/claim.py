"""What a request says of itself as a repeat of an earlier one: by its headers, by its body."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from proxy import errors
from proxy.config import Config
from proxy.core.replay import fingerprint_chat, read_key, retry_count, wants_reuse
from proxy.core.request import Malformed

ASIDE_BYTES_MIN: Final = 128 * 2**10
"""A larger body is digested in a thread: sixteen megabytes take a tenth of a second."""

_HOURS_MAX: Final = 876_000  # a century; the calendar ends, and numbers do not


@dataclass(frozen=True, slots=True)
class Claim:
    """By what an earlier request may be found: a name, an SDK's count of tries, the content.

    `key` is an `Idempotency-Key`; with `reuse` any identical earlier one will do. `reuse_off` says
    that this was wished for, and is not allowed here.
    """

    key: str | None = None
    retry_count: int = 0
    reuse: bool = False
    reuse_off: bool = False

    @property
    def asks(self) -> bool:
        """Whether there is anything to find an earlier request by."""
        return self.key is not None or self.retry_count > 0 or self.reuse

    @property
    def cache_status(self) -> str:
        """That header's value (RFC 9211) for a request that has to be bought."""
        if self.reuse_off:
            return "clipmeter; fwd=miss; detail=reuse-off"
        return "clipmeter; fwd=miss" if self.reuse else "clipmeter; fwd=bypass"


def read_claim(config: Config, headers: Iterable[tuple[bytes, bytes]]) -> Claim:
    """What the headers of a paid request claim; raises `ProxyError` for one that is malformed."""
    sent = list(headers)
    key, reuse = read_key(sent), wants_reuse(sent)
    for found in (key, reuse):
        if isinstance(found, Malformed):
            raise errors.ProxyError(found.code, found.message, found.param)
    assert not isinstance(key, Malformed)
    allowed = config.replay.reuse == "opt-in"
    return Claim(key, retry_count(sent), bool(reuse) and allowed, bool(reuse) and not allowed)


def key_life(config: Config) -> timedelta:
    """How long a key gives the same answer."""
    return timedelta(hours=min(config.replay.idempotency_hours, _HOURS_MAX))


async def fingerprint(body: bytes) -> str:
    """What a chat request asks for, in 64 hexadecimal digits, whatever form it came in."""
    if len(body) < ASIDE_BYTES_MIN:
        return fingerprint_chat(body)
    return await asyncio.get_running_loop().run_in_executor(None, fingerprint_chat, body)
