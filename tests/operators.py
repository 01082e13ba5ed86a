"""An operator over a fresh SQLite ledger, with a clock and chance that a test owns."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

from sqlalchemy import Connection

from proxy.core import clip
from proxy.core.catalog import Catalog
from proxy.core.failure import Reason
from proxy.core.pricing import Price, PriceLine
from proxy.flows.operator import Operator
from proxy.store.admission import Admission, Admitted, admit
from proxy.store.clips import settle
from proxy.store.database import Database
from proxy.store.generations import UpstreamIds, record_opened
from proxy.store.migrations import migrate
from proxy.store.prices import import_lines
from proxy.store.tenants import find_tenant

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

DELIVERED = clip.Delivered("https://clips.example/one.mp4")
FAILED = clip.Failed(Reason.POLICY_OTHER)
LOST = clip.Lost(Reason.LOST)


class Desk:
    """An operator, and a way to have clips bought without a gateway."""

    def __init__(self, database: Database) -> None:
        self.now = NOON
        self.forgotten = 0
        self._numbers = itertools.count(1)
        self.operator = Operator(
            database=database,
            catalog=Catalog.documented(),
            now=lambda: self.now,
            mint=lambda prefix: f"{prefix}_{next(self._numbers):026d}",
            random=lambda count: next(self._numbers).to_bytes(count, "big"),
            pepper=b"a pepper of thirty-two bytes ...",
            forget_keys=self._forget,
        )

    def _forget(self) -> None:
        self.forgotten += 1

    async def buy(
        self, tenant: str, key_id: str, *ends: clip.Event | None, model: str = "veo-3.1-fast"
    ) -> list[str]:
        """One generation with a clip for each of `ends`; None leaves its clip rendering."""
        operator = self.operator
        ids = [operator.mint("video") for _ in ends]
        line = PriceLine(model, 150_000, date(2025, 1, 1), f"{model}@2025-01-01")

        def write(tx: Connection) -> None:
            import_lines(tx, [line], self.now, "test")
            row = find_tenant(tx, tenant)
            assert row is not None
            ask = Admission(
                generation_id=operator.mint("gen"),
                clip_ids=tuple(ids),
                tenant_id=row.id,
                key_id=key_id,
                mode="chat",
                model=model,
                asked_model=model,
                stream=True,
                body_hash="",
                price=Price(150_000, 150_000, line.version),
                vendor_clips_in_flight=None,
                process_id="process_1",
                gateway="api",
                now=self.now,
            )
            assert isinstance(admit(tx, ask), Admitted)
            record_opened(tx, ask.generation_id, "api", 200, UpstreamIds(), clip.Opened())
            for clip_id, end in zip(ids, ends, strict=True):
                if end is not None:
                    settle(tx, clip_id, end, self.now)

        await operator.database.write(write)
        return ids


@contextmanager
def desk(folder: Path) -> Iterator[Desk]:
    """A desk over a fresh database in `folder`."""
    database = Database.open(f"sqlite:///{folder / 'clipmeter.db'}")
    try:
        migrate(database)
        yield Desk(database)
    finally:
        database.close()
