"""Tenants and their limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypedDict, Unpack

from sqlalchemy import Connection, insert, select, update

from proxy.core.budget import Limits
from proxy.store.tables import FLIGHTS, MINUTES, TENANTS

_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


class TenantExists(Exception):
    """There is a tenant of this name already."""


class TenantUnknown(Exception):
    """There is no tenant of this name."""


class Terms(TypedDict, total=False):
    """What can be agreed with a tenant; a limit that is None, or left out, is none.

    Amounts are micro-dollars. `models` are globs of the names the tenant may ask for; None is all.
    """

    cost_center: str | None
    clips_per_month: int | None
    micros_per_month: int | None
    clips_in_flight: int | None
    requests_per_minute: int | None
    models: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class TenantRow:
    """One tenant, as it is written down."""

    id: str
    name: str
    cost_center: str | None
    limits: Limits
    models: tuple[str, ...] | None
    created_at: datetime
    disabled_at: datetime | None


_COLUMNS: Final = (
    TENANTS.c.id,
    TENANTS.c.name,
    TENANTS.c.cost_center,
    TENANTS.c.models,
    TENANTS.c.created_at,
    TENANTS.c.disabled_at,
    TENANTS.c.clips_per_month,
    TENANTS.c.micros_per_month,
    TENANTS.c.clips_in_flight,
    TENANTS.c.requests_per_minute,
)


def add_tenant(
    tx: Connection, tenant_id: str, name: str, now: datetime, **terms: Unpack[Terms]
) -> TenantRow:
    """Add a tenant, with what its clips are counted in. Raises `TenantExists`."""
    if find_tenant(tx, name) is not None:
        raise TenantExists(name)
    row = {"id": tenant_id, "name": name, "created_at": now, **_values(terms)}
    tx.execute(insert(TENANTS).values(row))
    tx.execute(insert(FLIGHTS).values(scope=tenant_id, clips=0))
    tx.execute(insert(MINUTES).values(tenant_id=tenant_id, minute=_LONG_AGO, requests=0))
    return _one(tx, name)


def set_tenant(tx: Connection, name: str, **terms: Unpack[Terms]) -> TenantRow:
    """Change the terms that are given, and no others. Raises `TenantUnknown`."""
    if terms:
        tx.execute(update(TENANTS).where(TENANTS.c.name == name).values(_values(terms)))
    return _one(tx, name)


def disable_tenant(tx: Connection, name: str, now: datetime) -> TenantRow:
    """Let the tenant in no more; the first time stands. Raises `TenantUnknown`."""
    tx.execute(
        update(TENANTS)
        .where(TENANTS.c.name == name, TENANTS.c.disabled_at.is_(None))
        .values(disabled_at=now)
    )
    return _one(tx, name)


def find_tenant(tx: Connection, name: str) -> TenantRow | None:
    """The tenant of exactly this name."""
    row = tx.execute(select(*_COLUMNS).where(TENANTS.c.name == name)).first()
    return None if row is None else _tenant(row)


def is_let_in(tx: Connection, tenant_id: str) -> bool:
    """Whether there is a tenant with this id, and it is not disabled."""
    found = tx.execute(
        select(TENANTS.c.id).where(TENANTS.c.id == tenant_id, TENANTS.c.disabled_at.is_(None))
    )
    return found.first() is not None


def list_tenants(tx: Connection) -> list[TenantRow]:
    """Every tenant, disabled ones too, by name."""
    rows = tx.execute(select(*_COLUMNS).order_by(TENANTS.c.name))
    return [_tenant(row) for row in rows]


def _one(tx: Connection, name: str) -> TenantRow:
    tenant = find_tenant(tx, name)
    if tenant is None:
        raise TenantUnknown(name)
    return tenant


def _values(terms: Terms) -> dict[str, object]:
    values: dict[str, object] = {**terms}
    models = terms.get("models")
    if models is not None:
        values["models"] = list(models)
    return values


def _tenant(row: Sequence[Any]) -> TenantRow:
    tenant_id, name, cost_center, models, created_at, disabled_at, *limits = row
    return TenantRow(
        tenant_id,
        name,
        cost_center,
        Limits(*limits),
        None if models is None else tuple(models),
        created_at,
        disabled_at,
    )
