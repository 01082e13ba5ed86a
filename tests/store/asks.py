"""Two tenants, a price book and requests that ask to be let in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, func, select, text

from proxy.core.keys import Role
from proxy.core.pricing import Price, PriceLine
from proxy.store.admission import Admission, Admitted, admit
from proxy.store.database import Database
from proxy.store.keys import NewKey, add_key
from proxy.store.prices import import_lines
from proxy.store.tables import BUDGETS, ENTRIES, FLIGHTS, METADATA, VENDOR_SCOPE
from proxy.store.tenants import add_tenant

T = TypeVar("T")

NOW = datetime(2026, 11, 22, 12, 0, 30, 123456, tzinfo=UTC)
MONTH = "2026-11"
MODEL = "veo-3.1"
MICROS = 250_000
VERSION = "veo-3.1@2025-01-01"
LINE = PriceLine(MODEL, MICROS, date(2025, 1, 1), VERSION)
TEAM, RIVAL = "tenant_team", "tenant_rival"


def furnish(tx: Connection) -> None:
    """Two tenants without limits, a key each, and a price."""
    for tenant_id in (TEAM, RIVAL):
        name = name_of(tenant_id)
        add_tenant(tx, tenant_id, name, NOW, cost_center=f"cc-{name}")
        key = NewKey(f"key_{name}", f"digest-{name}", "sk-cm-abcd…", Role.TENANT, name)
        add_key(tx, key, NOW)
    import_lines(tx, [LINE], NOW, "test")


def name_of(tenant_id: str) -> str:
    return tenant_id.removeprefix("tenant_")


def ask(
    number: int,
    clips: int = 1,
    tenant_id: str = TEAM,
    now: datetime = NOW,
    **changed: Any,
) -> Admission:
    """Request `number`, for clips `video_<number>_0` and so on."""
    values: dict[str, Any] = {
        "generation_id": f"gen_{number}",
        "clip_ids": tuple(f"video_{number}_{position}" for position in range(clips)),
        "tenant_id": tenant_id,
        "key_id": f"key_{name_of(tenant_id)}",
        "mode": "chat",
        "model": MODEL,
        "asked_model": MODEL,
        "stream": True,
        "body_hash": "0" * 64,
        "price": Price(MICROS, MICROS, VERSION),
        "vendor_clips_in_flight": None,
        "process_id": "process_one",
        "gateway": "api",
        "now": now,
    }
    return Admission(**{**values, **changed})


def write(database: Database, fn: Callable[[Connection], T]) -> T:
    return asyncio.run(database.write(fn))


def read(database: Database, fn: Callable[[Connection], T]) -> T:
    return asyncio.run(database.read(fn))


def let_in(database: Database, number: int, clips: int = 1, **changed: Any) -> Admission:
    """Admit request `number`, which must succeed."""
    wanted = ask(number, clips, **changed)
    assert isinstance(write(database, lambda tx: admit(tx, wanted)), Admitted)
    return wanted


def rows_of(database: Database, sql: str, **values: Any) -> list[tuple[Any, ...]]:
    """What a statement in SQL finds."""
    return read(database, lambda tx: [tuple(row) for row in tx.execute(text(sql), values)])


def entries_of(database: Database, clip_id: str) -> dict[str, int]:
    """The clip's entries: kind → micro-dollars."""
    query = select(ENTRIES.c.kind, ENTRIES.c.amount_micros).where(ENTRIES.c.clip_id == clip_id)
    return dict(read(database, lambda tx: [(row[0], row[1]) for row in tx.execute(query)]))


def budget_of(database: Database, tenant_id: str = TEAM, month: str = MONTH) -> tuple[int, int]:
    """Clips and micro-dollars that count against the tenant's month."""
    query = select(BUDGETS.c.clips, BUDGETS.c.micros).where(
        BUDGETS.c.tenant_id == tenant_id, BUDGETS.c.month == month
    )
    row = read(database, lambda tx: tx.execute(query).first())
    return (0, 0) if row is None else (row[0], row[1])


def in_flight(database: Database, scope: str = VENDOR_SCOPE) -> int:
    """Clips in flight of a tenant, or of all."""
    query = select(FLIGHTS.c.clips).where(FLIGHTS.c.scope == scope)
    clips: int = read(database, lambda tx: tx.execute(query).scalar_one())
    return clips


def everything(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, to see that nothing changed."""

    def look(tx: Connection) -> dict[str, list[tuple[Any, ...]]]:
        return {
            name: sorted(map(tuple, tx.execute(select(table))), key=repr)
            for name, table in METADATA.tables.items()
        }

    return read(database, look)


def count_of(database: Database, table: str) -> int:
    query = select(func.count()).select_from(METADATA.tables[table])
    return read(database, lambda tx: tx.execute(query).scalar_one())
