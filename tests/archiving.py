"""A proxy whose clips come from a host of the test's, on a clock of the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text

from proxy.config import Config
from proxy.core import clip
from proxy.flows.house import Clock
from proxy.store.jobs import end_job
from proxy.store.kept import Kept, Kind, Stored
from tests.clip_host import became, delivered
from tests.gateways import Act, Gateway, answers, closed_port, gateways
from tests.jobs import started
from tests.running import KEY_SEED, Running, configured, running, until
from tests.store.vaults import clip as film

MP4 = film(300_000)
PRICE = 150_000
IDLE = {"poll_seconds": 3600}
"""Nobody asks for jobs in the meantime."""


class Shifted:
    """The machine's clocks, and so many seconds later."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.seconds = 0.0

    def now(self) -> datetime:
        return self.clock.now() + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.clock.monotonic() + self.seconds


def clips(data: bytes = MP4, **headers: str) -> Act:
    """A host that gives the clip."""
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return answers(200, data, ("content-type", "video/mp4"), *named)


@dataclass
class Keeping:
    """One proxy with its archive, the host that its clips come from, and the gateways."""

    proxy: Running
    host: Gateway
    gateways: list[Gateway]
    clock: Shifted
    seed: bytes = KEY_SEED

    async def deliver(self, name: str = "clip", host: Gateway | None = None) -> str:
        """A clip of a chat, with a link to the host."""
        return await delivered(self.proxy, f"{(host or self.host).url}/{name}.mp4", self.seed)

    async def deliver_job(self, url: str = "", upstream_id: str = "job", by: str = "api") -> str:
        """A clip of an asynchronous job, whose bytes `/content` has unless there is a `url`."""
        job = await started(self.proxy, upstream_id, by, followed=False)
        now = self.proxy.house.clock.now()
        await self.proxy.house.database.write(lambda tx: end_job(tx, job.id, now))
        return await became(self.proxy, job.id, clip.Delivered(url))

    async def row(self, clip_id: str) -> dict[str, Any]:
        """What is written down of the clip's bytes."""
        names = ("state", "tries", "trouble", "next_try_at", "link_dies_at", "sha256", "fence")
        query = f"SELECT {', '.join(names)} FROM keepings WHERE clip_id = '{clip_id}'"
        row = dict(zip(names, (await self.proxy.rows(query))[0], strict=True))
        moments = {name: moment(row[name]) for name in names if name.endswith("_at")}
        return {**row, **moments}

    async def becomes(self, clip_id: str, state: str, tries: int = -1) -> dict[str, Any]:
        """The clip's row, once it is in `state` and, where told, was tried so often in vain."""
        deadline = asyncio.get_running_loop().time() + 20
        while True:
            row = await self.row(clip_id)
            if row["state"] == state and tries in {-1, row["tries"]}:
                return row
            assert asyncio.get_running_loop().time() < deadline, f"it stayed {row}"
            await asyncio.sleep(0.005)

    async def stored(self, clip_id: str) -> list[Stored]:
        """What the vault has of the clip."""
        return await self.proxy.house.vault.find(clip_id)

    async def bytes_of(self, clip_id: str) -> bytes:
        """The clip's bytes, as the vault gives them, and as its row says."""
        (stored,) = await self.stored(clip_id)
        row = await self.row(clip_id)
        assert stored.kept.sha256 == row["sha256"]
        return await read(self.proxy, stored.kept)

    async def assert_kept(self, clip_id: str, data: bytes = MP4) -> None:
        """The clip is kept, whole, and was charged once."""
        await self.becomes(clip_id, "kept")
        assert await self.bytes_of(clip_id) == data
        await self.assert_charged_once(clip_id)

    async def assert_charged_once(self, clip_id: str) -> None:
        charges = await self.proxy.rows(
            f"SELECT amount_micros FROM entries WHERE clip_id = '{clip_id}' AND kind = 'charge'"
        )
        assert charges == [(PRICE,)]

    def jump(self, seconds: float) -> None:
        """Let so much time pass, and the archive see it."""
        self.clock.seconds += seconds
        self.proxy.house.archive.nudge()

    def jump_to(self, at: datetime) -> None:
        """Let the time pass until then."""
        self.jump(max(0.0, (at - self.clock.now()).total_seconds() + 0.001))

    def hold(self) -> set[str]:
        """Leave the archive no room for anything; what fills it."""
        others = {f"held-{number}" for number in range(self.room)}
        self.proxy.house.archive._fetching |= others
        return others

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """The archive has no room for anything in the meantime."""
        others = self.hold()
        yield
        self.proxy.house.archive._fetching -= others
        self.proxy.house.archive.nudge()

    @property
    def room(self) -> int:
        """How many clips are fetched at once."""
        return self.proxy.config.limits.downloads_in_flight_max

    async def idle(self) -> None:
        """Nothing is being fetched any more."""
        await until(lambda: not self.proxy.house.archive._fetching)

    async def claimed(self, clip_id: str) -> None:
        """The archive is at the clip."""
        await until(lambda: clip_id in self.proxy.house.archive._fetching)

    async def change(self, statement: str) -> None:
        """Change the database behind everybody's back."""
        await self.proxy.house.database.write(lambda tx: tx.execute(text(statement)))

    def metric(self, name: str) -> float | None:
        return self.proxy.house.metrics.registry.get_sample_value(f"clipmeter_{name}")


def moment(value: datetime | str) -> datetime:
    """A time as either database gives it."""
    return datetime.fromisoformat(f"{value}+00:00") if isinstance(value, str) else value


async def read(proxy: Running, kept: Kept) -> bytes:
    """Kept bytes, to their end."""
    reader = await proxy.house.vault.reader(kept)
    with reader:  # type: ignore[union-attr]
        return b"".join([chunk async for chunk in reader.chunks()])  # type: ignore[union-attr]


def kept_of(clip_id: str, row: dict[str, Any], size_bytes: int = len(MP4)) -> Kept:
    """What a row says is kept."""
    return Kept(clip_id, Kind.CLIP, row["sha256"], size_bytes)


@asynccontextmanager
async def keeping(
    data_dir: Path, vault_url: str | None = None, *, seed: bytes = KEY_SEED, **groups: Any
) -> AsyncIterator[Keeping]:
    """A proxy before three gateways, whose clips come from a host that gives `MP4`."""
    vault = {"url": vault_url, **groups.pop("vault", {})}
    async with gateways("cdn", "api", "vip", "b") as (cdn, *made):
        cdn.does(clips())
        urls = [(one.name, one.url) for one in made]
        config = configured(data_dir, urls, vault=vault, follow=IDLE, **groups)
        async with running(config, seed) as proxy:
            clock = Shifted(proxy.house.clock)
            proxy.house.clock = clock
            yield Keeping(proxy, cdn, made, clock, seed)


def closed_config(data_dir: Path, vault_url: str | None) -> Config:
    """A configuration without gateways, and with an archive that does one thing at a time."""
    limits = {"downloads_in_flight_max": 1}
    return configured(
        data_dir, [("api", closed_port())], vault={"url": vault_url}, follow=IDLE, limits=limits
    )


def gated(gate: asyncio.Event, data: bytes = MP4, at: int = 100_000) -> Act:
    """A host that waits for `gate` before byte `at` of the clip."""

    async def act(_: object, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data[:at])
        await writer.drain()
        await gate.wait()
        writer.write(data[at:])
        await writer.drain()

    return act
