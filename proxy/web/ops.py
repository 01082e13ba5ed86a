"""`/healthz`, `/readyz` and `/metrics`: what machines ask of a server.

`/healthz` says that the process answers. `/readyz` says whether paid work would be taken: it is
503 while the server drains, and while nothing can be booked (contract, "Errors").
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from proxy.core.caller import Role
from proxy.flows.readiness import refusals
from proxy.web.callers import house_of, open_to

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """The process answers."""

    status: str = "ok"


class Readiness(BaseModel):
    """`ready`, or `not_ready` and why: any of `draining` and `ledger_unavailable`."""

    status: str
    reasons: list[str]


@router.get("/healthz")
async def healthz() -> Health:
    """Whether the process answers; nothing else is looked at."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness}})
async def readyz(request: Request, response: Response) -> Readiness:
    """Whether paid work would be taken now."""
    reasons = await refusals(house_of(request))
    if reasons:
        response.status_code = 503
    return Readiness(status="not_ready" if reasons else "ready", reasons=reasons)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Every series, as Prometheus asks for it; a `metrics` key, unless `server.metrics_public`."""
    house = house_of(request)
    if not house.config.server.metrics_public:
        await open_to(Role.METRICS)(request)
    series, media_type = house.metrics.render(request.headers.get("accept", ""))
    return Response(series, media_type=media_type)
