"""What the metrics ask of the tables: states that no event tells."""

from __future__ import annotations

from sqlalchemy import Connection, and_, func, or_, select

from proxy.store.tables import BUDGETS, CLIPS, TENANTS


def unfinished_by_model(tx: Connection) -> dict[str, int]:
    """How many clips of each model are not settled."""
    rows = tx.execute(
        select(CLIPS.c.model, func.count())
        .where(CLIPS.c.completed_at.is_(None))
        .group_by(CLIPS.c.model)
    )
    return {model: int(count) for model, count in rows}


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
