"""Who asks a typed route: dependencies that name the roles a route is open to."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from fastapi import Depends, Request

from proxy import errors
from proxy.core.caller import Caller, Role
from proxy.core.headers import value_of
from proxy.flows.house import House
from proxy.web.auth import Keyring, require

_BASIC: Final = "basic "


def house_of(request: Request) -> House:
    """The running house."""
    house: House = request.app.state.house
    return house


def open_to(*roles: Role) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency: the caller, whose key has one of `roles`; any valid key where none is named.

    Raises `ProxyError`.
    """

    async def caller_of(request: Request) -> Caller:
        keyring: Keyring = request.app.state.keyring
        caller = await keyring.caller(request.scope["headers"])
        if roles:
            require(caller, *roles)
        _note(request, caller)
        return caller

    return caller_of


async def _visitor(request: Request) -> Caller:
    """Any valid key, which a browser may also send as a password: it has no other way."""
    keyring: Keyring = request.app.state.keyring
    try:
        caller = await keyring.caller(_as_bearer(request.scope["headers"]))
    except errors.ProxyError as refusal:
        if refusal.status != 401:
            raise
        asking = [("www-authenticate", 'Basic realm="clipmeter: the key is the password"')]
        raise errors.ProxyError(refusal.code, refusal.message, more_headers=asking) from None
    _note(request, caller)
    return caller


def _note(request: Request, caller: Caller) -> None:
    """Have the request's log line name the caller."""
    exchange = request.scope.get("exchange")
    if exchange is not None:
        exchange.caller = caller


def _as_bearer(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    given = value_of(headers, b"authorization") or ""
    if given[: len(_BASIC)].lower() != _BASIC:
        return headers
    try:
        words = base64.b64decode(given[len(_BASIC) :].strip(), validate=True)
    except binascii.Error:
        return headers
    password = words.partition(b":")[2]
    others = [(name, value) for name, value in headers if name.lower() != b"authorization"]
    return [*others, (b"authorization", b"Bearer " + password)]


Tenant = Annotated[Caller, Depends(open_to(Role.TENANT))]
"""The holder of a tenant's key."""

Visitor = Annotated[Caller, Depends(_visitor)]
"""The holder of any valid key, perhaps with a browser."""
