"""Who asks a typed route: a key as a bearer, and for a browser's pages as a password."""

from __future__ import annotations

import base64
from pathlib import Path

import aiohttp
import pytest

from tests.running import Running, configured, running


async def ask(proxy: Running, path: str, authorization: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(proxy.url + path, headers={"authorization": authorization}) as response,
    ):
        return response.status, response.headers.get("www-authenticate", "")


def basic(words: str) -> str:
    return f"Basic {base64.b64encode(words.encode()).decode()}"


async def test_a_browser_may_send_the_key_as_its_password(tmp_path: Path) -> None:
    async with running(configured(tmp_path, [("api", "http://127.0.0.1:9")])) as proxy:
        assert (await ask(proxy, "/docs", basic(f":{proxy.key}")))[0] == 200
        assert (await ask(proxy, "/openapi.json", basic(f"me:{proxy.key}")))[0] == 200
        assert (await ask(proxy, "/docs", f"Bearer {proxy.key}"))[0] == 200
        assert (await ask(proxy, "/docs", proxy.key))[0] == 200


async def test_a_browser_is_asked_for_a_password(tmp_path: Path) -> None:
    async with running(configured(tmp_path, [("api", "http://127.0.0.1:9")])) as proxy:
        status, challenge = await ask(proxy, "/docs", "")
    assert status == 401
    assert challenge.startswith('Basic realm="clipmeter')


@pytest.mark.parametrize("words", ["Basic", "Basic !", "Basic eA==", "Basic Og==", "Digest x"])
async def test_a_garbled_password_is_no_key(tmp_path: Path, words: str) -> None:
    async with running(configured(tmp_path, [("api", "http://127.0.0.1:9")])) as proxy:
        assert (await ask(proxy, "/docs", words))[0] == 401


async def test_programs_are_not_let_in_by_password(tmp_path: Path) -> None:
    async with running(configured(tmp_path, [("api", "http://127.0.0.1:9")])) as proxy:
        status, challenge = await ask(proxy, "/v1/models", basic(f":{proxy.key}"))
    assert status == 401
    assert challenge.startswith("Bearer")


async def test_a_key_that_is_revoked_is_refused_once_it_is_forgotten(tmp_path: Path) -> None:
    async with running(configured(tmp_path, [("api", "http://127.0.0.1:9")])) as proxy:
        assert (await proxy.get("/v1/models")).status == 200
        await proxy.house.database.write(
            lambda tx: tx.exec_driver_sql("UPDATE keys SET revoked_at = created_at")
        )
        limits = proxy.house.config.limits
        assert limits.key_cache_seconds <= 5
        async with aiohttp.ClientSession() as session:
            headers = {"authorization": f"Bearer {proxy.key}"}
            statuses = {200}
            while statuses == {200}:
                async with session.get(f"{proxy.url}/v1/models", headers=headers) as response:
                    statuses = {response.status}
    assert statuses == {401}
