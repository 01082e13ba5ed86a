"""Runs a server from its lock to its last answer: sandbox, stamp, sockets, signals, drain.

At the first signal the server says that it drains and goes on listening for
`drain_listen_seconds`, so that callers hear a 503 and not a refused connection; then it finishes
the answers under way. A second signal ends the listening at once, a third the answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import uvicorn
import uvloop

from proxy import app, logs
from proxy.commands import hold_folder, operator_of
from proxy.config import Config, Gateway
from proxy.control import serve_control
from proxy.core.pricing import PriceBook
from proxy.flows.house import House
from proxy.flows.operator import CommandError
from proxy.logs import event
from proxy.sandbox import Product, Sandbox, documented_products
from proxy.store.lock import Lock
from proxy.workers import inherited, supervise

LOCK_TRIES: Final = 20
_LOCK_PAUSE_SECONDS: Final = 0.1
"""A command may be at work in the folder; no command takes long."""


@dataclass(slots=True)
class Running:
    """A server that listens at `url`, with the pretended vendor when there is one."""

    url: str
    config: Config
    house: House
    server: uvicorn.Server
    sandbox: Sandbox | None
    served: asyncio.Task[None]

    def stop(self) -> None:
        """Refuse new work and finish what runs; each further call hurries."""
        if not self.house.draining:
            self.house.draining = True
            event("draining", count=len(self.house.background))
            listen_seconds = self.config.limits.drain_listen_seconds
            asyncio.get_running_loop().call_later(listen_seconds, self._close)
        elif not self.server.should_exit:
            self._close()
        else:
            self.server.force_exit = True

    def _close(self) -> None:
        self.server.should_exit = True


def run(config: Config, *, workers: int, sandbox: bool, arguments: Sequence[str]) -> None:
    """The command `serve`, until a signal; `arguments` start a worker.

    Raises `CommandError` for what cannot be served, `OSError` for an address that is taken.
    """
    if not sandbox:
        vendor_key(config)
    logs.configure(sys.stdout)
    given = inherited()
    if given is None and workers > 1:
        _refuse_workers(config, sandbox=sandbox)
        with _listen(config) as listening:
            _announce(_url(listening))
            supervise(listening, workers, arguments)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config, given, sandbox=sandbox))


@contextlib.asynccontextmanager
async def running(
    config: Config,
    *,
    sandbox: bool,
    speed: float = 1.0,
    listening: socket.socket | None = None,
) -> AsyncIterator[Running]:
    """A server as `config` says, for as long as the context lasts; with `sandbox` its own vendor.

    Raises `CommandError` when another process holds the data folder, when real and pretended
    clips would mix, and when the vendor's key is missing; and what `app.open_house` raises.
    """
    async with contextlib.AsyncExitStack() as stack:
        alone = config.database.url is None
        if alone:
            stack.enter_context(await _hold(config))
        vendor = None
        if sandbox:
            products = sandbox_products(config)
            vendor = await stack.enter_async_context(Sandbox.start(speed=speed, products=products))
            config = pointed_at(config, vendor.urls)
        listening = stack.enter_context(listening or _listen(config))
        key = vendor.api_key if vendor is not None else vendor_key(config)
        opened = app.open_house(config, key, sandbox=sandbox)
        house, keyring = await stack.enter_async_context(opened)
        if alone:
            operator = operator_of(config, house.database, keyring.forget)
            await stack.enter_async_context(serve_control(operator, config.data_dir))
        server = app.server(config, house, keyring)
        # Its own handler would end the process before the pumps are drained.
        server.capture_signals = contextlib.nullcontext  # type: ignore[assignment,method-assign]
        listening.listen(server.config.backlog)  # from here on a caller waits and is not refused
        served = house.background.start("http", server.serve(sockets=[listening]))
        url = _url(listening)
        event("serving", path=url, sandbox=sandbox, process_id=house.process_id)
        try:
            yield Running(url, config, house, server, vendor, served)
        finally:
            house.draining = True
            server.should_exit = True
            await served
            if server.force_exit:
                await house.background.drain(0)


async def _serve(config: Config, given: tuple[socket.socket, int] | None, *, sandbox: bool) -> None:
    loop = asyncio.get_running_loop()
    listening = None if given is None else given[0]
    async with running(config, sandbox=sandbox, listening=listening) as server:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, server.stop)
        if given is None:
            _announce(server.url)
        else:
            _watch(given[1], server.stop)
        if server.sandbox is not None:
            _say(f"The gateways are pretended; what bends them: {server.sandbox.control_url}")
        app.freeze_garbage()
        await server.served


def vendor_key(config: Config) -> str:
    """The vendor's key; a `CommandError` that says how to give one when it is missing."""
    if config.upstream.api_key is None:
        raise CommandError(
            "there is no vendor key: set APIYI_API_KEY, or upstream.api_key in the configuration; "
            "serve --sandbox and demo need none"
        )
    return config.upstream.api_key.get_secret_value()


def pointed_at(config: Config, urls: Mapping[str, str]) -> Config:
    """`config` with the gateways at `urls`, which are on this machine."""
    gateways = tuple(Gateway(name=name, url=url) for name, url in urls.items())
    upstream = config.upstream.model_copy(update={"gateways": gateways})
    vault = config.vault.model_copy(update={"download_private": True})
    return config.model_copy(update={"upstream": upstream, "vault": vault})


def sandbox_products(config: Config) -> dict[str, Product]:
    """What the pretended vendor sells: the documented models, and the configured ones."""
    products = dict(documented_products())
    book = PriceBook(config.price_lines())
    today = app.SystemClock().now().date()
    for model in (extra.model() for extra in config.models):
        price = book.quote(model.name, today)
        if price is not None:
            width, height = map(int, model.size.split("x"))
            images = (model.images_min, model.images_max)
            products[model.name] = Product(model.name, price.micros, width, height, *images)
    return products


async def _hold(config: Config) -> Lock:
    for _ in range(LOCK_TRIES):
        lock = hold_folder(config)
        if lock is not None:
            return lock
        await asyncio.sleep(_LOCK_PAUSE_SECONDS)
    raise CommandError(
        f"another server holds {config.data_dir}; stop it, or give this one another data_dir. "
        "SQLite takes one process: several need PostgreSQL (database.url)"
    )


def _refuse_workers(config: Config, *, sandbox: bool) -> None:
    if config.database.url is None:
        raise CommandError("SQLite takes one process: --workers needs PostgreSQL (database.url)")
    if sandbox:
        raise CommandError("the sandbox is one vendor in one process: leave --workers out")


def _listen(config: Config) -> socket.socket:
    return app.listening_socket(config, config.server.host, config.server.port)


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(url: str) -> None:
    _say(f"Clipmeter listens on {url} (OpenAI base URL {url}/v1); Ctrl-C stops it")


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")


def _watch(pipe: int, stop: Callable[[], object]) -> None:
    """Call `stop` once the parent is gone."""
    loop = asyncio.get_running_loop()

    def gone() -> None:
        loop.remove_reader(pipe)
        os.close(pipe)
        stop()

    loop.add_reader(pipe, gone)
