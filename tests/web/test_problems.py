"""Whatever goes wrong in a typed route is one error envelope."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import FastAPI, Query
from starlette.exceptions import HTTPException

from proxy import errors
from proxy.store.database import LedgerUnavailable
from proxy.web.problems import PROBLEM, answer_problems


def an_app() -> FastAPI:
    app = FastAPI()
    answer_problems(app)

    @app.get("/refused")
    async def refused() -> None:
        raise errors.model_not_allowed("veo-3.1")

    @app.get("/ledger")
    async def ledger() -> None:
        raise LedgerUnavailable("a secret of the operator's")

    @app.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418, "short and stout")

    @app.get("/number")
    async def number(n: Annotated[int, Query()]) -> int:
        return n

    @app.get("/bug")
    async def bug() -> None:
        raise RuntimeError("a caller's prompt")

    return app


def ask(method: str, path: str) -> httpx2.Response:
    async def story() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=an_app(), raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, path)

    return asyncio.run(story())


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "param"),
    [
        ("GET", "/refused", 403, "model_not_allowed", "model"),
        ("GET", "/nowhere", 404, "route_not_found", None),
        ("POST", "/refused", 405, "method_not_allowed", None),
        ("GET", "/ledger", 503, "ledger_unavailable", None),
        ("GET", "/teapot", 400, "invalid_request", None),
        ("GET", "/number?n=x", 400, "invalid_request", "n"),
        ("GET", "/number", 400, "invalid_request", "n"),
        ("GET", "/bug", 500, "internal_error", None),
    ],
)
def test_trouble_has_openais_shape(
    method: str, path: str, status: int, code: str, param: str | None
) -> None:
    response = ask(method, path)
    assert response.status_code == status
    error = response.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert error["type"] == errors.CODES[code].type
    assert error["message"]
    assert response.headers["x-should-retry"] in {"true", "false"}
    assert response.headers["content-type"] == "application/json"


def test_a_wrong_method_is_told_the_right_ones() -> None:
    assert ask("DELETE", "/refused").headers["allow"] == "GET"


@pytest.mark.parametrize("path", ["/ledger", "/bug"])
def test_our_own_words_and_a_callers_stay_inside(path: str) -> None:
    body = ask("GET", path).text
    assert "secret" not in body
    assert "prompt" not in body


def test_the_document_knows_every_code() -> None:
    schema: dict[str, Any] = PROBLEM["content"]["application/json"]["schema"]
    codes = schema["properties"]["error"]["properties"]["code"]["enum"]
    assert codes == list(errors.CODES)
    assert json.dumps(PROBLEM)
