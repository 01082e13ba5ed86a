"""The data plane as plain ASGI, declared in one route table; all else goes to the typed routes.

FastAPI's route machinery costs half the throughput of a relay (decision 13), and what a relay has
to do at its edge is little: read a bounded body, find the caller, pass bytes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from proxy import errors, logs
from proxy.core.headers import looped, value_of
from proxy.flows import chat
from proxy.flows.house import House
from proxy.flows.listener import Broken, Listener
from proxy.flows.reply import CallerGone
from proxy.store.database import LedgerUnavailable
from proxy.store.kept import is_clip_id
from proxy.web.auth import Keyring, require
from proxy.web.body import has_left, read_body
from proxy.web.content import Content
from proxy.web.exchange import Exchange, Receive, Send, link_base, send_error, send_reply
from proxy.web.table import Place, Route
from proxy.web.videos import Videos

Serve = Callable[[Exchange, Receive, Send], Awaitable[None]]


class Relay:
    """Serves the routes of the table."""

    def __init__(self, house: House, keyring: Keyring) -> None:
        """One for each process."""
        self._house = house
        self._keyring = keyring
        self._content = Content(house, keyring)
        videos = Videos(house)
        self._flows: Final[dict[str, Serve]] = {
            "chat": self._chat,
            "create_video": videos.create,
            "list_videos": videos.list,
            "retrieve_video": videos.retrieve,
            "delete_video": videos.delete,
            "content": self._serve_content,
        }

    async def serve(self, place: Place, exchange: Exchange, receive: Receive, send: Send) -> None:
        """Answer one request to `place`; every refusal is an error in OpenAI's envelope."""
        exchange.route, exchange.path_id = place.path, place.id
        try:
            route = _route(place, exchange)
            if not route.own_door:
                exchange.caller = await self._keyring.caller(exchange.headers)
                require(exchange.caller, *route.roles)
            if is_clip_id(place.id):
                exchange.note(clip=place.id)
            await self._flows[route.flow](exchange, receive, send)
        except CallerGone:
            exchange.note(caller_left=True)
        except errors.ProxyError as refusal:
            await send_error(exchange, refusal, send)
        except LedgerUnavailable:
            await send_error(exchange, errors.ledger_unavailable(), send)
        except Exception as crash:
            logs.crash("relay", crash)
            if exchange.status:
                raise
            await send_error(exchange, errors.internal_error(exchange.request_id), send)

    async def _serve_content(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        await self._content.serve(exchange, exchange.path_id, receive, send)

    async def _chat(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        limits = self._house.config.limits
        body = await read_body(exchange, receive, limits)
        keepalive = self._keepalive_seconds(exchange)
        request = chat.read(self._house, body)

        async def gone() -> bool:
            return await has_left(receive)

        caller, base = exchange.known_caller, link_base(exchange, self._house.config.server)
        asking = chat.answer(self._house, caller, request, exchange.headers, gone, base)
        del body, request  # not kept while the answer runs
        reply = await asking
        await send_reply(exchange, reply, send)
        if isinstance(reply.body, bytes):
            return
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


def _route(place: Place, exchange: Exchange) -> Route:
    route = place.routes.get(exchange.method)
    if route is None:
        raise errors.method_not_allowed(sorted(place.routes))
    if looped(exchange.headers):
        message = "This request has come through this proxy before: its base URL is its own."
        raise errors.ProxyError("invalid_request", message)
    return route


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
