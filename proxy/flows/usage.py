"""What was bought in a month: for finance by any dimension, for a tenant its own and what is left.

What is unsettled is always said beside it: those clips may still cost something.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from proxy.core.budget import Limits, month_of
from proxy.core.pricing import format_usd
from proxy.core.statement import Dimension, Statement, parse_by, parse_month
from proxy.flows.operator import CommandError, Operator
from proxy.flows.stamp import is_sandbox
from proxy.store import ledger
from proxy.store.database import Connection, Database
from proxy.store.tenants import find_tenant


async def report(
    operator: Operator, month: str | None = None, by: str = "tenant,model"
) -> dict[str, Any]:
    """The month's statement, by default this month's, as `usage --format json` prints it.

    Raises `CommandError` for what is no month, or no list of dimensions.
    """
    try:
        asked = month_of(operator.now()) if month is None else parse_month(month)
        dimensions = parse_by(by)
    except ValueError as error:
        raise CommandError(str(error)) from None
    statement = await operator.database.read(lambda tx: read_statement(tx, asked, dimensions))
    return statement.as_json()


async def tenant_usage(
    database: Database, tenant_id: str, tenant: str, month: str, now: datetime
) -> dict[str, Any]:
    """One tenant's own month by model, and what is left of its budget in it.

    `month` is one that `parse_month` takes; `now` says which limits of the moment apply.
    """

    def read(tx: Connection) -> dict[str, Any]:
        statement = read_statement(tx, month, (Dimension.MODEL,), tenant_id)
        row = find_tenant(tx, tenant)
        limits = Limits() if row is None else row.limits
        spent = ledger.spent(tx, tenant_id, month)
        return {
            "object": "clipmeter.usage",
            "tenant": tenant,
            **statement.as_json(),
            "budget": _budget(limits, spent),
            "as_of": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        }

    return await database.read(read)


def read_statement(
    tx: Connection, month: str, by: tuple[Dimension, ...], tenant_id: str | None = None
) -> Statement:
    """The month by the dimensions `by`; one tenant's if given."""
    unsettled = ledger.unsettled(tx, tenant_id)
    return Statement(
        month=month,
        by=by,
        lines=tuple(ledger.usage(tx, month, by, tenant_id)),
        unsettled_clips=unsettled.clips,
        unsettled_micros_max=unsettled.micros_max,
        exposure_micros=unsettled.exposure_micros,
        sandbox=is_sandbox(tx),
    )


def _budget(limits: Limits, spent: ledger.Spent) -> dict[str, Any]:
    """The limits of a month, what is held or charged, and what is left; None is no limit."""
    return {
        "clips_per_month": limits.clips_per_month,
        "clips_used": spent.clips,
        "clips_left": _left(limits.clips_per_month, spent.clips),
        "usd_per_month": _usd(limits.micros_per_month),
        "usd_used": format_usd(spent.micros),
        "usd_left": _usd(_left(limits.micros_per_month, spent.micros)),
    }


def _left(limit: int | None, used: int) -> int | None:
    return None if limit is None else max(0, limit - used)


def _usd(micros: int | None) -> str | None:
    return None if micros is None else format_usd(micros)
