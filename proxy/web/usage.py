"""`GET /v1/usage`: the caller's own numbers, and what is left of its budget."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from proxy import errors
from proxy.core.budget import month_of
from proxy.core.statement import parse_month
from proxy.flows.usage import tenant_usage
from proxy.web.callers import Tenant, house_of
from proxy.web.problems import PROBLEM

router = APIRouter(tags=["usage"], responses={"default": PROBLEM})


class Counts(BaseModel):
    """Clips by how they ended; amounts are of the delivered ones, `avoided` of the replayed."""

    requested: int
    delivered: int
    failed: int
    unknown: int
    written_off: int
    replayed: int
    amount_micros: int
    amount_usd: str
    avoided_micros: int
    avoided_usd: str


class ModelCounts(Counts):
    """The same for one model."""

    model: str


class Unsettled(BaseModel):
    """Clips, of any month, whose end is open, and what they will cost at most."""

    clips: int
    micros_max: int
    exposure_micros: int


class Budget(BaseModel):
    """A month's limits, what is held or charged, and what is left; null is no limit."""

    clips_per_month: int | None
    clips_used: int
    clips_left: int | None
    usd_per_month: str | None
    usd_used: str
    usd_left: str | None


class UsageReport(BaseModel):
    """One tenant's month; `sandbox` when its clips were pretended."""

    object: Literal["clipmeter.usage"]
    tenant: str
    month: str
    as_of: str
    sandbox: bool = False
    rows: list[ModelCounts]
    totals: Counts
    unsettled: Unsettled
    budget: Budget


@router.get("/v1/usage", response_model=UsageReport)
async def usage(
    request: Request,
    caller: Tenant,
    month: Annotated[str | None, Query(description="YYYY-MM, UTC; this month by default")] = None,
) -> dict[str, Any]:
    """A month by model, as finance sees it, and the tenant's budget of that month."""
    house = house_of(request)
    now = house.clock.now()
    try:
        asked = month_of(now) if month is None else parse_month(month)
    except ValueError:
        message = "month must be a month such as 2026-11."
        raise errors.ProxyError("invalid_request", message, "month") from None
    return await tenant_usage(house.database, caller.tenant_id, caller.tenant_name, asked, now)
