"""As much of a house as answers about videos: a real ledger and vault, a clock of the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, text

from proxy.config import parse
from proxy.core import clip
from proxy.core.caller import Caller, Role
from proxy.flows.background import Background
from proxy.flows.house import House
from proxy.flows.standing import Standings
from proxy.flows.tenants import add_key, add_tenant
from proxy.metrics import Metrics
from proxy.store.clips import Settled, settle
from proxy.store.database import Database, LedgerUnavailable
from proxy.store.keepings import claim_waiting, record_kept
from proxy.store.kept import Kept
from proxy.store.tenants import find_tenant
from proxy.store.vault import Ready, Vault, VaultBounds
from tests.operators import DELIVERED, NOON, Desk, desk

T = TypeVar("T")

MP4 = b"\x00\x00\x00\x18ftypisom" + bytes(range(200))


@dataclass
class Clock:
    """Noon, and so many seconds later."""

    seconds: float = 0.0

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class Ledger:
    """A database that counts its reads, and may be slow or away."""

    database: Database
    asked: int = 0
    away: bool = False
    gate: asyncio.Event | None = None

    async def read(self, fn: Callable[[Connection], T]) -> T:
        self.asked += 1
        if self.away:
            raise LedgerUnavailable("gone")
        found = await self.database.read(fn)
        if self.gate is not None:
            await self.gate.wait()
        return found

    async def write(self, fn: Callable[[Connection], T]) -> T:
        if self.away:
            raise LedgerUnavailable("gone")
        return await self.database.write(fn)


@dataclass
class Rooms:
    """The parts of a house, two teams in it, and their clips."""

    house: House
    ledger: Ledger
    clock: Clock
    desk: Desk
    crashes: list[BaseException]
    keys: dict[str, str] = field(default_factory=dict)

    async def team(self, name: str) -> Caller:
        """The holder of a new team's key."""
        await add_tenant(self.desk.operator, name)
        key = await add_key(self.desk.operator, name)
        self.keys[name] = key["id"]
        row = await self.desk.operator.database.read(lambda tx: find_tenant(tx, name))
        assert row is not None
        return Caller(key["id"], row.id, name, Role.TENANT)

    async def buy(self, caller: Caller, *ends: clip.Event | None, **more: Any) -> list[str]:
        """Clips of one generation of the team's."""
        self.desk.now = self.clock.now()
        return await self.desk.buy(caller.tenant_name, caller.key_id, *ends, **more)

    async def kept(self, caller: Caller, **more: Any) -> str:
        """A clip of the team's that is in the vault."""
        (clip_id,) = await self.buy(caller, DELIVERED, **more)
        kept = await self.house.vault.put(clip_id, Ready(MP4))
        assert isinstance(kept, Kept)
        now = self.clock.now()

        def write(tx: Connection) -> None:
            (waiting,) = claim_waiting(tx, "process_1", now, now, 1)
            assert waiting.clip_id == clip_id
            assert record_kept(tx, clip_id, waiting.fence, kept.sha256, kept.size_bytes, now)

        await self.desk.operator.database.write(write)
        return clip_id

    async def settle(self, clip_id: str, news: clip.Event) -> None:
        """Have it happen to the clip, here or, as `tell` is not called, in another process."""
        now = self.clock.now()
        await self.desk.operator.database.write(lambda tx: settle(tx, clip_id, news, now))

    def tell(self, clip_id: str) -> None:
        """Tell those who listen that the clip changed in this process."""
        settled = Settled(clip_id, "", "", "", clip.State.DELIVERED, changed=True)
        for listener in self.house.settler.listeners:
            listener(settled)

    async def sql(self, statement: str, **values: Any) -> None:
        """Change the database behind everybody's back."""
        await self.desk.operator.database.write(lambda tx: tx.execute(text(statement), values))

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the database says."""
        database = self.desk.operator.database
        found = await database.read(lambda tx: tx.execute(text(query)).fetchall())
        return [tuple(row) for row in found]


@asynccontextmanager
async def rooms(folder: Path, **limits: float) -> AsyncIterator[Rooms]:
    """Rooms over a fresh database and vault in `folder`."""
    config = parse({"data_dir": str(folder), "limits": limits}, {})
    crashes: list[BaseException] = []
    with desk(folder) as opened:
        ledger, clock = Ledger(opened.operator.database), Clock()
        background = Background(lambda _name, crash: crashes.append(crash))
        vault = Vault.open(None, folder, VaultBounds(free_bytes_min=1))
        parts = SimpleNamespace(
            config=config,
            catalog=config.catalog(),
            database=ledger,
            background=background,
            clock=clock,
            vault=vault,
            playback_keys=(b"a key of thirty-two bytes or more ",),
            settler=SimpleNamespace(listeners=[]),
            metrics=Metrics([], [], tenant_labels_max=1),
        )
        house = cast("House", parts)
        house.standings = Standings(house)
        try:
            yield Rooms(house, ledger, clock, opened, crashes)
            await background.drain(5)
        finally:
            vault.close()
    assert crashes == []
