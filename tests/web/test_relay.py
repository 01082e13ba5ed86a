"""The edge of the data plane, as a caller with a raw socket sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.caller import Role
from proxy.web.table import ID, ROUTES, Route, find_place
from tests.gateways import Gateway, gateways
from tests.running import Answer, Running, ask, configured, read, running, until
from tests.streams import chinese


@asynccontextmanager
async def serving(tmp_path: Path, **limits: float) -> AsyncIterator[tuple[Running, Gateway]]:
    async with gateways("api") as (api,):
        config = configured(tmp_path, [("api", api.url)], limits=limits)
        async with running(config) as proxy:
            yield proxy, api


async def exchange(proxy: Running, raw: bytes, *, leave: bool = False) -> bytes:
    """What the server says to `raw`; `leave` hangs up as soon as it is sent."""
    host, port = proxy.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(raw)
        await writer.drain()
        return b"" if leave else await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.transport.abort()


def post(proxy: Running, body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        "Host: x",
        "Connection: close",
        f"Authorization: Bearer {proxy.key}",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


BODY = json.dumps(ask()).encode()


async def test_a_streamed_answer_is_chunked_and_properly_ended(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, _):
        answer = await exchange(proxy, post(proxy, BODY))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head.lower()
        assert body.endswith(b"0\r\n\r\n")


async def test_a_caller_who_leaves_before_its_body_has_come_buys_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, api):
        await exchange(proxy, post(proxy, BODY[:10], length=len(BODY)), leave=True)
        assert (await proxy.chat()).status == 200
        assert api.posts == 1
        assert len(await proxy.rows("SELECT id FROM generations")) == 1


async def test_a_caller_who_left_before_anything_was_sent_buys_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, api):
        # Sent in one piece with the hang-up behind it: the server sees both before it begins.
        host, port = proxy.url.removeprefix("http://").split(":")
        for _ in range(5):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(post(proxy, BODY))
            writer.transport.abort()
        await asyncio.sleep(0.2)
        await proxy.settled()
        generations = await proxy.rows("SELECT id FROM generations")
        assert api.posts == len(generations)


async def test_a_body_larger_than_it_says_it_is_is_refused_unread(tmp_path: Path) -> None:
    small = dict.fromkeys(("request_bytes_max", "request_text_bytes_max"), 5_000)
    async with serving(tmp_path, image_bytes_max=4_000, **small) as (proxy, _):
        answer = await exchange(proxy, post(proxy, b"", length=5_001))
        assert b"413" in answer.split(b"\r\n")[0]
        chunked = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        chunked += f"Authorization: Bearer {proxy.key}\r\n\r\n".encode()
        chunked += b"1770\r\n" + b"x" * 6_000 + b"\r\n0\r\n\r\n"
        answer = await exchange(proxy, chunked)
        assert b"413" in answer.split(b"\r\n")[0]
        assert b"request_too_large" in answer


async def test_a_body_that_does_not_come_in_time_is_not_waited_for(tmp_path: Path) -> None:
    async with serving(tmp_path, request_seconds_max=0.3) as (proxy, api):
        answer = await exchange(proxy, post(proxy, BODY[:10], length=len(BODY)))
        assert b"400" in answer.split(b"\r\n")[0]
        assert (api.posts, await proxy.rows("SELECT id FROM generations")) == (0, [])


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer sk-cm-x", "Basic eDp5", "sk-x"])
async def test_a_caller_without_a_valid_key_is_told_one_thing(
    tmp_path: Path, authorization: str
) -> None:
    async with serving(tmp_path) as (proxy, api):
        answer = await proxy.chat(authorization=authorization)
        answer.assert_error(401, "invalid_api_key")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert api.posts == 0


async def test_the_bare_key_is_taken_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, _):
        assert (await proxy.chat(authorization=proxy.key)).body == chinese()


async def knock(proxy: Running, route: Route, key: str) -> Answer:
    """A request to the route for a video that there is not, without a body."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    url = proxy.url + route.path.replace(ID, "video_a")
    async with (
        aiohttp.ClientSession() as session,
        session.request(route.method, url, headers=headers) as response,
    ):
        return await read(response)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.TENANT])
async def test_every_relay_route_is_closed_to_roles_it_does_not_name(
    tmp_path: Path, role: Role
) -> None:
    async with serving(tmp_path) as (proxy, api):
        key = await proxy.add_key(role, bytes([7]) * 32)
        for route in ROUTES:
            assert role not in route.roles
            answer = await knock(proxy, route, key)
            assert answer.status == 403, route
            if route.method != "HEAD":
                answer.assert_error(403, "role_required")
        assert api.posts == 0


@pytest.mark.parametrize("key", ["", "sk-cm-nonsense"], ids=["none", "wrong"])
async def test_every_relay_route_is_closed_to_whoever_has_no_key(tmp_path: Path, key: str) -> None:
    async with serving(tmp_path) as (proxy, api):
        answers = [await knock(proxy, route, key) for route in ROUTES]
        assert {answer.status for answer in answers} == {401}
        bodies = {answer.body for answer in answers} - {b""}  # HEAD has none
        assert len(bodies) == 1
        assert api.posts == 0


def test_every_route_of_the_table_is_found_by_its_path() -> None:
    for route in ROUTES:
        place = find_place(route.path.replace(ID, "video_a"))
        assert place is not None
        assert place.routes[route.method] is route
        assert place.id == ("video_a" if ID in route.path else "")


@given(st.text(max_size=30))
def test_a_path_is_one_of_the_tables_or_none(text: str) -> None:
    for path in (text, f"/v1/videos/{text}", f"/v1/videos/{text}/content"):
        place = find_place(path)
        assert place is None or place.path.replace(ID, place.id) == path


async def test_a_revoked_key_is_refused_within_seconds_in_a_running_server(tmp_path: Path) -> None:
    async with serving(tmp_path, key_cache_seconds=0.2) as (proxy, _):
        assert (await proxy.chat()).status == 200
        now = proxy.house.clock.now().isoformat()
        await proxy.house.database.write(
            lambda tx: tx.exec_driver_sql(f"UPDATE keys SET revoked_at = '{now}'")
        )
        # The admission looks itself, however fresh what is remembered of the key is.
        (await proxy.chat()).assert_error(401, "invalid_api_key")
        await asyncio.sleep(0.25)
        assert (await proxy.get("/v1/models")).status == 401


async def test_paths_that_are_nearly_the_route_reach_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, api):
        for path in ("/v1/chat/completions/", "//v1/chat/completions", "/v1/chat/completions;x"):
            raw = post(proxy, BODY).replace(b"/v1/chat/completions", path.encode())
            assert (await exchange(proxy, raw)).split(b" ")[1] in {b"404", b"307", b"405"}
        assert api.posts == 0


async def test_many_callers_are_served_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, api):
        answers = await asyncio.gather(*(proxy.chat() for _ in range(100)))
        assert {(answer.status, answer.body) for answer in answers} == {(200, chinese())}
        await until(lambda: api.posts == 100)
        assert await proxy.charged() == 100 * 150_000
