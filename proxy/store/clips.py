"""Clips and what becomes of them: one event → the clip's row, its entry and every count, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, String, bindparam, func, select, update

from proxy.core import clip
from proxy.core.budget import month_of
from proxy.core.clip import Impossible, State
from proxy.core.ledger import Kind, entry_id
from proxy.store.admission import ADD_TO_BUDGET, ADD_TO_FLIGHTS, INSERT_ENTRY
from proxy.store.jobs import end_job
from proxy.store.keepings import expect
from proxy.store.prepared import Prepared, set_to, together
from proxy.store.tables import CLIPS, TENANTS, VENDOR_TEXT_LENGTH_MAX

UNKNOWN_MAX: Final = 1_000
"""How many unknown clips one look brings."""

SETTLED_AS: Final = {
    State.DELIVERED: Kind.CHARGE,
    State.FAILED: Kind.RELEASE,
    State.WRITTEN_OFF: Kind.RELEASE,
}

# News that says again what the clip's state says already: no step, and nothing to wonder at.
_SAID_BEFORE: Final[dict[State, tuple[type[clip.Event], ...]]] = {
    State.GENERATING: (clip.Opened,),
    State.QUEUED: (clip.Queued,),
    State.IN_PROGRESS: (clip.Progressed,),
    State.UNKNOWN: (clip.Lost,),
    State.DELIVERED: (clip.Delivered,),
    State.FAILED: (clip.Failed, clip.Refused),
    State.WRITTEN_OFF: (clip.GaveUp,),
}


@dataclass(frozen=True, slots=True)
class Settled:
    """What one event did to one clip, which now stands at `state`.

    `amount_micros` is what it charged: 0 unless `changed` and delivered. `impossible` is news that
    contradicts what is written; it changed nothing. `tenant` is the tenant's name.
    """

    clip_id: str
    tenant_id: str
    tenant: str
    model: str
    state: State
    changed: bool
    amount_micros: int = 0
    impossible: Impossible | None = None

    @property
    def news(self) -> str:
        """The impossible event's name, in small letters; empty when there is none."""
        return "" if self.impossible is None else type(self.impossible.event).__name__.lower()


@dataclass(frozen=True, slots=True)
class ClipRow:
    """One clip, as it is written down."""

    id: str
    generation_id: str
    tenant_id: str
    position: int
    model: str
    state: State
    price_micros: int
    list_micros: int
    price_version: str
    accepted_at: datetime
    completed_at: datetime | None
    reason: str | None
    url: str | None
    vendor_text: str | None


class _Standing(NamedTuple):
    """What `settle` reads of a clip."""

    state: str
    tenant_id: str
    tenant: str
    model: str
    price_micros: int
    month: str


_COLUMNS: Final = tuple(CLIPS.c[name] for name in ClipRow.__slots__)

_LOOK: Final = Prepared(
    select(
        CLIPS.c.state,
        CLIPS.c.tenant_id,
        TENANTS.c.name,
        CLIPS.c.model,
        CLIPS.c.price_micros,
        CLIPS.c.month,
    )
    .select_from(CLIPS)
    .join(TENANTS, TENANTS.c.id == CLIPS.c.tenant_id)
    .where(CLIPS.c.id == bindparam("clip_id"))
)
_MOVE: Final = Prepared(
    update(CLIPS)
    .where(CLIPS.c.id == bindparam("of_clip"))
    .values(
        set_to("state", "completed_at", "finance_month", "reason", "url")
        | {
            "vendor_text": func.coalesce(
                bindparam("new_vendor_text", type_=String), CLIPS.c.vendor_text
            )
        }
    )
)


def settle(
    tx: Connection, clip_id: str, event: clip.Event, now: datetime, words: str = ""
) -> Settled:
    """Let `event` happen to the clip, and book what follows; again and again changes nothing.

    A clip's job ends with it, and what is delivered is to be fetched. `words` are the vendor's own.
    Raises `KeyError` for a clip that was never admitted.
    """
    row = _LOOK.one(tx, {"clip_id": clip_id})
    if row is None:
        raise KeyError(clip_id)
    stands = _Standing(*row)
    before = State(stands.state)
    whose = (clip_id, stands.tenant_id, stands.tenant, stands.model)
    told = event.outcome if isinstance(event, clip.Found) else event
    if isinstance(told, _SAID_BEFORE.get(before, ())):
        return Settled(*whose, before, changed=False)
    after = clip.advance(before, event)
    if isinstance(after, Impossible):
        return Settled(*whose, before, changed=False, impossible=after)
    in_flight = (after in clip.OPEN) - (before in clip.OPEN)
    with together(tx):
        _move(tx, clip_id, after, told, now, words)
        if in_flight:
            ADD_TO_FLIGHTS.run(tx, {"of_tenant": stands.tenant_id, "more_clips": in_flight})
        if after in SETTLED_AS:
            _book(tx, clip_id, stands, SETTLED_AS[after], now)
            end_job(tx, clip_id, now)
        if after is State.DELIVERED:
            expect(tx, clip_id, now)
    charged = stands.price_micros if after is State.DELIVERED else 0
    return Settled(*whose, after, changed=True, amount_micros=charged)


def _move(
    tx: Connection, clip_id: str, after: State, told: clip.Event, now: datetime, words: str
) -> None:
    final = after in clip.FINAL
    reason = getattr(told, "reason", None)
    values = {
        "of_clip": clip_id,
        "new_state": after.value,
        "new_completed_at": now if final else None,
        "new_finance_month": month_of(now) if final else None,
        "new_reason": None if reason is None else reason.value,
        "new_url": (told.url or None) if isinstance(told, clip.Delivered) else None,
        "new_vendor_text": words[:VENDOR_TEXT_LENGTH_MAX] or None,
    }
    _MOVE.run(tx, values)


def _book(tx: Connection, clip_id: str, stands: _Standing, kind: Kind, now: datetime) -> None:
    entry = {
        "id": entry_id(kind, clip_id),
        "kind": kind.value,
        "clip_id": clip_id,
        "tenant_id": stands.tenant_id,
        "amount_micros": stands.price_micros,
        "booked_at": now,
        "month": month_of(now),
        "settles": clip_id,
    }
    INSERT_ENTRY.run(tx, entry)
    if kind is Kind.RELEASE:
        of = {"of_tenant": stands.tenant_id, "of_month": stands.month}
        ADD_TO_BUDGET.run(tx, {**of, "more_clips": -1, "more_micros": -stands.price_micros})


def find_clip(tx: Connection, tenant_id: str, clip_id: str) -> ClipRow | None:
    """The tenant's own clip; a foreign one is as absent as an unknown one."""
    row = tx.execute(
        select(*_COLUMNS).where(CLIPS.c.id == clip_id, CLIPS.c.tenant_id == tenant_id)
    ).first()
    return None if row is None else _clip(row)


def clips_of(tx: Connection, generation_id: str) -> list[ClipRow]:
    """The clips of a generation that was found through its tenant, by position."""
    rows = tx.execute(
        select(*_COLUMNS).where(CLIPS.c.generation_id == generation_id).order_by(CLIPS.c.position)
    )
    return [_clip(row) for row in rows]


def unknown_since(tx: Connection, before: datetime) -> list[str]:
    """The ids of unknown clips accepted before `before`; at most `UNKNOWN_MAX`, oldest first."""
    rows = tx.execute(
        select(CLIPS.c.id)
        .where(
            CLIPS.c.completed_at.is_(None),
            CLIPS.c.accepted_at < before,
            CLIPS.c.state == State.UNKNOWN.value,
        )
        .order_by(CLIPS.c.accepted_at, CLIPS.c.id)
        .limit(UNKNOWN_MAX)
    )
    return list(rows.scalars())


def _clip(row: Sequence[Any]) -> ClipRow:
    values = dict(zip(ClipRow.__slots__, row, strict=True))
    return ClipRow(**{**values, "state": State(values["state"])})
