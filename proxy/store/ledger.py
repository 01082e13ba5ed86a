"""What the ledger says: usage by month, what is unsettled, what a budget has left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select

from proxy.core.clip import State
from proxy.core.ledger import Kind
from proxy.core.statement import Dimension, Line, Tally
from proxy.store.moments import utc_day
from proxy.store.tables import ATTEMPTS, BUDGETS, CLIPS, ENTRIES, GENERATIONS, KEYS, TENANTS

_PLACES: Final[Mapping[Dimension, ColumnElement[Any]]] = {
    Dimension.TENANT: TENANTS.c.name,
    Dimension.MODEL: CLIPS.c.model,
    Dimension.DAY: utc_day(func.coalesce(CLIPS.c.completed_at, CLIPS.c.accepted_at)),
    Dimension.KEY: KEYS.c.id,
    Dimension.COST_CENTER: TENANTS.c.cost_center,
}


def _count(state: State) -> ColumnElement[int]:
    return func.sum(case((CLIPS.c.state == state.value, 1), else_=0))


_MEASURES: Final = (
    func.count(),
    _count(State.DELIVERED),
    _count(State.FAILED),
    _count(State.UNKNOWN),
    _count(State.WRITTEN_OFF),
    _count(State.REPLAYED),
    func.coalesce(func.sum(ENTRIES.c.amount_micros), 0),
    func.sum(case((CLIPS.c.state == State.REPLAYED.value, CLIPS.c.price_micros), else_=0)),
)
"""In the order of `Tally`."""


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Clips whose end is open: how many, and what their tenants will pay at most.

    `exposure_micros` is what the vendor may have billed for attempts without a clip to show.
    """

    clips: int
    micros_max: int
    exposure_micros: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What counts against a tenant's budget of a month: held and charged."""

    clips: int = 0
    micros: int = 0


def usage(
    tx: Connection, month: str, by: Sequence[Dimension], tenant_id: str | None = None
) -> list[Line]:
    """The month's clips by the dimensions `by`, in order of their places; one tenant's if given.

    A clip stands in the finance month of its end, an unsettled one in that of its acceptance
    (decision 15). The amount is what the ledger's charges add up to.
    """
    places = [_PLACES[dimension] for dimension in by]
    stands = or_(
        CLIPS.c.finance_month == month,
        and_(CLIPS.c.completed_at.is_(None), CLIPS.c.month == month),
    )
    whose = [] if tenant_id is None else [CLIPS.c.tenant_id == tenant_id]
    charged = and_(ENTRIES.c.settles == CLIPS.c.id, ENTRIES.c.kind == Kind.CHARGE.value)
    source = CLIPS.join(TENANTS, TENANTS.c.id == CLIPS.c.tenant_id).outerjoin(ENTRIES, charged)
    if Dimension.KEY in by:
        source = source.join(GENERATIONS, GENERATIONS.c.id == CLIPS.c.generation_id)
        source = source.join(KEYS, KEYS.c.id == GENERATIONS.c.key_id)
    rows = tx.execute(
        select(*places, *_MEASURES)
        .select_from(source)
        .where(stands, *whose)
        .group_by(*places)
        .having(func.count() > 0)
    )
    lines = [
        Line(tuple(row[: len(places)]), Tally(*(int(sum_) for sum_ in row[len(places) :])))
        for row in rows
    ]
    # Databases disagree on where NULL sorts, and on the order of letters.
    return sorted(lines, key=lambda line: [(place is not None, place) for place in line.place])


def unsettled(tx: Connection, tenant_id: str | None = None) -> Unsettled:
    """What is open now, in all months; one tenant's if given."""
    open_clips: list[ColumnElement[bool]] = [CLIPS.c.completed_at.is_(None)]
    exposed: list[ColumnElement[bool]] = [ATTEMPTS.c.exposure_micros > 0]
    if tenant_id is not None:
        open_clips.append(CLIPS.c.tenant_id == tenant_id)
        exposed.append(GENERATIONS.c.tenant_id == tenant_id)
    clips, micros = tx.execute(
        select(func.count(), func.coalesce(func.sum(CLIPS.c.price_micros), 0)).where(*open_clips)
    ).one()
    exposure = tx.execute(
        select(func.coalesce(func.sum(ATTEMPTS.c.exposure_micros), 0))
        .select_from(ATTEMPTS.join(GENERATIONS, GENERATIONS.c.id == ATTEMPTS.c.generation_id))
        .where(*exposed)
    ).scalar_one()
    return Unsettled(clips, int(micros), int(exposure))


def spent(tx: Connection, tenant_id: str, month: str) -> Spent:
    """What the tenant's clips accepted in `month` hold or were charged."""
    row = tx.execute(
        select(BUDGETS.c.clips, BUDGETS.c.micros).where(
            BUDGETS.c.tenant_id == tenant_id, BUDGETS.c.month == month
        )
    ).first()
    return Spent() if row is None else Spent(*row)
