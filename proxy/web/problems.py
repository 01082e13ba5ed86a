"""Whatever goes wrong in a typed route comes out in OpenAI's error envelope."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from proxy import errors
from proxy.errors import ProxyError
from proxy.store.database import LedgerUnavailable

PROBLEM: Final[dict[str, Any]] = {
    "description": "A refusal: what is wrong, and what to do.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {
                    "error": {
                        "type": "object",
                        "required": ["message", "type", "param", "code"],
                        "properties": {
                            "message": {"type": "string"},
                            "type": {"type": "string"},
                            "param": {"type": ["string", "null"]},
                            "code": {"type": "string", "enum": list(errors.CODES)},
                        },
                    }
                },
            }
        }
    },
}
"""How the OpenAPI document describes every answer that is not a success."""


def answer_problems(app: FastAPI) -> None:
    """Give `app` an answer for each kind of trouble a route or the framework may raise."""
    app.add_exception_handler(ProxyError, _refused)
    app.add_exception_handler(HTTPException, _not_served)
    app.add_exception_handler(RequestValidationError, _misunderstood)
    app.add_exception_handler(LedgerUnavailable, _without_ledger)
    app.add_exception_handler(Exception, _crashed)


def respond(refusal: ProxyError) -> Response:
    """`refusal` as a response."""
    return Response(refusal.body(), refusal.status, dict(refusal.headers()))


async def _refused(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, ProxyError)
    _note(request, refusal.code)
    return respond(refusal)


async def _not_served(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "GET")
        return await _refused(request, errors.method_not_allowed(allowed.split(", ")))
    if error.status_code == 404:
        return await _refused(request, errors.route_not_found())
    return await _refused(request, ProxyError("invalid_request", str(error.detail)))


async def _misunderstood(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:]) or None
    message = f"{field or 'The request'}: {first['msg']}."
    return await _refused(request, ProxyError("invalid_request", message, field))


async def _without_ledger(request: Request, _error: Exception) -> Response:
    return await _refused(request, errors.ledger_unavailable())


async def _crashed(request: Request, _error: Exception) -> Response:
    """The framework raises the error again once this is sent, so that it reaches the log."""
    exchange = request.scope.get("exchange")
    request_id = exchange.request_id if exchange is not None else "unknown"
    return await _refused(request, errors.internal_error(request_id))


def _note(request: Request, code: str) -> None:
    exchange = request.scope.get("exchange")
    if exchange is not None:
        exchange.note(code=code)
