"""Starts the three gateways and their pretend vendor, and speaks for them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from proxy.sandbox.bill import Bill, billed
from proxy.sandbox.control import Desk
from proxy.sandbox.exchange import Premises
from proxy.sandbox.faults import read_rule
from proxy.sandbox.gateway import KEY_PREFIX, Gateway
from proxy.sandbox.orders import Product, documented_products
from proxy.sandbox.render import render
from proxy.sandbox.studio import Renderer, Studio
from proxy.sandbox.vendor import LINK_SECONDS, Tally, Vendor

NAMES: Final = ("api", "vip", "b")
"""The gateways, in the vendor's order."""

PORT: Final = 8090
"""The first of the three ports when none is chosen."""


class Sandbox:
    """The running sandbox; make one with `async with Sandbox.start() as sandbox`.

    Its methods must be called in the event loop it runs in; from elsewhere use the control route.
    """

    def __init__(self, vendor: Vendor, desk: Desk, urls: Mapping[str, str]) -> None:
        self.urls = dict(urls)
        self.api_key = KEY_PREFIX
        self.vendor = vendor
        self._desk = desk

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        speed: float = 1.0,
        link_seconds: float = LINK_SECONDS,
        products: Mapping[str, Product] | None = None,
        renderer: Renderer = render,
    ) -> AsyncIterator[Sandbox]:
        """Open the gateways on `port`, `port + 1`, `port + 2`, or on free ports when it is 0.

        `speed` divides the time a clip takes; `products` replaces what is on sale. OSError when a
        port is taken.
        """
        vendor = Vendor(speed=speed, link_seconds=link_seconds)
        studio = Studio(renderer)
        urls: dict[str, str] = {}
        premises = Premises(vendor, studio, products or documented_products(), urls)
        desk = Desk(vendor)
        try:
            for offset, name in enumerate(NAMES):
                gateway = Gateway(name, (host, port + offset if port else 0), premises, desk)
                desk.gateways[name] = gateway
                urls[name] = f"http://{host}:{gateway.door.port}"
            for gateway in desk.gateways.values():
                await gateway.door.open()
            yield cls(vendor, desk, urls)
        finally:
            await desk.close()
            for gateway in desk.gateways.values():
                await gateway.door.close()
            await vendor.close()
            studio.close()

    @property
    def control_url(self) -> str:
        """The control route on the first gateway that takes connections."""
        doors = self._desk.gateways
        name = next((name for name in NAMES if doors[name].door.is_open), NAMES[0])
        return f"{self.urls[name]}/sandbox"

    def bill(self) -> Bill:
        """What the vendor made and charges, as of now."""
        return billed(self.vendor.jobs.values())

    def tally(self, prompt: str) -> Tally:
        """How often a paid request with this prompt was read, and accepted."""
        return self.vendor.tally(prompt)

    async def put(self, **rule: Any) -> None:
        """Set a fault, as the control route does: `put(gateway="api", fault="refuse")`.

        ValueError when it is no rule. Unlike the control route it may shut every gateway.
        """
        await self._desk.put(read_rule(rule, self.urls))

    async def clear(self, gateway: str | None = None) -> None:
        """Remove the faults of one gateway, or all."""
        await self._desk.remove(gateway)

    def expire_links(self) -> None:
        """Let every link given so far die now."""
        self.vendor.expire_links()

    async def idle(self) -> None:
        """Return when every accepted job has ended, watched or not."""
        await self.vendor.idle()


async def serve(
    *,
    port: int = PORT,
    host: str = "127.0.0.1",
    speed: float = 1.0,
    link_seconds: float = LINK_SECONDS,
    announce: Callable[[str], object] = sys.stdout.write,
) -> None:
    """Run the sandbox until cancelled; `announce` is given what a person needs to know, once."""
    start = Sandbox.start(port=port, host=host, speed=speed, link_seconds=link_seconds)
    async with start as sandbox:
        announce(describe(sandbox.urls))
        await asyncio.Event().wait()


def describe(urls: Mapping[str, str]) -> str:
    """What to know about a running sandbox, for a terminal."""
    hosts = "\n".join(f"  {name:<4} {url}/v1" for name, url in urls.items())
    first = next(iter(urls.values()))
    return f"""\
Sandbox gateways: pretend clips, real MP4s, nothing is paid.

{hosts}

Key: {KEY_PREFIX}   (any key that starts so)

Try it:
  curl -N {first}/v1/chat/completions -H 'Authorization: Bearer {KEY_PREFIX}' \\
    -H 'Content-Type: application/json' \\
    -d '{{"model":"veo-3.1-fast","stream":true,"messages":[{{"role":"user","content":"A cat"}}]}}'

Rehearse a failure with words in the prompt, [[status 502]] or [[cut 300]], or with a rule:
  curl -X PUT {first}/sandbox/faults -d '{{"gateway":"api","fault":"status","status":502}}'

All words and rules:  {first}/sandbox
The vendor's bill:    {first}/sandbox/bill
"""
