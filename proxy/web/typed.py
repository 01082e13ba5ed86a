"""Everything people read or administer: typed routes, with an OpenAPI document that is true.

The data plane is not served here, but it is described here, from its own table, so that one
document tells a newcomer all there is.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from starlette.responses import HTMLResponse, JSONResponse

from proxy.core.caller import Role
from proxy.flows.house import House
from proxy.web import models, ops, usage
from proxy.web.auth import Keyring
from proxy.web.callers import Visitor
from proxy.web.problems import PROBLEM, answer_problems
from proxy.web.shapes import components, schema_of
from proxy.web.table import ID, ROUTES, Media, Route

_TITLE: Final = "Clipmeter"
_ABOUT: Final = "An OpenAI-compatible caching and metering proxy for per-clip video generation."

router = APIRouter(include_in_schema=False)

ROUTERS: Final = (models.router, usage.router, ops.router, router)
"""Every typed route there is."""


def typed_app(house: House, keyring: Keyring) -> FastAPI:
    """The FastAPI application of all typed routes."""
    app = FastAPI(
        title=_TITLE,
        description=_ABOUT,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.house = house
    app.state.keyring = keyring
    answer_problems(app)
    for part in ROUTERS:
        app.include_router(part)
    return app


@router.get("/openapi.json")
async def openapi(request: Request, _visitor: Visitor) -> JSONResponse:
    """The OpenAPI document of every route."""
    return JSONResponse(document(request.app))


@router.get("/docs")
async def docs(_visitor: Visitor) -> HTMLResponse:
    """The OpenAPI document as a page; a browser asks for the key as its password."""
    return get_swagger_ui_html(openapi_url="openapi.json", title=_TITLE)


def document(app: FastAPI) -> dict[str, Any]:
    """The typed routes and the relay's table as one OpenAPI document."""
    described = get_openapi(title=_TITLE, version="1", description=_ABOUT, routes=app.routes)
    for route in ROUTES:
        described["paths"].setdefault(route.path, {})[route.method.lower()] = _operation(route)
    parts = described.setdefault("components", {})
    parts["schemas"] = {**parts.get("schemas", {}), **components()}
    parts["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "bearerFormat": "sk-cm-…"}
    }
    described["security"] = [{"key": []}]
    return described


def _operation(route: Route) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}_{route.flow}",
        "description": _roles(route.roles),
        "parameters": _parameters(route),
        "responses": {
            "200": {"description": "The answer.", "content": _content(route.reply)},
            "default": PROBLEM,
        },
    }
    if route.request:
        described["requestBody"] = {"required": True, "content": _content(route.request)}
    if route.own_door:
        described["security"] = [{"key": []}, {}]
        described["description"] += " A signed link needs none."
    return described


def _parameters(route: Route) -> list[dict[str, Any]]:
    text = {"type": "string"}
    path = [{"name": "id", "in": "path", "required": True, "schema": text}]
    places = [*(("query", each) for each in route.query)]
    places += [("header", each) for each in route.headers]
    named = [
        {"name": each.name, "in": place, "description": each.about, "schema": {**each.schema}}
        for place, each in places
    ]
    return [*(path if ID in route.path else []), *named]


def _roles(roles: tuple[Role, ...]) -> str:
    return f"Needs a key with the role {' or '.join(roles)}."


def _content(media: tuple[Media, ...]) -> dict[str, Any]:
    return {each.type: {"schema": schema_of(each.shape)} for each in media}
