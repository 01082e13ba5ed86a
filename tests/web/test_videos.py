"""`/v1/videos` as a caller with any HTTP client sees it."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import openai
import pytest
from yarl import URL

from proxy.core.catalog import Catalog, Model
from proxy.core.request import Malformed
from proxy.flows.house import House
from proxy.flows.videos import Page
from proxy.web import shapes
from proxy.web.exchange import Exchange, Message, link_base
from proxy.web.videos import ASIDE_BYTES_MIN, Videos, read_page
from tests.core.test_images import jpeg, png
from tests.core.test_submission import parted
from tests.gateways import Gateway, answers, gateways, streams
from tests.running import Answer, Running, configured, read, running, until
from tests.streams import chinese

QUEUED = {"id": "video_of_the_vendor", "object": "video", "created": 1, "status": "queued"}
FAILED = {"id": "video_of_the_vendor", "status": "failed", "fail_reason": "no luck"}
OTHER = bytes([9]) * 32
START, END = jpeg(720, 1280), png(720, 1280)


@asynccontextmanager
async def serving(tmp_path: Path, **groups: Any) -> AsyncIterator[tuple[Running, Gateway]]:
    """A proxy before a gateway that takes every job and never makes it."""
    async with gateways("api") as (api,):
        api.does(answers(200, QUEUED))
        async with running(configured(tmp_path, [("api", api.url)], **groups)) as proxy:
            yield proxy, api


async def ask(
    proxy: Running,
    method: str,
    path: str,
    body: bytes | None = None,
    key: str | None = None,
    **headers: str,
) -> Answer:
    named = {"authorization": f"Bearer {key or proxy.key}"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    sent: dict[str, Any] = {"data": body, "headers": named}
    async with (
        aiohttp.ClientSession(skip_auto_headers=["content-type"]) as session,
        session.request(method, URL(proxy.url + path, encoded=True), **sent) as response,
    ):
        return await read(response)


async def order(proxy: Running, fields: dict[str, Any] | None = None, **more: Any) -> Answer:
    """POST an order as JSON."""
    body = json.dumps(fields or {"model": "veo-3.1-fast", "prompt": "a cat"}).encode()
    return await ask(proxy, "POST", "/v1/videos", body, content_type="application/json", **more)


def form(
    *fields: tuple[str, str], images: Sequence[tuple[str, bytes]] = (), boundary: str = "xYz"
) -> bytes:
    texts = [(f'name="{name}"', value.encode()) for name, value in fields]
    files = [(f'name="{name}"; filename="f.bin"', data) for name, data in images]
    out = b""
    for said, data in [*texts, *files]:
        head = f"--{boundary}\r\nContent-Disposition: form-data; {said}\r\n\r\n"
        out += head.encode() + data + b"\r\n"
    return out + f"--{boundary}--\r\n".encode()


def created(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    video = shapes.Video.model_validate_json(answer.body)
    return video.id


@pytest.mark.parametrize("boundary", ["xYz", "with blanks: and 'marks'"], ids=["plain", "odd"])
@pytest.mark.parametrize("quoted", [True, False])
async def test_an_order_may_be_a_form_of_fields_alone(
    tmp_path: Path, boundary: str, quoted: bool
) -> None:
    said = f'"{boundary}"' if quoted else boundary
    body = form(("model", "veo-3.1-fast"), ("prompt", "a café"), boundary=boundary)
    async with serving(tmp_path) as (proxy, api):
        kind = f"multipart/form-data; boundary={said}"
        answer = await ask(proxy, "POST", "/v1/videos", body, content_type=kind)
        video_id = created(answer)
        assert video_id == answer.headers["x-clipmeter-clips"]
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["cache-status"] == "clipmeter; fwd=bypass"
        assert answer.headers["openai-poll-after-ms"] == "5000"
        assert answer.headers["x-upstream-video-id"] == "video_of_the_vendor"
        video = json.loads(answer.body)
        assert (video["prompt"], video["status"]) == ("a café", "queued")
        assert api.posts == 1


@pytest.mark.parametrize(
    "names",
    [
        ("input_reference", "input_reference"),
        ("input_reference[]", "input_reference[]"),
        ("input_reference[0]", "input_reference[1]"),
    ],
    ids=["repeated", "brackets", "numbers"],
)
async def test_two_frames_reach_the_vendor_in_order_however_they_are_named(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    fields = (("model", "veo-3.1-fast-fl"), ("prompt", "a cat"), ("seconds", "8"))
    body = form(*fields, images=list(zip(names, (START, END), strict=True)))
    async with serving(tmp_path) as (proxy, api):
        kind = "multipart/form-data; boundary=xYz"
        created(await ask(proxy, "POST", "/v1/videos", body, content_type=kind))
        (sent,) = [each for each in api.requests if each.method == "POST"]
        parts = parted(sent.headers["content-type"], sent.body)
        images = [data for name, data in pairs(parts) if name == "input_reference"]
        assert images == [START, END]


@pytest.mark.parametrize(("image_bytes", "aside"), [(100, False), (ASIDE_BYTES_MIN, True)])
@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=xYz", "application/json"])
async def test_long_texts_are_read_beside_the_event_loop(
    tmp_path: Path, kind: str, image_bytes: int, aside: bool
) -> None:
    known, threads = Catalog.documented(), set[int]()

    def find(name: str) -> Model | None:
        threads.add(threading.get_ident())
        return known.find(name)

    link = "data:image/jpeg;base64," + base64.b64encode(START + bytes(image_bytes)).decode()
    fields = {"model": "veo-3.1-fast-fl", "prompt": "a cat", "input_reference": link}
    body = json.dumps(fields).encode() if "json" in kind else form(*fields.items())
    house = SimpleNamespace(
        config=configured(tmp_path, [("api", "http://127.0.0.1:1")]),
        catalog=SimpleNamespace(find=find),
    )
    headers = [(b"content-type", kind.encode())]
    exchange = Exchange("POST", "/v1/videos", headers, "req_1", 0.0)

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    read_order = Videos(cast("House", house))._order
    assert (await read_order(exchange, receive)).images[0].data.startswith(START)
    assert (threads != {threading.get_ident()}) is aside


def pairs(parts: Any) -> list[tuple[str, bytes]]:
    return [(name, data) for name, data, _ in parts]


async def test_an_order_in_json_brings_its_frames_as_data_urls(tmp_path: Path) -> None:
    # Large enough to be read beside the loop.
    large = START + bytes(ASIDE_BYTES_MIN)
    images = [
        {"image_url": f"data:image/{kind};base64,{base64.b64encode(data).decode()}"}
        for kind, data in (("jpeg", large), ("png", END))
    ]
    fields = {"model": "veo-3.1-fl", "prompt": "a cat", "input_reference": images, "n": 4}
    async with serving(tmp_path) as (proxy, api):
        created(await order(proxy, fields))
        (sent,) = [each for each in api.requests if each.method == "POST"]
        parts = pairs(parted(sent.headers["content-type"], sent.body))
        assert [data for name, data in parts if name == "input_reference"] == [large, END]
        assert {name for name, _ in parts} == {"model", "prompt", "input_reference"}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (None, b'{"model": "veo-3.1", "prompt": "x"}'),
        ("text/plain", b'{"model": "veo-3.1", "prompt": "x"}'),
        ("application/x-www-form-urlencoded", b"model=veo-3.1&prompt=x"),
        ("application/json, multipart/form-data", b"{}"),
    ],
    ids=["none", "text", "urlencoded", "two"],
)
async def test_an_order_of_another_kind_is_told_which_kinds_there_are(
    tmp_path: Path, kind: str | None, body: bytes
) -> None:
    named = {} if kind is None else {"content_type": kind}
    async with serving(tmp_path) as (proxy, api):
        answer = await ask(proxy, "POST", "/v1/videos", body, **named)
        answer.assert_error(400, "invalid_request")
        assert "multipart/form-data" in answer.error["message"]
        assert "application/json" in answer.error["message"]
        assert (api.posts, await proxy.rows("SELECT id FROM generations")) == (0, [])


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (form(("prompt", "x")), 400, "invalid_request", "model"),
        (form(("model", "veo-9"), ("prompt", "x")), 400, "model_not_found", "model"),
        (form(("model", "veo-3.1"), ("model", "veo-3.1")), 400, "invalid_request", "model"),
        (form(("model", "veo-3.1-fl"), ("prompt", "x")), 400, "image_required", "input_reference"),
        (form(("model", "veo-3.1"))[:-4], 400, "invalid_request", None),
        (b"no form", 400, "invalid_request", None),
        (
            form(images=[("input_reference", bytes(4_001))]),
            400,
            "invalid_image",
            "input_reference",
        ),
        (form(("prompt", "x" * 3_001)), 413, "request_too_large", "prompt"),
        (form(*[("a", "b")] * 21), 413, "request_too_large", None),
        (form(*[("a", "b" * 2_900)] * 5), 413, "request_too_large", None),
    ],
    ids=[
        *("no model", "unknown model", "twice", "no image", "cut", "no form", "large image"),
        *("large field", "many parts", "large body"),
    ],
)
async def test_a_form_that_is_refused_buys_nothing(
    tmp_path: Path, body: bytes, status: int, code: str, param: str | None
) -> None:
    limits = {
        "request_bytes_max": 12_000,
        "request_text_bytes_max": 3_000,
        "image_bytes_max": 4_000,
    }
    async with serving(tmp_path, limits=limits) as (proxy, api):
        kind = "multipart/form-data; boundary=xYz"
        answer = await ask(proxy, "POST", "/v1/videos", body, content_type=kind)
        answer.assert_error(status, code)
        assert answer.error["param"] == param
        assert (api.posts, await proxy.rows("SELECT id FROM generations")) == (0, [])


async def test_a_caller_who_leaves_in_the_middle_of_a_form_buys_nothing(tmp_path: Path) -> None:
    body = form(("model", "veo-3.1"), ("prompt", "x"))
    async with serving(tmp_path) as (proxy, api):
        host, port = proxy.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /v1/videos HTTP/1.1\r\nHost: x\r\nAuthorization: {proxy.key}\r\n"
        head += "Content-Type: multipart/form-data; boundary=xYz\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-9])
        await writer.drain()
        writer.transport.abort()
        created(await order(proxy))
        assert api.posts == 1
        assert len(await proxy.rows("SELECT id FROM generations")) == 1


async def test_a_video_is_asked_for_by_its_own_id_as_openai_has_it(tmp_path: Path) -> None:
    async with serving(tmp_path, limits={"video_memory_seconds": 60}) as (proxy, _):
        video_id = created(await order(proxy))
        first, second = [await proxy.get(f"/v1/videos/{video_id}") for _ in range(2)]
        assert created(first) == video_id
        assert openai.types.Video.model_validate_json(first.body).seconds == "8"
        assert first.headers["cache-status"] == "clipmeter; fwd=miss"
        assert second.headers["cache-status"].startswith("clipmeter; hit; ttl=")
        for name in ("x-clipmeter-generation", "x-clipmeter-gateway", "x-clipmeter-attempts"):
            assert first.headers[name]
        assert first.headers["cache-control"] == "no-store"
        assert first.headers["openai-poll-after-ms"] == "5000"


async def test_chat_clips_are_videos_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, api):
        api.does(streams(chinese()))
        answer = await proxy.chat()
        await proxy.settled()
        video_id = answer.headers["x-clipmeter-clips"]
        assert created(await proxy.get(f"/v1/videos/{video_id}")) == video_id
        page = shapes.VideoList.model_validate_json((await proxy.get("/v1/videos")).body)
        assert [(each.id, each.status) for each in page.data] == [(video_id, "completed")]


@pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
async def test_a_list_is_paged_as_the_sdk_does_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, _):
        ids = [created(await order(proxy)) for _ in range(5)]
        async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key=proxy.key) as client:
            newest = [video.id async for video in client.videos.list(limit=2)]
            oldest = [video.id async for video in client.videos.list(limit=2, order="asc")]
        assert (newest, oldest) == (list(reversed(ids)), ids)
        page = json.loads((await proxy.get("/v1/videos?limit=3&other=1")).body)
        assert (page["first_id"], page["last_id"], page["has_more"]) == (ids[4], ids[2], True)


@pytest.mark.parametrize(
    ("query", "page"),
    [
        (b"", Page(None, 20, newest_first=True)),
        (b"limit=1&order=asc&after=video_a", Page("video_a", 1, newest_first=False)),
        (b"limit=100&a=b&a=c", Page(None, 100, newest_first=True)),
        (b"after=%F0%9F%8E%AC", Page("\N{CLAPPER BOARD}", 20, newest_first=True)),
    ],
    ids=["nothing", "all", "others", "odd"],
)
def test_a_query_says_which_page(query: bytes, page: Page) -> None:
    assert read_page(query, 100) == page


def test_a_page_has_no_more_videos_than_are_allowed() -> None:
    assert read_page(b"", 7) == Page(None, 7, newest_first=True)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        (b"limit=0", "limit"),
        (b"limit=101", "limit"),
        (b"limit=-1", "limit"),
        (b"limit=", "limit"),
        (b"limit=%D9%A3", "limit"),
        (b"limit=" + b"9" * 5_000, "limit"),
        (b"order=newest", "order"),
        (b"order=", "order"),
        (b"after=a&after=b", "after"),
        (b"a&" * 100, None),
        (b"a=1&" * 100, None),
    ],
    ids=range(11),
)
def test_a_query_that_makes_no_sense_is_refused(query: bytes, param: str | None) -> None:
    refused = read_page(query, 100)
    assert isinstance(refused, Malformed)
    assert refused.param == param


async def test_a_bad_page_is_a_400_that_names_what_is_bad(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, _):
        for name in ("limit", "order", "after"):
            answer = await proxy.get(f"/v1/videos?{name}=x")
            answer.assert_error(400, "invalid_request")
            assert answer.error["param"] == name


async def test_a_finished_video_is_deleted_and_an_unfinished_one_is_not(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, api):
        going = created(await order(proxy))
        refused = await ask(proxy, "DELETE", f"/v1/videos/{going}")
        refused.assert_error(409, "video_not_ready")
        assert "still being made" in refused.error["message"]
        api.does(answers(200, FAILED))
        failed = created(await order(proxy))
        answer = await ask(proxy, "DELETE", f"/v1/videos/{failed}")
        assert shapes.VideoDeleted.model_validate_json(answer.body).id == failed
        assert answer.headers["cache-control"] == "no-store"
        for method in ("GET", "DELETE"):
            gone = await ask(proxy, method, f"/v1/videos/{failed}")
            gone.assert_error(404, "video_not_found")


@pytest.mark.parametrize(
    ("method", "rest"),
    [("GET", ""), ("DELETE", ""), ("GET", "/content"), ("HEAD", "/content")],
    ids=["retrieve", "delete", "content", "head"],
)
async def test_a_foreign_video_is_as_absent_as_an_unknown_one(
    tmp_path: Path, method: str, rest: str
) -> None:
    async with serving(tmp_path) as (proxy, api):
        api.does(answers(200, FAILED))
        mine = created(await order(proxy))
        rival = await proxy.add_key(seed=OTHER)
        unlike = "video_" + "a" * (len(mine) - len("video_"))
        ids = (mine, unlike, "video_of_the_vendor", "%2e%2e", "x" * 65, "a%20b")
        answers_given = []
        for video_id in ids:
            answer = await ask(proxy, method, f"/v1/videos/{video_id}{rest}", key=rival)
            assert answer.status == 404
            assert (b"video_not_found" in answer.body) is (method != "HEAD")
            for varying in ("date", "x-request-id"):
                del answer.headers[varying]
            answers_given.append(answer)
        assert all(answer == answers_given[0] for answer in answers_given)
        assert created(await proxy.get(f"/v1/videos/{mine}")) == mine


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/videos", "GET, POST"),
        ("POST", "/v1/videos/video_a", "DELETE, GET"),
        ("POST", "/v1/videos/video_a/content", "GET, HEAD"),
    ],
    ids=["videos", "video", "content"],
)
async def test_another_method_is_told_which_there_are(
    tmp_path: Path, method: str, path: str, allowed: str
) -> None:
    async with serving(tmp_path) as (proxy, _):
        answer = await ask(proxy, method, path)
        answer.assert_error(405, "method_not_allowed")
        assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/videos/", "/v1/videos//content", "/v1/videos/video_a/", "/v1/videos/a/b"),
        *("/v1/videos/video_a/content/", "/v1/videos/video_a/content/x", "/v1/videos/a/remix"),
        *("/V1/videos", "/v1/videos/a%2Fb"),
    ],
)
async def test_what_is_nearly_a_route_is_none(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as (proxy, _):
        (await proxy.get(path)).assert_error(404, "route_not_found")


async def test_metrics_name_the_route_and_never_the_path(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, _):
        await proxy.get("/v1/videos/video_canary")
        await ask(proxy, "PUT", "/v1/videos/video_canary")
        await proxy.get("/v1/videos/video_canary/content")
        await until(lambda: b"{id}/content" in proxy.house.metrics.render("")[0])
        said = proxy.house.metrics.render("")[0].decode()
        assert "canary" not in said
        for labels in ('code="404",method="GET"', 'code="405",method="PUT"'):
            assert f'{{{labels},origin="client",route="/v1/videos/{{id}}"}} 1.0' in said


async def test_while_the_ledger_is_away_a_page_is_promised_for_later(tmp_path: Path) -> None:
    async with serving(tmp_path, limits={"key_cache_seconds": 60}) as (proxy, _):
        assert (await proxy.get("/v1/videos")).status == 200
        proxy.house.database.close()
        (await proxy.get("/v1/videos")).assert_error(503, "ledger_unavailable", retry=True)


@pytest.mark.parametrize(
    ("server", "host", "base"),
    [
        ({}, "proxy.example:8443", "http://proxy.example:8443"),
        ({}, "127.0.0.1:1", "http://127.0.0.1:1"),
        ({}, "[::1]:80", "http://[::1]:80"),
        ({"public_url": "https://c.example/p/"}, "evil.example", "https://c.example/p"),
        ({"trusted_hosts": ["*.example"]}, "PROXY.example", "http://PROXY.example"),
        ({"trusted_hosts": ["a.example", "b.example"]}, "b.example:1", "http://b.example:1"),
        ({"trusted_hosts": ["*"]}, "b.example", "http://b.example"),
        ({"trusted_hosts": ["*.example"]}, "example", "http://10.0.0.7:8080"),
        ({"trusted_hosts": ["a.example"]}, "evil.example", "http://10.0.0.7:8080"),
        ({}, "a b", "http://10.0.0.7:8080"),
        ({}, "x/y?z", "http://10.0.0.7:8080"),
        ({}, "user@x", "http://10.0.0.7:8080"),
        ({}, "", "http://10.0.0.7:8080"),
        ({}, None, "http://10.0.0.7:8080"),
    ],
    ids=range(14),
)
def test_links_begin_where_the_caller_reaches_us(
    tmp_path: Path, server: dict[str, Any], host: str | None, base: str
) -> None:
    config = configured(tmp_path, [("api", "http://127.0.0.1:9")], server=server)
    headers = [] if host is None else [(b"host", host.encode())]
    exchange = Exchange("GET", "/v1/videos", headers, "req_1", 0.0, socket=("10.0.0.7", 8080))
    assert link_base(exchange, config.server) == base


@pytest.mark.parametrize(
    ("socket", "base"),
    [
        (("::1", 8080), "http://[::1]:8080"),
        (("/run/proxy.sock", None), "http://127.0.0.1:8080"),
        (("", None), "http://127.0.0.1:8080"),
    ],
    ids=["IPv6", "a socket file", "nothing"],
)
def test_a_caller_without_a_host_gets_links_to_where_it_came_in(
    tmp_path: Path, socket: tuple[str, int | None], base: str
) -> None:
    config = configured(tmp_path, [("api", "http://127.0.0.1:9")])
    exchange = Exchange("GET", "/v1/videos", [], "req_1", 0.0, socket=socket)
    assert link_base(exchange, config.server) == base
