"""Two tenants, a price book and requests that ask to be let in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, func, insert, select, text

from proxy.core import clip
from proxy.core.keys import Role
from proxy.core.pricing import Price, PriceLine
from proxy.core.replay import Why
from proxy.store.admission import Admission, Admitted, admit
from proxy.store.clips import Settled, settle
from proxy.store.database import Database
from proxy.store.generations import UpstreamIds, record_opened
from proxy.store.jobs import add_job
from proxy.store.keepings import claim_waiting, record_kept
from proxy.store.keys import NewKey, add_key
from proxy.store.prices import import_lines
from proxy.store.replay import Again, Avoided, record_replay
from proxy.store.tables import (
    BUDGETS,
    CLIPS,
    ENTRIES,
    FLIGHTS,
    GENERATIONS,
    JOBS,
    METADATA,
    VENDOR_SCOPE,
)
from proxy.store.tenants import add_tenant

T = TypeVar("T")

NOW = datetime(2026, 11, 22, 12, 0, 30, 123456, tzinfo=UTC)
MONTH = "2026-11"
MODEL = "veo-3.1"
MICROS = 250_000
VERSION = "veo-3.1@2025-01-01"
LINE = PriceLine(MODEL, MICROS, date(2025, 1, 1), VERSION)
TEAM, RIVAL = "tenant_team", "tenant_rival"
LINK = "https://cdn.example/clip.mp4"
DELIVERED = clip.Delivered(LINK)


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


def submit(database: Database, number: int, owner: str = "process_one", **changed: Any) -> str:
    """A video whose job, of the name `job_<number>`, `owner` has begun to follow; its clip."""
    wanted = let_in(database, number, mode="video", process_id=owner, **changed)
    job = f"job_{number}"
    (clip_id,) = wanted.clip_ids

    def accepted(tx: Connection) -> None:
        ids = UpstreamIds(id=job)
        record_opened(tx, wanted.generation_id, wanted.gateway, 200, ids, clip.Queued())
        add_job(tx, clip_id, wanted.gateway, job, owner, wanted.now)

    write(database, accepted)
    return clip_id


def news(database: Database, clip_id: str, said: clip.Event, now: datetime = NOW) -> Settled:
    """Let what is `said` happen to the clip."""
    return write(database, lambda tx: settle(tx, clip_id, said, now))


def deliver(
    database: Database, number: int, now: datetime = NOW, url: str = LINK, **changed: Any
) -> list[str]:
    """A chat request, all of whose clips are delivered at `now`; its clips."""
    clip_ids = let_in(database, number, **changed).clip_ids
    for clip_id in clip_ids:
        news(database, clip_id, clip.Opened(), now)
        news(database, clip_id, clip.Delivered(url), now)
    return list(clip_ids)


def keep(database: Database, clip_id: str, now: datetime = NOW, sha256: str = "5" * 64) -> int:
    """Have the vault keep the bytes of a clip that waits for it; the fence they came under."""

    def fetched(tx: Connection) -> int:
        claimed = claim_waiting(tx, "process_one", now, now, 1_000)
        fence = next(one.fence for one in claimed if one.clip_id == clip_id)
        assert record_kept(tx, clip_id, fence, sha256, 1_000, now)
        return fence

    return write(database, fetched)


def give_again(
    database: Database, number: int, of: str, tenant_id: str = TEAM, **changed: Any
) -> Avoided:
    """Replay `number` gives the generation `of` again, as clips `video_<number>_0` and so on."""
    values: dict[str, Any] = {
        "of": of,
        "tenant_id": tenant_id,
        "key_id": f"key_{name_of(tenant_id)}",
        "why": Why.IDEMPOTENCY,
        "generation_id": f"gen_{number}",
        "clip_ids": [f"video_{number}_{position}" for position in range(4)],
        "process_id": "process_one",
        "now": NOW,
    }
    return write(database, lambda tx: record_replay(tx, Again(**{**values, **changed})))


def many_jobs(tx: Connection, count: int, owner: str) -> None:
    """Unfinished jobs of `owner`, `video_000000` and so on, as that many submits leave them."""
    wanted = ask(0)
    unended = dict.fromkeys(("gateway", "upstream_id", "completed_at", "ended_at", "url"))
    common = {
        **unended,
        **{name: getattr(wanted, name) for name in ("tenant_id", "key_id", "mode", "model")},
        "asked_model": MODEL,
        "clips": 1,
        "stream": False,
        "body_hash": wanted.body_hash,
        "accepted_at": NOW,
        "month": MONTH,
        "process_id": owner,
        "attempts": 1,
        "position": 0,
        "state": clip.State.IN_PROGRESS.value,
        "price_micros": MICROS,
        "list_micros": MICROS,
        "price_version": VERSION,
        "gateway": "api",
        "percent": 0,
        "owner": owner,
        "fence": 0,
        "started_at": NOW,
    }
    for table in (GENERATIONS, CLIPS, JOBS):
        columns = set(table.columns.keys())
        alike = {name: value for name, value in common.items() if name in columns}
        rows = []
        for number in range(count):
            one, of = f"video_{number:06}", f"gen_{number:06}"
            names = {"id": of if table is GENERATIONS else one, "generation_id": of}
            names |= {"clip_id": one, "upstream_id": f"job_{number:06}"}
            rows.append(alike | {name: value for name, value in names.items() if name in columns})
        tx.execute(insert(table), rows)


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
    return read(database, every_row)


def every_row(tx: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, as it stands in the midst of a transaction."""
    return {
        name: sorted(map(tuple, tx.execute(select(table))), key=repr)
        for name, table in METADATA.tables.items()
    }


def count_of(database: Database, table: str) -> int:
    query = select(func.count()).select_from(METADATA.tables[table])
    return read(database, lambda tx: tx.execute(query).scalar_one())
