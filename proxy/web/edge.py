"""The outermost ASGI application: request ids, one log line and the metrics of every request."""

from __future__ import annotations

from typing import Any

from proxy.core.refusal import Kind
from proxy.core.rotation import Answered
from proxy.flows.generation import Generation
from proxy.flows.house import House
from proxy.flows.reply import Repeats
from proxy.logs import request_line
from proxy.web.exchange import Exchange, Message, Receive, Send
from proxy.web.relay import Relay
from proxy.web.table import find_place

_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""Routes that machines ask every few seconds; only their failures are worth a line."""

CALLER_LEFT = 499
"""The status of a request whose caller left before there was an answer; nginx's number for it."""


class Edge:
    """Sends each request to the relay or to the typed routes, and writes down what became of it."""

    def __init__(self, house: House, relay: Relay, typed: Any) -> None:
        """`typed` is the ASGI application of the typed routes."""
        self._house = house
        self._relay = relay
        self._typed = typed

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self._typed(scope, receive, send)
            return
        clock = self._house.clock
        exchange = Exchange.of(scope, self._house.mint, clock.monotonic())

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                named = (b"x-request-id", exchange.request_id.encode())
                message["headers"] = [
                    *(one for one in message.get("headers", ()) if one[0] != b"x-request-id"),
                    named,
                ]
            await send(message)

        try:
            place = find_place(exchange.path)
            if place is not None:
                await self._relay.serve(place, exchange, receive, answer)
            else:
                scope["exchange"] = exchange
                await self._typed(scope, receive, answer)
                route = scope.get("route")
                exchange.route = getattr(route, "path", "other")
        finally:
            self._write_down(exchange, clock.monotonic() - exchange.started)

    def _write_down(self, exchange: Exchange, seconds: float) -> None:
        if not exchange.status:
            exchange.status = CALLER_LEFT
        metrics, generation, caller = self._house.metrics, exchange.generation, exchange.caller
        origin = _origin(exchange)
        metrics.answered(exchange.route, exchange.method, exchange.status, origin, seconds)
        fields: dict[str, Any] = {
            "request_id": exchange.request_id,
            "method": exchange.method,
            "route": exchange.route,
            "status": exchange.status,
            "origin": origin,
            "duration_ms": round(seconds * 1000, 3),
            **exchange.noted,
        }
        if caller is not None:
            fields |= {"key_id": caller.key_id, "role": caller.role, "tenant": caller.tenant_name}
        if generation is not None:
            metrics.overhead(exchange.route, generation.overhead_seconds)
            fields |= _fields_of(generation)
            if generation.claim.retry_count:
                fields["retry_count"] = generation.claim.retry_count
            if exchange.repeats is not None:
                fields |= _fields_of_repeat(exchange.repeats)
            fields["outcome"] = "whole" if exchange.ended_well else "broken"
        if exchange.route not in _QUIET or exchange.status >= 400:
            request_line(**fields)


def _fields_of(generation: Generation) -> dict[str, Any]:
    return {
        "generation": generation.id,
        "model": generation.ask.model.name,
        "asked_model": generation.ask.asked_model,
        "stream": generation.ask.stream,
        "gateway": generation.gateway,
        "attempts": generation.attempts,
        "clips_asked": len(generation.clip_ids),
        "delivered": generation.delivered,
        "amount_micros": generation.delivered * generation.price.micros,
        "overhead_ms": round(generation.overhead_seconds * 1000, 3),
        "upstream_request_id": generation.upstream.request_id,
        "upstream_origin_request_id": generation.upstream.origin_request_id,
    }


def _fields_of_repeat(repeats: Repeats) -> dict[str, Any]:
    """Of an answer that was given again: nothing was asked of a gateway, and nothing is charged."""
    return {
        "generation": repeats.generation_id,
        "replayed": repeats.clips,
        "reason": repeats.why,
        "gateway": None,
        "attempts": 0,
    }


def _origin(exchange: Exchange) -> str:
    """Who is behind an error: nobody, the client, this proxy, the vendor, or its policy."""
    code, generation = exchange.noted.get("code", ""), exchange.generation
    if exchange.status < 400:
        return "none"
    if code:
        upstream = code.startswith("upstream_") or code == "outcome_unknown"
        return "upstream" if upstream else "proxy" if exchange.status >= 500 else "client"
    if exchange.repeats is not None:
        return "client" if exchange.status < 500 else "upstream"  # the vendor, the first time
    if generation is None or not generation.tried:
        return "client" if exchange.status < 500 else "proxy"
    outcome = generation.tried[-1][1]
    refusal = outcome.refusal if isinstance(outcome, Answered) else None
    if refusal is Kind.POLICY:
        return "policy"
    return "client" if refusal is Kind.BAD_REQUEST else "upstream"
