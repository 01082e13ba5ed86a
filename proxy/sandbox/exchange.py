"""One request at one gateway, with everything its answer needs."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from proxy.sandbox.errors import ERRORS, by_status, dumps, failure, policy, shell
from proxy.sandbox.faults import Faults, from_prompt
from proxy.sandbox.http import Connection, Header, Reply, Request, Severed
from proxy.sandbox.jobs import Job, Kind
from proxy.sandbox.orders import Order, Product, Refused
from proxy.sandbox.studio import Studio
from proxy.sandbox.vendor import Vendor
from proxy.sandbox.wire import Wire

JSON: Final = "application/json; charset=utf-8"

PAGE: Final = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>API</title></head>'
    '<body><div id="root"></div><script src="/assets/index.js"></script></body></html>'
)
"""The web page that stands where an answer should (wire facts, section 2.5)."""


@dataclass(frozen=True, slots=True)
class Premises:
    """What the gateways share: the vendor, its films, what it sells, and everyone's addresses."""

    vendor: Vendor
    studio: Studio
    products: Mapping[str, Product]
    addresses: dict[str, str]


def _request_id() -> str:
    """An id of the vendor's form: the time of day in digits, then letters and digits."""
    now = time.time()
    stamp = time.strftime("%Y%m%d%H%M%S", time.gmtime(now))
    return f"{stamp}{int(now % 1 * 1e9):09d}{uuid.uuid4().hex[:8]}"


@dataclass(slots=True)
class Exchange:
    """A request being answered; `faults` are those known so far, `wire` is bent by them."""

    premises: Premises
    gateway: str
    connection: Connection
    request: Request
    faults: Faults
    request_id: str = field(default_factory=_request_id)
    wire: Wire = field(init=False)

    def __post_init__(self) -> None:
        self.wire = Wire(self.connection, self.request, self.faults)

    @property
    def address(self) -> str:
        """Where this gateway listens, as a URL."""
        return self.premises.addresses[self.gateway]

    def ids(self) -> list[Header]:
        """The request ids a gateway puts on every answer (wire facts, section 2.3)."""
        ids = [("X-Shellapi-Request-Id", self.request_id), ("X-Request-Id", str(uuid.uuid4()))]
        return [*ids, ("X-Oneapi-Request-Id", self.request_id)] if self.gateway == "b" else ids

    async def reply(self, reply: Reply) -> None:
        """Send a whole answer with the request ids."""
        await self.wire.reply(reply.with_headers(self.ids()))

    async def reply_json(self, data: object, status: int = 200) -> None:
        """Send JSON."""
        await self.reply(Reply(status, (("Content-Type", JSON),), dumps(data).encode()))

    def order(self, read: Callable[[Request, Mapping[str, Product]], Order]) -> Order:
        """The order in the request; its prompt's words bend the rest of this exchange.

        Raises Refused when it is no order the vendor takes.
        """
        order = read(self.request, self.premises.products)
        try:
            words = from_prompt(order.prompt, self.gateway)
        except ValueError as wrong:
            raise Refused(failure(400, f"parse_request_failed: {wrong}", "sandbox_word")) from None
        self.faults = words + self.faults
        self.wire = Wire(self.connection, self.request, self.faults)
        return order

    async def accept(self, kind: Kind, order: Order) -> Job | None:
        """Take the order, unless a fault answers instead; None when nothing is left to answer.

        Raises Severed when a fault ended the connection.
        """
        if await self.answered_instead(order.product.name):
            return None
        place = (self.gateway, self.address)
        job = self.premises.vendor.accept(kind, order, place, self.faults)
        if "reset-after" in self.faults:
            await self.connection.reset()
            raise Severed
        if "accept-then" in self.faults:
            await self.reply(by_status(self.faults.whole("accept-then", "status")))
            return None
        return job

    async def answered_instead(self, model: str = "") -> bool:
        """Has a fault put something else in the place of an answer, with nothing accepted?

        Raises Severed when a fault ended the connection.
        """
        faults = self.faults
        if "reset" in faults:
            await self.connection.reset()
            raise Severed
        if "junk" in faults:
            await self.wire.junk()
        reply = self._instead(model)
        if reply is not None:
            await self.reply(reply)
        return reply is not None

    def _instead(self, model: str) -> Reply | None:
        faults = self.faults
        if "status" in faults:
            return by_status(faults.whole("status", "status"))
        if "error" in faults:
            return ERRORS[faults.word("error", "name")].reply(model, self.request_id)
        if "policy" in faults:
            return policy(faults.word("policy", "code"))
        if "html" in faults:
            return page()
        if "json-error" in faults:
            body = dumps(shell("We're under heavy load, please try again later", "heavy_load"))
            return Reply(200, (("Content-Type", JSON),), body.encode())
        if "redirect" in faults:
            names = list(self.premises.addresses)
            other = names[(names.index(self.gateway) + 1) % len(names)]
            target = self.premises.addresses[other] + self.request.path
            return Reply(307, (("Location", target), ("Content-Type", "text/plain")), b"")
        return None


def page() -> Reply:
    """The vendor's web page."""
    return Reply(200, (("Content-Type", "text/html; charset=utf-8"),), PAGE.encode())
