"""One gateway: takes connections, reads requests, knows the routes, and applies the faults."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from proxy.sandbox import chat, links, videos
from proxy.sandbox.control import Desk
from proxy.sandbox.door import Door
from proxy.sandbox.errors import ERRORS, failure
from proxy.sandbox.exchange import Exchange, Premises, page
from proxy.sandbox.faults import Operation
from proxy.sandbox.http import Connection, Malformed, Reply, Request, Severed, head_bytes
from proxy.sandbox.orders import Refused, prompt_of

KEY_PREFIX: Final = "sk-sandbox"
"""Any key that starts so is taken, with or without `Bearer` before it."""


@dataclass(frozen=True, slots=True)
class Route:
    """What answers a method and path; groups of the pattern become arguments."""

    methods: frozenset[str]
    pattern: re.Pattern[str]
    operation: Operation
    answer: Callable[..., Awaitable[None]]


async def models(exchange: Exchange) -> None:
    """The models on sale, as OpenAI lists them."""
    entries = [
        {"id": name, "object": "model", "created": 1_764_000_000, "owned_by": "custom"}
        for name in exchange.premises.products
    ]
    await exchange.reply_json({"object": "list", "data": entries})


def _route(
    methods: str, path: str, operation: Operation, answer: Callable[..., Awaitable[None]]
) -> Route:
    return Route(frozenset(methods.split()), re.compile(path), operation, answer)


_UUID: Final = "([0-9a-f-]{36})"
ROUTES: Final = (
    _route("POST", "/v1/chat/completions", Operation.SUBMIT, chat.complete),
    _route("POST", "/v1/videos", Operation.SUBMIT, videos.create),
    _route("GET", "/v1/videos/([^/]+)", Operation.POLL, videos.status),
    _route("GET", "/v1/videos/([^/]+)/content", Operation.CONTENT, videos.content),
    _route("GET", "/v1/models", Operation.MODELS, models),
    _route("GET HEAD", f"/flow/{_UUID}\\.mp4", Operation.LINK, links.fetch),
    _route("GET HEAD", f"/ai-sandbox-videofx/video/{_UUID}", Operation.LINK, links.fetch),
)


class Gateway:
    """One of the vendor's hosts, by name."""

    def __init__(self, name: str, address: tuple[str, int], premises: Premises, desk: Desk) -> None:
        self.name = name
        self._premises = premises
        self._desk = desk
        self._idle: set[Connection] = set()
        self.door = Door(*address, self._visit)

    async def shut(self, *, silent: bool = False) -> None:
        """Take no more connections, and drop those that wait for a next request."""
        await self.door.shut(silent=silent)
        for connection in self._idle:
            connection.drop()

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        try:
            if "reset-before" in self._desk.switchboard.take(self.name, None):
                await connection.reset()
                return
            while await self._turn(connection):
                pass
            await connection.close()
        except (Severed, ConnectionError):
            return
        finally:
            connection.drop()

    async def _turn(self, connection: Connection) -> bool:
        """Read and answer one request; False when the connection is done."""
        self._idle.add(connection)
        try:
            request = await connection.read()
        except Malformed as wrong:
            reply = failure(wrong.status, str(wrong), "bad_request")
            length = ("Content-Length", str(len(reply.body)))
            head = head_bytes(reply.status, [*reply.headers, length, ("Connection", "close")])
            await connection.write(head + reply.body)
            return False
        finally:
            self._idle.discard(connection)
        if request is None:
            return False
        return await self._answer(connection, request)

    async def _answer(self, connection: Connection, request: Request) -> bool:
        if request.path == "/sandbox" or request.path.startswith("/sandbox/"):
            return await self._desk.answer(connection, request)
        route, arguments = _find(request)
        operation = Operation.ANY if route is None else route.operation
        faults = self._desk.switchboard.take(self.name, operation)
        exchange = Exchange(self._premises, self.name, connection, request, faults)
        if route is None:
            await exchange.reply(_nowhere(request))
        elif route.operation is Operation.SUBMIT:
            await self._submit(exchange, route)
        else:
            await _serve(exchange, route, arguments)
        return exchange.wire.keep_alive

    async def _submit(self, exchange: Exchange, route: Route) -> None:
        """Answer a paid request, counted by its prompt."""
        tally = self._premises.vendor.tally(prompt_of(exchange.request))
        tally.received += 1
        tally.in_flight += 1
        tally.in_flight_max = max(tally.in_flight_max, tally.in_flight)
        try:
            await _serve(exchange, route, ())
        finally:
            tally.in_flight -= 1


async def _serve(exchange: Exchange, route: Route, arguments: tuple[str, ...]) -> None:
    """Answer by the route, unless a fault answers instead or the vendor refuses."""
    paid, free = route.operation is Operation.SUBMIT, route.operation is Operation.LINK
    if not paid and await exchange.answered_instead():
        return
    try:
        if not free:
            _check_key(exchange)
        await route.answer(exchange, *arguments)
    except Refused as refused:
        if not (paid and await exchange.answered_instead()):
            await exchange.reply(refused.reply)


def _find(request: Request) -> tuple[Route | None, tuple[str, ...]]:
    for route in ROUTES:
        match = route.pattern.fullmatch(request.path)
        if match and request.method in route.methods:
            return route, match.groups()
    return None, ()


def _check_key(exchange: Exchange) -> None:
    key = exchange.request.headers.get("authorization", "")
    if not key.removeprefix("Bearer ").startswith(KEY_PREFIX):
        raise Refused(ERRORS["bad-key"].reply("", exchange.request_id))


def _nowhere(request: Request) -> Reply:
    """What the vendor says on a path it does not know (wire facts, section 2.5)."""
    if request.path.startswith("/v1/v1/"):
        return failure(404, f"Invalid URL ({request.method} {request.path})", "")
    return page()
