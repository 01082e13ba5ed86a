"""What the metrics ask of the tables: states that no event tells."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, and_, func, or_, select

from proxy.store.tables import BUDGETS, CLIPS, TENANTS


@dataclass(frozen=True, slots=True)
class Loss:
    """What a clip that nobody found may have cost us, at list price, and whose it was."""

    generation_id: str
    tenant: str
    model: str
    list_micros: int


def unfinished_by_model(tx: Connection) -> dict[str, int]:
    """How many clips of each model are not settled."""
    rows = tx.execute(
        select(CLIPS.c.model, func.count())
        .where(CLIPS.c.completed_at.is_(None))
        .group_by(CLIPS.c.model)
    )
    return {model: int(count) for model, count in rows}


def losses_of(tx: Connection, clip_ids: Collection[str]) -> dict[str, Loss]:
    """What each of `clip_ids` may have cost, the oldest first."""
    rows = tx.execute(
        select(
            CLIPS.c.id, CLIPS.c.generation_id, TENANTS.c.name, CLIPS.c.model, CLIPS.c.list_micros
        )
        .join(TENANTS, TENANTS.c.id == CLIPS.c.tenant_id)
        .where(CLIPS.c.id.in_(sorted(clip_ids)))
        .order_by(CLIPS.c.accepted_at, CLIPS.c.id)
    )
    return {clip_id: Loss(*rest) for clip_id, *rest in rows}


def budgets_used(tx: Connection, month: str) -> dict[str, float]:
    """The share of each limited tenant's budget that `month` has used; the tighter of its two."""
    used = and_(BUDGETS.c.tenant_id == TENANTS.c.id, BUDGETS.c.month == month)
    rows = tx.execute(
        select(
            TENANTS.c.name,
            TENANTS.c.clips_per_month,
            TENANTS.c.micros_per_month,
            func.coalesce(BUDGETS.c.clips, 0),
            func.coalesce(BUDGETS.c.micros, 0),
        )
        .select_from(TENANTS.outerjoin(BUDGETS, used))
        .where(
            TENANTS.c.disabled_at.is_(None),
            or_(TENANTS.c.clips_per_month.is_not(None), TENANTS.c.micros_per_month.is_not(None)),
        )
    )
    return {
        name: max(_share(clips, clips_max), _share(micros, micros_max))
        for name, clips_max, micros_max, clips, micros in rows
    }


def _share(used: int, allowed: int | None) -> float:
    if allowed is None:
        return 0.0
    return int(used) / allowed if allowed else 1.0
