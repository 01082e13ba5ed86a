"""The data plane as plain ASGI, declared in one route table; all else goes to the typed routes.

FastAPI's route machinery costs half the throughput of a relay (decision 13), and what a relay has
to do at its edge is little: read a bounded body, find the caller, pass bytes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from proxy import errors, logs
from proxy.core.headers import looped, value_of
from proxy.flows import chat
from proxy.flows.house import House
from proxy.flows.listener import Broken, Listener
from proxy.web.auth import Keyring, require
from proxy.web.exchange import Exchange
from proxy.web.table import ROUTES, Route

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

DISCARD_TIMES: Final = 4
DISCARD_SECONDS: Final = 2.0
"""How much more than is allowed, and for how long, is read of a body that is refused."""

_BY_PATH: Final = {
    path: {route.method: route for route in ROUTES if route.path == path}
    for path in {route.path for route in ROUTES}
}


class Relay:
    """Serves the routes of the table."""

    def __init__(self, house: House, keyring: Keyring) -> None:
        """One for each process."""
        self._house = house
        self._keyring = keyring
        self._flows = {"chat": self._chat}

    def serves(self, path: str) -> bool:
        """Whether `path`, as the request line gave it, is one of the table's."""
        return path in _BY_PATH

    async def serve(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        """Answer one request; every refusal is an error in OpenAI's envelope."""
        try:
            route = self._route(exchange)
            exchange.route = route.path
            exchange.caller = await self._keyring.caller(exchange.headers)
            require(exchange.caller, *route.roles)
            await self._flows[route.flow](exchange, receive, send)
        except chat.CallerGone:
            exchange.note(caller_left=True)
        except errors.ProxyError as refusal:
            await send_error(exchange, refusal, send)
        except Exception as crash:
            logs.crash("relay", crash)
            if exchange.status:
                raise
            await send_error(exchange, errors.internal_error(exchange.request_id), send)

    def _route(self, exchange: Exchange) -> Route:
        methods = _BY_PATH[exchange.path]
        route = methods.get(exchange.method)
        if route is None:
            raise errors.method_not_allowed(sorted(methods))
        if looped(exchange.headers):
            message = "This request has come through this proxy before: its base URL is its own."
            raise errors.ProxyError("invalid_request", message)
        return route

    async def _chat(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        limits = self._house.config.limits
        body = await read_body(exchange, receive, limits.request_bytes_max, self._house)
        keepalive = self._keepalive_seconds(exchange)
        request = chat.read(self._house, body)

        async def gone() -> bool:
            return await has_left(receive)

        caller = exchange.known_caller
        asking = chat.answer(self._house, caller, request, exchange.headers, gone)
        del body, request  # not kept while the answer runs
        reply = await asking
        exchange.generation = reply.generation
        exchange.note(code=reply.code)
        headers = exchange.own_headers(reply.headers)
        if isinstance(reply.body, bytes):
            headers = [(name, value) for name, value in headers if name != b"content-length"]
            headers.append((b"content-length", str(len(reply.body)).encode()))
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            await send({"type": "http.response.body", "body": reply.body})
            return
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        stall = limits.listener_stall_seconds_max
        exchange.ended_well = await listen(reply.body, send, keepalive, stall)

    def _keepalive_seconds(self, exchange: Exchange) -> float | None:
        asked = value_of(exchange.headers, b"x-clipmeter-keepalive")
        if asked is None:
            return None
        limits = self._house.config.limits
        least, most = limits.keepalive_seconds_min, limits.keepalive_seconds_max
        if not asked.isascii() or not asked.isdigit() or not least <= int(asked[:6]) <= most:
            message = f"x-clipmeter-keepalive must be a number of seconds from {least} to {most}."
            raise errors.ProxyError("invalid_request", message, "x-clipmeter-keepalive")
        return float(asked)


async def read_body(exchange: Exchange, receive: Receive, bytes_max: int, house: House) -> bytes:
    """The request's whole body; refused as soon as it is too large, or too slow in coming."""
    length = value_of(exchange.headers, b"content-length")
    if length is not None and length.isdigit() and int(length[:20]) > bytes_max:
        await _discard(receive, bytes_max)
        raise errors.request_too_large(bytes_max)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(house.config.limits.request_seconds_max):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise chat.CallerGone
                part = message.get("body", b"")
                size += len(part)
                if size > bytes_max:
                    parts.clear()
                    await _discard(receive, bytes_max)
                    raise errors.request_too_large(bytes_max)
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        message_text = "The request did not arrive in time; nothing was bought. Send it again."
        raise errors.ProxyError("invalid_request", message_text) from None


async def _discard(receive: Receive, bytes_max: int) -> None:
    """Let a caller finish sending, for a while: one who is still sending cannot hear a refusal."""
    left = DISCARD_TIMES * bytes_max
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


async def has_left(receive: Receive) -> bool:
    """Whether the caller has hung up by now; its whole request must have been read."""
    try:
        async with asyncio.timeout(0):
            message = await receive()
    except TimeoutError:
        return False
    return bool(message["type"] == "http.disconnect")


async def listen(
    listener: Listener, send: Send, keepalive: float | None, stall_seconds: float
) -> bool:
    """Send what the listener gets, as it comes; False for an answer that broke off.

    Returning without a last body message is how ASGI closes a connection unfinished, which is what
    a broken answer has to look like.
    """
    task = asyncio.current_task()
    assert task is not None
    listener.on_drop(lambda: task.cancel("listener dropped"))
    try:
        while True:
            chunk = await listener.read(keepalive)
            async with asyncio.timeout(stall_seconds):
                if chunk is None:
                    await send({"type": "http.response.body", "body": b""})
                    return True
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except (Broken, TimeoutError):
        listener.drop()
        return False
    except asyncio.CancelledError:
        if not listener.dropped:
            raise
        task.uncancel()
        return False


async def send_error(exchange: Exchange, refusal: errors.ProxyError, send: Send) -> None:
    """Answer with `refusal`."""
    exchange.note(code=refusal.code)
    body = refusal.body()
    named = [(name.encode(), value.encode()) for name, value in refusal.headers()]
    headers = [*exchange.own_headers(named), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
