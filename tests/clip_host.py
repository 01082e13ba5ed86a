"""A host of finished clips in the test's hand, and clips that are delivered from there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from proxy.app import mint
from proxy.core import clip
from proxy.core.pricing import Price
from proxy.flows.settle import Settlement
from proxy.store.admission import Admission, Admitted, admit
from proxy.store.database import Connection
from tests.gateways import closed_port
from tests.remote.fault_server import FaultServer, Line
from tests.running import KEY_SEED, Answer, Running, configured, read, running

MICROS = 150_000


@dataclass
class ClipHost:
    """Gives what stands in `clips` under a request's path, in the way that it is told to.

    With a `gate` it waits for that before byte `gate_at`; with `cut_at` it stops there. Unless it
    states the length, a body comes in chunks.
    """

    clips: dict[str, bytes] = field(default_factory=dict)
    status: int = 200
    gate: asyncio.Event | None = None
    gate_at: int = 0
    cut_at: int | None = None
    states_length: bool = True
    server: FaultServer = field(init=False)

    def __post_init__(self) -> None:
        self.server = FaultServer(self._answer)

    @property
    def asked(self) -> int:
        """How many requests came so far."""
        return len(self.server.requests)

    def link(self, data: bytes, name: str = "clip.mp4") -> str:
        """A link to `data`."""
        self.clips[f"/{name}"] = data
        return f"{self.server.url}/{name}"

    async def _answer(self, line: Line) -> None:
        path = (await line.head()).split(b" ")[1].decode()
        data = self.clips[path]
        framing = (
            f"content-length: {len(data)}" if self.states_length else "transfer-encoding: chunked"
        )
        await line.send(
            f"HTTP/1.1 {self.status} X\r\nconnection: close\r\n{framing}\r\n\r\n".encode()
        )
        gate_at = self.gate_at if self.gate is not None else 0
        await self._send(line, data[:gate_at])
        if self.gate is not None:
            await self.gate.wait()
        await self._send(line, data[gate_at : self.cut_at])
        if not self.states_length and self.cut_at is None:
            await line.send(b"0\r\n\r\n")
        await line.close()

    async def _send(self, line: Line, data: bytes) -> None:
        if data:
            await line.send(data if self.states_length else b"%x\r\n%s\r\n" % (len(data), data))


@asynccontextmanager
async def hosting(
    data_dir: Path, vault_url: str | None = None, seed: bytes = KEY_SEED, **groups: Any
) -> AsyncIterator[tuple[Running, ClipHost]]:
    """A proxy without gateways, and a host that its clips may come from; `seed` makes a key."""
    vault = {"url": vault_url, **groups.pop("vault", {})}
    config = configured(data_dir, [("api", closed_port())], vault=vault, **groups)
    host = ClipHost()
    async with host.server, running(config, seed) as proxy:
        yield proxy, host


async def accepted(proxy: Running, seed: bytes = KEY_SEED) -> str:
    """A clip that was asked for with the key of `seed`, and of which nothing else is known."""
    key = next(iter(await proxy.rows(_KEY_OF.format(name=_tenant_of(seed)))))
    now = proxy.house.clock.now()
    wanted = Admission(
        generation_id=mint("gen"),
        clip_ids=(mint("video"),),
        tenant_id=key[1],
        key_id=key[0],
        mode="chat",
        model="veo-3.1-fast",
        asked_model="veo-3.1-fast",
        stream=True,
        body_hash="0" * 64,
        price=Price(MICROS, MICROS, "veo-3.1-fast@2025-01-01"),
        vendor_clips_in_flight=None,
        process_id=proxy.house.process_id,
        gateway="api",
        now=now,
    )

    def write(tx: Connection) -> None:
        assert isinstance(admit(tx, wanted), Admitted)

    await proxy.house.database.write(write)
    return wanted.clip_ids[0]


async def became(proxy: Running, clip_id: str, *news: clip.Event) -> str:
    """The clip, after `news` of it."""
    settlement = Settlement([(clip_id, each) for each in news], proxy.house.clock.now())
    assert await proxy.house.settler.settle(settlement)
    return clip_id


async def delivered(proxy: Running, link: str, seed: bytes = KEY_SEED) -> str:
    """A clip that has just been delivered, with this link."""
    return await became(proxy, await accepted(proxy, seed), clip.Opened(), clip.Delivered(link))


async def keeping(proxy: Running, clip_id: str) -> str:
    """What became of the clip's bytes."""
    rows = await proxy.rows(f"SELECT state FROM keepings WHERE clip_id = '{clip_id}'")
    return str(rows[0][0])


async def kept(proxy: Running, clip_id: str) -> str:
    """The clip, once it is kept."""
    async with asyncio.timeout(20):
        while await keeping(proxy, clip_id) != "kept":  # noqa: ASYNC110 - the row tells nobody
            await asyncio.sleep(0.01)
    return clip_id


def content(clip_id: str, query: str = "") -> str:
    """The path of the clip's content."""
    return f"/v1/videos/{clip_id}/content" + (f"?{query}" if query else "")


async def fetch(
    proxy: Running, path: str, method: str = "GET", key: str | None = None, **headers: str
) -> Answer:
    """Ask for a path, or a whole link; an empty `key` shows none. Redirects are not followed."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if key != "":
        named["authorization"] = f"Bearer {key or proxy.key}"
    url = path if path.startswith("http") else proxy.url + path
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request(
            method, URL(url, encoded=True), headers=named, allow_redirects=False
        ) as response,
    ):
        return await read(response)


_KEY_OF = (
    "SELECT keys.id, keys.tenant_id FROM keys JOIN tenants ON tenants.id = keys.tenant_id "
    "WHERE tenants.name = '{name}'"
)


def _tenant_of(seed: bytes) -> str:
    return f"team-{seed[0]}"
