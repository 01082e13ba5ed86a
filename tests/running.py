"""A running proxy on a free port, in this process, in front of gateways of the test's."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import text

from proxy.app import listening_socket, mint, open_house, own_secret, server
from proxy.config import Config, parse
from proxy.core.keys import Role, derive, digest, make, shown
from proxy.flows.house import House
from proxy.store.audit import verify
from proxy.store.keys import NewKey, add_key
from proxy.store.tenants import Terms, add_tenant

KEY_SEED = bytes(range(32))


@dataclass
class Answer:
    """What a caller got; `broken` when the connection ended before the answer did."""

    status: int
    headers: dict[str, str]
    body: bytes
    broken: bool = False

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = json.loads(self.body)["error"]
        return error

    def assert_error(self, status: int, code: str, *, retry: bool = False) -> None:
        assert self.status == status, self.body
        assert self.error["code"] == code, self.body
        assert self.error["message"]
        assert self.headers["x-should-retry"] == ("true" if retry else "false")
        assert ("retry-after" in self.headers) is retry


@dataclass
class Running:
    """A proxy, a tenant's key for it, and its ledger."""

    url: str
    key: str
    house: House
    config: Config

    async def chat(
        self, body: bytes | dict[str, Any] | None = None, key: str | None = None, **headers: str
    ) -> Answer:
        """POST a chat request and read the answer to its end."""
        async with self.asking(body, key, **headers) as response:
            return await read(response)

    @asynccontextmanager
    async def asking(
        self, body: bytes | dict[str, Any] | None = None, key: str | None = None, **headers: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """POST a chat request; the answer's head has come."""
        raw = body if isinstance(body, bytes) else json.dumps(body or ask()).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named = {"authorization": f"Bearer {key or self.key}", **named}
        named.setdefault("content-type", "application/json")
        url = f"{self.url}/v1/chat/completions"
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.post(url, data=io.BytesIO(raw), headers=named) as response,
        ):
            yield response

    async def get(self, path: str, key: str | None = None) -> Answer:
        headers = {"authorization": f"Bearer {key or self.key}"} if key != "" else {}
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.url + path, headers=headers) as response,
        ):
            return await read(response)

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the database says."""
        found = await self.house.database.read(lambda tx: tx.execute(text(query)).fetchall())
        return [tuple(row) for row in found]

    async def states(self) -> list[str]:
        """The clips' states, in the order they were accepted."""
        rows = await self.rows(
            "SELECT state FROM clips ORDER BY accepted_at, generation_id, position"
        )
        return [row[0] for row in rows]

    async def charged(self) -> int:
        """What the ledger charges in all, in micro-dollars."""
        rows = await self.rows("SELECT SUM(amount_micros) FROM entries WHERE kind = 'charge'")
        return int(rows[0][0] or 0)

    async def settled(self) -> list[str]:
        """The clips' states once nothing is running any more; the ledger is whole then."""
        await until(lambda: self.running == 0)
        findings = await self.house.database.read(lambda tx: list(verify(tx)))
        assert findings == []
        return await self.states()

    @property
    def running(self) -> int:
        """How many generations have not ended."""
        return sum(
            name.startswith("gen_") and " " not in name for name in self.house.background.names()
        )

    async def add_key(self, role: Role = Role.TENANT, seed: bytes = KEY_SEED, **terms: Any) -> str:
        """A new key; with `terms` for a tenant of its own."""
        key = make(seed)
        pepper = derive(own_secret(self.config), "key digests")
        now = self.house.clock.now()
        tenant = f"team-{seed[0]}" if role is Role.TENANT else None
        given: Terms = terms  # type: ignore[assignment]

        def write(tx: Any) -> None:
            if tenant is not None:
                add_tenant(tx, mint("tenant"), tenant, now, **given)
            new = NewKey(mint("key"), digest(pepper, key), shown(key), role, tenant)
            add_key(tx, new, now)

        await self.house.database.write(write)
        return key


def ask(prompt: str = "a cat", **fields: Any) -> dict[str, Any]:
    """A streamed request for one clip."""
    messages = [{"role": "user", "content": prompt}]
    return {"model": "veo-3.1-fast", "messages": messages, "stream": True, **fields}


async def read(response: aiohttp.ClientResponse) -> Answer:
    """The answer, read to its end."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    body, broken = b"", False
    try:
        async for part in response.content.iter_any():
            body += part
    except aiohttp.ClientError:
        broken = True
    return Answer(response.status, headers, body, broken)


async def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until `holds`, with a deadline."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        await asyncio.sleep(0.005)


def configured(data_dir: Path, urls: Sequence[tuple[str, str]], **groups: Any) -> Config:
    """A configuration for tests; `groups` stand in place of the defaults."""
    upstream = {
        "api_key": "sk-test-vendor-key-0123456789",
        "gateways": [{"name": name, "url": url} for name, url in urls],
        **groups.pop("upstream", {}),
    }
    # Clips are fetched from this machine alone, whatever link a test's vendor tells.
    vault = {
        "download_hosts": ["127.0.0.1"],
        "download_private": True,
        "free_bytes_min": 1,
        **groups.pop("vault", {}),
    }
    values = {"data_dir": str(data_dir), "upstream": upstream, "vault": vault, **groups}
    return parse(values, {})


@asynccontextmanager
async def running(config: Config, seed: bytes = KEY_SEED, **terms: Any) -> AsyncIterator[Running]:
    """The proxy of `config`, serving; its tenant has `terms`."""
    config.data_dir.mkdir(parents=True, exist_ok=True)
    assert config.upstream.api_key is not None
    async with open_house(config, config.upstream.api_key.get_secret_value()) as (house, keyring):
        listening = listening_socket(config, "127.0.0.1", 0)
        serving = server(config, house, keyring)
        serving.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        task = asyncio.create_task(serving.serve(sockets=[listening]))
        await until(lambda: serving.started)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        made = Running(url, "", house, config)
        made.key = await made.add_key(seed=seed, **terms)
        try:
            yield made
        finally:
            serving.should_exit = True
            serving.force_exit = True
            await task
