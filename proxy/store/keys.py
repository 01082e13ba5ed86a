"""Keys: kept as digests, found by them, revoked at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, or_, select, update

from proxy.core.keys import Role
from proxy.store.tables import KEYS, TENANTS
from proxy.store.tenants import TenantUnknown


class KeyUnknown(Exception):
    """There is no key of this id."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to be added: its digest and the few characters it is shown by, never the key itself.

    `tenant` is the tenant's name, and stands for the tenant role alone.
    """

    id: str
    digest: str
    prefix: str
    role: Role
    tenant: str | None
    label: str = ""
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key and what its tenant is called and may ask for; `models` are globs, None is all."""

    id: str
    role: Role
    label: str
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    tenant_id: str | None
    tenant: str | None
    cost_center: str | None
    models: tuple[str, ...] | None
    tenant_disabled_at: datetime | None

    def valid(self, now: datetime) -> bool:
        """Whether the key opens anything at `now`."""
        expired = self.expires_at is not None and self.expires_at <= now
        return self.revoked_at is None and self.tenant_disabled_at is None and not expired


_SELECT: Final = select(
    KEYS.c.id,
    KEYS.c.role,
    KEYS.c.label,
    KEYS.c.prefix,
    KEYS.c.created_at,
    KEYS.c.expires_at,
    KEYS.c.last_used_at,
    KEYS.c.revoked_at,
    KEYS.c.tenant_id,
    TENANTS.c.name,
    TENANTS.c.cost_center,
    TENANTS.c.models,
    TENANTS.c.disabled_at,
).select_from(KEYS.outerjoin(TENANTS, TENANTS.c.id == KEYS.c.tenant_id))

_FIND: Final = _SELECT.where(KEYS.c.digest == bindparam("digest"))

_TOUCH: Final = (
    update(KEYS)
    .where(
        KEYS.c.id == bindparam("of_key"),
        or_(KEYS.c.last_used_at.is_(None), KEYS.c.last_used_at < bindparam("used_at")),
    )
    .values(last_used_at=bindparam("used_at"))
)


def add_key(tx: Connection, key: NewKey, now: datetime) -> KeyRow:
    """Add a key. Raises `TenantUnknown`, and `ValueError` unless role and tenant agree."""
    if (key.role is Role.TENANT) != (key.tenant is not None):
        message = "a key of the tenant role needs a tenant, and no other role has one"
        raise ValueError(message)
    tenant_id = None
    if key.tenant is not None:
        tenant_id = tx.execute(select(TENANTS.c.id).where(TENANTS.c.name == key.tenant)).scalar()
        if tenant_id is None:
            raise TenantUnknown(key.tenant)
    row = {
        "id": key.id,
        "digest": key.digest,
        "tenant_id": tenant_id,
        "role": key.role.value,
        "label": key.label,
        "prefix": key.prefix,
        "created_at": now,
        "expires_at": key.expires_at,
    }
    tx.execute(insert(KEYS).values(row))
    return _one(tx, key.id)


def revoke_key(tx: Connection, key_id: str, now: datetime) -> KeyRow:
    """Let the key open nothing more; the first time stands. Raises `KeyUnknown`."""
    tx.execute(
        update(KEYS).where(KEYS.c.id == key_id, KEYS.c.revoked_at.is_(None)).values(revoked_at=now)
    )
    return _one(tx, key_id)


def find_key(tx: Connection, digest: str) -> KeyRow | None:
    """The key with this digest, whatever its state."""
    row = tx.execute(_FIND, {"digest": digest}).first()
    return None if row is None else _key(row)


def list_keys(tx: Connection) -> list[KeyRow]:
    """Every key, revoked ones too, by tenant and age."""
    rows = tx.execute(_SELECT.order_by(TENANTS.c.name, KEYS.c.created_at, KEYS.c.id))
    return [_key(row) for row in rows]


def touch_keys(tx: Connection, last_used: Mapping[str, datetime]) -> None:
    """Write down when keys, by id, were last used; never back to an earlier time."""
    if last_used:
        tx.execute(_TOUCH, [{"of_key": key, "used_at": at} for key, at in last_used.items()])


def _one(tx: Connection, key_id: str) -> KeyRow:
    row = tx.execute(_SELECT.where(KEYS.c.id == key_id)).first()
    if row is None:
        raise KeyUnknown(key_id)
    return _key(row)


def _key(row: Sequence[Any]) -> KeyRow:
    values = dict(zip(KeyRow.__slots__, row, strict=True))
    models = values["models"]
    values["models"] = None if models is None else tuple(models)
    return KeyRow(**{**values, "role": Role(values["role"])})
