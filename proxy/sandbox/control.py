"""The control route, on every gateway: faults, the bill, the links, the table of words.

GET    /sandbox                  what can be asked for (text; JSON for `Accept: application/json`)
GET    /sandbox/faults           the rules in force
PUT    /sandbox/faults           set one rule or a list of them:
                                 {"gateway": "api", "fault": "status", "status": 502, "times": 1}
                                 gateway  api, vip, b or all (default)
                                 fault    a word of the table, with its arguments by name
                                 on       submit (default), poll, content, link, models or any
                                 times    so many requests, or null (default) for ever
DELETE /sandbox/faults           remove every rule; `?gateway=api` only those of one gateway
GET    /sandbox/bill             what the vendor made and charges, job by job
GET    /sandbox/requests         paid requests counted by the SHA-256 of their prompt
POST   /sandbox/links/expire     let every link given so far die now
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from proxy.sandbox.bill import billed
from proxy.sandbox.directives import DIRECTIVES, markdown
from proxy.sandbox.errors import dumps
from proxy.sandbox.faults import ALL, DOOR_FAULTS, Faults, Rule, Switchboard, read_rule
from proxy.sandbox.http import Reply
from proxy.sandbox.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.sandbox.gateway import Gateway
    from proxy.sandbox.http import Connection, Request
    from proxy.sandbox.vendor import Vendor


class Wrong(Exception):
    """The control request cannot be done; `status` and the message go back."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True)
class Desk:
    """Who answers the control route, and sets the faults for everyone."""

    vendor: Vendor
    switchboard: Switchboard = field(default_factory=Switchboard)
    gateways: dict[str, Gateway] = field(default_factory=dict)
    _timers: set[asyncio.Task[None]] = field(default_factory=set)

    async def answer(self, connection: Connection, request: Request) -> bool:
        """Answer one control request; True when the connection may go on."""
        wire = Wire(connection, request, Faults())
        try:
            reply = await self._do(request)
        except Wrong as wrong:
            reply = _json({"error": {"message": str(wrong)}}, wrong.status)
        await wire.reply(reply)
        return wire.keep_alive

    async def put(self, rule: Rule) -> None:
        """Set a rule, and shut or open doors as it says."""
        self.switchboard.put(rule)
        if rule.fault.name not in DOOR_FAULTS:
            return
        silent = rule.fault.name == "black-hole"
        for gateway in self._named(rule.gateway):
            await gateway.shut(silent=silent)
        seconds = float(rule.fault.arguments["seconds"])
        if seconds:
            timer = asyncio.create_task(self._end_later(rule, seconds))
            self._timers.add(timer)
            timer.add_done_callback(self._timers.discard)

    async def remove(self, gateway: str | None = None) -> None:
        """Drop the rules of one gateway, or every rule, and open the doors no rule shuts."""
        self.switchboard.remove(gateway)
        await self._open_doors()

    async def close(self) -> None:
        """Forget what was to end later."""
        for timer in self._timers:
            timer.cancel()
        await asyncio.gather(*self._timers, return_exceptions=True)

    async def _end_later(self, rule: Rule, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.switchboard.drop(rule)
        await self._open_doors()

    async def _open_doors(self) -> None:
        for name, gateway in self.gateways.items():
            if not self.switchboard.shuts(name):
                await gateway.door.open()

    def _named(self, gateway: str) -> list[Gateway]:
        return list(self.gateways.values()) if gateway == ALL else [self.gateways[gateway]]

    async def _do(self, request: Request) -> Reply:
        match request.method, request.path.removeprefix("/sandbox").rstrip("/"):
            case "GET", "":
                return self._about(request.headers)
            case "GET", "/faults":
                return self._rules()
            case "PUT", "/faults":
                await self._put_all(request.body)
                return self._rules()
            case "DELETE", "/faults":
                await self.remove(self._gateway_asked(request.query))
                return self._rules()
            case "GET", "/bill":
                return _json(billed(self.vendor.jobs.values()).as_json())
            case "GET", "/requests":
                tallies = self.vendor.tallies
                return _json({digest: asdict(tally) for digest, tally in tallies.items()})
            case "POST", "/links/expire":
                self.vendor.expire_links()
                return _json({"expired": len(self.vendor.clips)})
            case _, "" | "/faults" | "/bill" | "/requests" | "/links/expire":
                raise Wrong(
                    405, f"{request.method} does not work here; GET /sandbox says what does"
                )
            case _:
                raise Wrong(404, "no such control route; GET /sandbox lists them")

    async def _put_all(self, body: bytes) -> None:
        """Set every rule of the body, or none when one of them is wrong."""
        try:
            given = json.loads(body)
        except (ValueError, RecursionError):
            raise Wrong(400, "the body must be JSON") from None
        try:
            rules = [
                read_rule(entry, self.gateways)
                for entry in (given if isinstance(given, list) else [given])
            ]
            self._keep_one_open(rules)
            for rule in rules:
                await self.put(rule)
        except ValueError as wrong:
            raise Wrong(400, str(wrong)) from None

    def _keep_one_open(self, rules: list[Rule]) -> None:
        """Nobody may lock themselves out: one door stays open, or opens again by itself."""
        shut = [
            r for r in rules if r.fault.name in DOOR_FAULTS and not r.fault.arguments["seconds"]
        ]
        closed = {name for name in self.gateways if self.switchboard.shuts(name)}
        for rule in shut:
            closed |= {gateway.name for gateway in self._named(rule.gateway)}
        if shut and len(closed) == len(self.gateways):
            raise ValueError("this would shut every gateway and the control route: give seconds")

    def _gateway_asked(self, query: Mapping[str, str]) -> str | None:
        gateway = query.get("gateway")
        if gateway is not None and gateway != ALL and gateway not in self.gateways:
            raise Wrong(400, f"gateway must be one of {', '.join(self.gateways)}, {ALL}")
        return gateway

    def _rules(self) -> Reply:
        return _json({"faults": [rule.as_json() for rule in self.switchboard.rules]})

    def _about(self, headers: Mapping[str, str]) -> Reply:
        if "application/json" not in headers.get("accept", ""):
            text = f"{__doc__}\n{markdown()}"
            return Reply(200, (("Content-Type", "text/markdown; charset=utf-8"),), text.encode())
        words: list[dict[str, Any]] = [
            {
                "name": word.name,
                "usage": word.usage,
                "does": word.does,
                "caller_sees": word.caller_sees,
                "place": word.place.value,
            }
            for word in DIRECTIVES.values()
        ]
        return _json({"directives": words})


def _json(data: object, status: int = 200) -> Reply:
    headers = (("Content-Type", "application/json; charset=utf-8"),)
    return Reply(status, headers, (dumps(data) + "\n").encode())
