"""key → tenant and role, or a refusal.

What is wrong with a key is never said: a missing, garbled, unknown, revoked or expired one, and
the key of a disabled tenant, all get the same bytes. Only a key whose checksum is wrong is refused
sooner, which tells nobody anything: the checksum needs no secret (facts R75).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from proxy import errors
from proxy.config import Limits
from proxy.core import keys
from proxy.core.caller import Caller, Role
from proxy.flows.house import Clock
from proxy.store.database import LedgerUnavailable
from proxy.store.keys import KeyRow

_SCHEME: Final = "bearer "

Find = Callable[[str], Awaitable[KeyRow | None]]
"""Looks a key up by its digest, whatever its state."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A key as the database had it at `read_at`, in monotonic seconds."""

    row: KeyRow
    caller: Caller
    read_at: float


class Keyring:
    """Knows callers by their keys; remembers each for `key_cache_seconds`, by its whole digest.

    Only keys that open something are remembered, so that to an outsider a revoked key takes as
    long as an unknown one.
    """

    def __init__(self, find: Find, pepper: bytes, clock: Clock, limits: Limits) -> None:
        """`pepper` is the key of key digests; a `ValueError` when it is empty (facts R84)."""
        if not pepper:
            raise ValueError("keys cannot be told apart without a pepper")
        self._find = find
        self._pepper = pepper
        self._clock = clock
        self._cache_seconds = limits.key_cache_seconds
        self._cache_keys_max = limits.key_cache_keys_max
        self._known: dict[str, _Known] = {}
        self._forgotten = 0
        self._used: dict[str, datetime] = {}

    async def caller(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """The holder of the key in `headers`, raw and in lower case as ASGI gives them.

        Raises `ProxyError`: `invalid_api_key`, or `ledger_unavailable` when nobody can tell.
        """
        key = presented(headers)
        if key is None or not keys.well_formed(key):
            raise errors.invalid_api_key()
        digest = keys.digest(self._pepper, key)
        known = self._known.get(digest)
        if known is None or self._clock.monotonic() - known.read_at >= self._cache_seconds:
            known = await self._look_up(digest)
        now = self._clock.now()
        if known is None or not known.row.valid(now):
            raise errors.invalid_api_key()
        self._used[known.row.id] = now
        return known.caller

    def forget(self, key_id: str | None = None) -> None:
        """Ask the database again about this key, or about all, the next time one is shown."""
        self._forgotten += 1
        self._known = {
            digest: known
            for digest, known in self._known.items()
            if key_id is not None and known.row.id != key_id
        }

    def take_last_used(self) -> dict[str, datetime]:
        """When keys were last used, by their ids, since this was last asked."""
        used, self._used = self._used, {}
        return used

    async def _look_up(self, digest: str) -> _Known | None:
        self._known.pop(digest, None)
        forgotten, read_at = self._forgotten, self._clock.monotonic()
        try:
            row = await self._find(digest)
        except LedgerUnavailable:
            raise errors.ledger_unavailable() from None
        if row is None or not row.valid(self._clock.now()):
            return None
        known = _Known(row, _caller(row), read_at)
        # What was read before a revocation must not outlive it.
        if forgotten == self._forgotten:
            if len(self._known) >= self._cache_keys_max:
                del self._known[next(iter(self._known))]
            self._known[digest] = known
        return known


def presented(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The key in `Authorization`, bare or after `Bearer`; None unless there is exactly one."""
    values = [value for name, value in headers if name == b"authorization"]
    if len(values) != 1:
        return None
    text = values[0].decode("latin-1").strip()
    if text[: len(_SCHEME)].lower() == _SCHEME:
        return text[len(_SCHEME) :].strip()
    return text


def require(caller: Caller, *roles: Role) -> None:
    """Let only `roles` in, and nobody where none is named. Raises `role_required`."""
    if caller.role not in roles:
        raise errors.role_required(caller.role, roles)


def _caller(row: KeyRow) -> Caller:
    return Caller(
        key_id=row.id,
        tenant_id=row.tenant_id or "",
        tenant_name=row.tenant or "",
        role=row.role,
        label=row.label,
        cost_center=row.cost_center,
        models=row.models,
    )
