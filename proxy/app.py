"""create_app(config): the only place that knows everybody, and the home of clocks and ids."""

from __future__ import annotations

import base64
import gc
import os
import random
import secrets
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import uvicorn

from proxy import logs
from proxy.config import Config
from proxy.core.keys import derive
from proxy.core.pricing import PriceBook
from proxy.core.rotation import BreakerLimits
from proxy.door import door
from proxy.flows import tend
from proxy.flows.archive import Archive
from proxy.flows.background import Background
from proxy.flows.evict import Rounds
from proxy.flows.fleet import PROBE_PAUSE_SECONDS, FleetKeeper
from proxy.flows.follow import Follower
from proxy.flows.house import House
from proxy.flows.rotate import within
from proxy.flows.savings import Savings
from proxy.flows.settle import Settler
from proxy.flows.stamp import stamp
from proxy.flows.standing import Standings
from proxy.metrics import Metrics
from proxy.remote.download import Downloads
from proxy.remote.gateway import Gateway, Gateways
from proxy.remote.guard import Rules
from proxy.series import METRICS_FOLDER
from proxy.store import migrations
from proxy.store.database import Bounds, Database
from proxy.store.keys import find_key
from proxy.store.prices import import_lines, load_book
from proxy.store.vault import Vault, VaultBounds
from proxy.web.auth import Keyring
from proxy.web.edge import Edge
from proxy.web.relay import Relay
from proxy.web.typed import typed_app

SECRET_FILE = "secret"  # noqa: S105 - the name of a file
PROBE_SECONDS = 10.0
"""How long a gateway has to answer a probe."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """The time of day, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()


def mint(prefix: str) -> str:
    """A new id of 128 random bits, such as `video_…`."""
    return f"{prefix}_{base64.b32encode(secrets.token_bytes(16)).decode().rstrip('=').lower()}"


def own_secret(config: Config) -> bytes:
    """The installation's secret; made once in `data_dir/secret` where the config names none.

    Raises `OSError` when the file cannot be made, `ValueError` for one that is too short.
    """
    if config.secrets.key is not None:
        return config.secrets.key.get_secret_value().encode()
    path: Path = config.data_dir / SECRET_FILE
    try:
        secret = path.read_bytes().strip()
    except FileNotFoundError:
        secret = secrets.token_hex(32).encode()
        _keep_secret(path, secret)
    if len(secret) < 32:
        raise ValueError(f"the secret in {path} is too short: at least 32 characters")
    return secret


def _keep_secret(path: Path, secret: bytes) -> None:
    """Write `secret` for the owner alone; a crash leaves the whole of it or nothing."""
    unfinished = path.with_suffix(".new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def open_database(config: Config) -> Database:
    """The database of `config`, its schema up to date.

    Raises `DatabaseUnfit`, `LedgerUnavailable` and `SchemaUnknown`.
    """
    limits = config.limits
    bounds = Bounds(
        waiting_writes_max=limits.writes_waiting_max,
        wait_seconds_max=limits.write_wait_seconds_max,
    )
    url = config.database.url
    address = url.get_secret_value() if url is not None else f"sqlite:///{config.sqlite_path}"
    database = Database.open(address, bounds=bounds)
    try:
        migrations.migrate(database)
    except BaseException:
        database.close()
        raise
    return database


@asynccontextmanager
async def open_house(
    config: Config, api_key: str, *, sandbox: bool = False
) -> AsyncIterator[tuple[House, Keyring]]:
    """The application's parts, running; closed in order at the end.

    The data folder must be locked by this process where the database is the embedded one.
    `sandbox` says that the gateways are pretended. Raises what `open_database` and `own_secret`
    raise, `CommandError` for an installation of the other kind, of which nothing is changed,
    `PriceChanged` or `PriceTooLate` for price lines that contradict what was charged, and
    `VaultUnavailable`.
    """
    clock, secret = SystemClock(), own_secret(config)
    database = open_database(config)
    try:
        await stamp(database, sandbox=sandbox)
        now = clock.now()
        lines = config.price_lines()
        await database.write(lambda tx: import_lines(tx, lines, now, "config"))
        prices = await database.read(load_book)
        vault, gateways = open_vault(config), Gateways(api_key)
        downloads = Downloads(Rules(config.vault.download_hosts, config.vault.download_private))
        try:
            remote = (gateways, downloads)
            house = _house(config, database, vault, remote, prices, clock)
            house.playback_keys = (derive(secret, "playback"),)
            keyring = Keyring(
                lambda digest: database.read(lambda tx: find_key(tx, digest)),
                derive(secret, "key digests"),
                clock,
                config.limits,
            )
            await tend.begin(house, alone=config.database.url is None)
            tend.start(house, keyring)
            _start_probes(house)
            house.follower.start()
            house.archive.start()
            rounds = Rounds(house)
            await rounds.begin()
            rounds.start()
            try:
                yield house, keyring
            finally:
                house.draining = True
                await house.follower.let_go()
                await house.background.drain(config.limits.drain_seconds_max)
        finally:
            await downloads.close()
            await gateways.close()
            vault.close()
    finally:
        database.close()


def open_vault(config: Config) -> Vault:
    """The vault of `config`. Raises `VaultUnavailable`, `ValueError` for an address that is none.

    Only a folder is tried; a bucket that is away is met later.
    """
    bounds = VaultBounds(
        clip_bytes_max=config.vault.clip_bytes_max,
        free_bytes_min=config.vault.free_bytes_min,
        near_bytes_max=config.vault.near_bytes_max,
    )
    return Vault.open(config.vault.url, config.data_dir, bounds)


def _house(
    config: Config,
    database: Database,
    vault: Vault,
    remote: tuple[Gateways, Downloads],
    prices: PriceBook,
    clock: SystemClock,
) -> House:
    catalog, limits = config.catalog(), config.limits
    names = [gateway.name for gateway in config.upstream.gateways]
    metrics = Metrics(
        models=[model.name for model in catalog],
        gateways=names,
        tenant_labels_max=limits.tenant_labels_max,
        shared_dir=os.environ.get(METRICS_FOLDER),
    )
    background = Background(logs.crash)
    breaker = BreakerLimits(
        limits.breaker_faults,
        limits.breaker_seconds,
        limits.breaker_seconds_max,
        limits.breaker_jitter_ratio,
    )
    house = House(
        config=config,
        catalog=catalog,
        prices=prices,
        database=database,
        gateways=remote[0],
        addresses={
            gateway.name: Gateway(gateway.name, gateway.url) for gateway in config.upstream.gateways
        },
        fleet=FleetKeeper(
            names,
            breaker,
            metrics,
            clock.monotonic,
            lambda: random.uniform(-1, 1),  # noqa: S311 - spreads pauses
        ),
        metrics=metrics,
        settler=Settler(database, metrics, background, limits.settle_seconds_max),
        background=background,
        clock=clock,
        mint=mint,
        process_id=mint("process"),
        vault=vault,
        downloads=remote[1],
    )
    house.standings = Standings(house)
    house.archive = Archive(house)
    house.follower = Follower(house)
    house.savings = Savings(house)
    return house


def _start_probes(house: House) -> None:
    async def probe(name: str) -> bool:
        deadlines = within(house, PROBE_SECONDS)
        return await house.gateways.probe(house.addresses[name], deadlines=deadlines)

    async def step() -> None:
        await house.fleet.probe_doubtful(probe)

    house.background.forever("probes", step, PROBE_PAUSE_SECONDS)


def create_app(house: House, keyring: Keyring) -> Edge:
    """The ASGI application: the relay in front of the typed routes."""
    return Edge(house, Relay(house, keyring), typed_app(house, keyring))


def listening_socket(config: Config, host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises `OSError` with the address in words.

    A caller who takes no bytes for `listener_stall_seconds_max` is let go by the kernel as well.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, or asyncio takes the protocol for another and lets small answers wait in the kernel.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    stall = int(config.limits.listener_stall_seconds_max * 1000)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, stall)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listening


def server(config: Config, house: House, keyring: Keyring) -> uvicorn.Server:
    """The HTTP server of `house`; `await server.serve(sockets=[…])` runs it until a signal."""
    return uvicorn.Server(
        uvicorn.Config(
            create_app(house, keyring),
            http=door(config.limits),
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(config.limits.drain_seconds_max),
            limit_concurrency=None,
            backlog=4096,
        )
    )


def freeze_garbage() -> None:
    """Keep what was made at start out of every later collection: it cuts tail latency."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 1_000)
