"""How a process is put together: ids, the secret, the start after a crash."""

from __future__ import annotations

import asyncio
import re
import socket
import stat
from pathlib import Path

import pytest

from proxy.app import listening_socket, mint, open_house, own_secret
from proxy.store.prices import PriceTooLate
from tests.gateways import gateways
from tests.running import configured, running

NOBODY = [("api", "http://127.0.0.1:9")]


def test_ids_say_their_kind_and_are_all_different() -> None:
    ids = {mint("video") for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"video_[a-z2-7]{26}", one) for one in ids)


def test_the_secret_is_made_once_for_the_owner_alone(tmp_path: Path) -> None:
    config = configured(tmp_path, NOBODY)
    secret = own_secret(config)
    assert own_secret(config) == secret
    assert len(secret) >= 32
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


@pytest.mark.parametrize("kept", [b"", b"short", b" " * 64])
def test_a_secret_that_is_none_refuses_the_start(tmp_path: Path, kept: bytes) -> None:
    (tmp_path / "secret").write_bytes(kept)
    with pytest.raises(ValueError, match="too short"):
        own_secret(configured(tmp_path, NOBODY))


def test_a_configured_secret_is_used_as_it_is(tmp_path: Path) -> None:
    config = configured(tmp_path, NOBODY, secrets={"key": "a-long-enough-phrase-of-ours"})
    assert own_secret(config) == b"a-long-enough-phrase-of-ours"
    assert not (tmp_path / "secret").exists()


async def test_an_answer_never_waits_for_the_callers_acknowledgement(tmp_path: Path) -> None:
    found: asyncio.Queue[int] = asyncio.Queue()

    def heard(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = writer.get_extra_info("socket")
        found.put_nowait(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listening = listening_socket(configured(tmp_path, NOBODY), "127.0.0.1", 0)
    async with await asyncio.start_server(heard, sock=listening):
        _, writer = await asyncio.open_connection(*listening.getsockname())
        assert await found.get() == 1
        writer.close()


async def test_a_price_stays_as_it_was_for_clips_that_were_accepted(tmp_path: Path) -> None:
    async with gateways("api") as (api,):
        urls = [("api", api.url)]
        async with running(configured(tmp_path, urls)) as proxy:
            await proxy.chat()
            await proxy.settled()
        late = [
            {"models": ["veo-3.1-fast"], "usd_per_clip": "0.15", "from": "2025-01-01"},
            {"models": ["veo-3.1-fast"], "usd_per_clip": "0.99", "from": "2026-01-01"},
        ]
        with pytest.raises(PriceTooLate):
            async with open_house(configured(tmp_path, urls, prices=late), "sk-vendor-key"):
                pass
