"""Whatever a gateway's `/content` answers, only a clip counts as one; our key stays at home."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from proxy.app import SystemClock
from proxy.flows.fetch import Link, NotReady, open_clip, open_content
from proxy.flows.house import House
from proxy.metrics import Metrics
from proxy.remote.download import Download, Downloads, NotFetched, Trouble
from proxy.remote.gateway import Gateway as Address
from proxy.remote.gateway import Gateways
from proxy.remote.guard import Rules
from proxy.store.keepings import Waiting
from tests.archiving import MP4, clips
from tests.gateways import (
    Act,
    Gateway,
    answers,
    bytes_then,
    closed_port,
    gateways,
    refusal,
    stalls,
)
from tests.running import configured

LINK = "https://cdn.vendor.example/flow/made.mp4?Signature=s"
PATH = "/v1/videos/job/content"
ZIPPED = ("content-encoding", "gzip")
QUICK = {"download_open_seconds_max": 0.3, "download_stall_seconds_max": 0.3}
HTML = b"<!doctype html><html>we will be back soon</html>"
NOT_COMPLETED = {
    "error": {
        "message": "Task is not completed yet, current status: IN_PROGRESS",
        "type": "invalid_request_error",
    }
}
DOCUMENTED = {
    "id": "job",
    "object": "video",
    "created": 1762181811,
    "status": "completed",
    "model": "veo-3.1",
    "prompt": "a cat",
    "url": LINK,
    "duration": 8,
    "resolution": "720x1280",
}


@dataclass(frozen=True)
class Dials:
    """What of a house is needed to fetch, three gateways, and a host that gives `MP4`."""

    house: House
    host: Gateway
    gateways: list[Gateway]

    @property
    def asked(self) -> list[str]:
        """Which gateways were asked, each as often as it was."""
        return [one.name for one in self.gateways for _ in one.requests]


@asynccontextmanager
async def dialling(*acts: Act) -> AsyncIterator[Dials]:
    """The first gateway acts as told."""
    async with gateways("cdn", "api", "vip", "b") as (cdn, *made):
        cdn.does(clips())
        made[0].does(*(acts or (clips(),)))
        urls = [(one.name, one.url) for one in made]
        config = configured(Path("nowhere"), urls, limits=QUICK, vault={"clip_bytes_max": 400_000})
        remote = Gateways("sk-test-vendor-key-0123456789")
        downloads = Downloads(Rules(config.vault.download_hosts, config.vault.download_private))
        parts = SimpleNamespace(
            config=config,
            gateways=remote,
            downloads=downloads,
            addresses={name: Address(name, url) for name, url in urls},
            metrics=Metrics([], [name for name, _ in urls], tenant_labels_max=1),
            clock=SystemClock(),
        )
        try:
            yield Dials(cast("House", parts), cdn, made)
        finally:
            await downloads.close()
            await remote.close()


async def read(download: object) -> bytes:
    assert isinstance(download, Download), download
    data = b"".join([chunk async for chunk in download])
    assert download.complete
    return data


def part(status: int, *headers: bytes) -> Act:
    """The clip, under another status."""
    head = [b"HTTP/1.1 %d X" % status, b"content-length: %d" % len(MP4), *headers, b"", b""]
    return bytes_then(b"\r\n".join(head) + MP4)


def moved(to: str, status: int = 302) -> Act:
    return answers(status, b"", ("location", to))


CLIPS: list[tuple[str, Act]] = [
    ("as a video", clips()),
    ("as bytes of no kind", answers(200, MP4, ("content-type", "application/octet-stream"))),
    ("called JSON", answers(200, MP4, ("content-type", "application/json"))),
    ("called a page", answers(200, MP4, ("content-type", "text/html"))),
    ("all of it as a part", part(206, b"content-range: bytes 0-299999/300000")),
]


@pytest.mark.parametrize("act", [row[1] for row in CLIPS], ids=[row[0] for row in CLIPS])
async def test_a_clip_is_known_by_its_first_bytes(act: Act) -> None:
    async with dialling(act) as dials:
        download = await open_content(dials.house, "api", "job")
        assert await read(download) == MP4
        (request,) = dials.gateways[0].requests
        assert (request.method, request.path) == ("GET", PATH)
        assert request.headers["authorization"].startswith("Bearer sk-")
        labels = {"gateway": "api", "operation": "content", "outcome": "2xx"}
        shown = dials.house.metrics.registry.get_sample_value
        assert shown("clipmeter_upstream_requests_total", labels) == 1


LINKS: list[tuple[str, Act]] = [
    ("documented", answers(200, DOCUMENTED)),
    ("video_url", answers(200, {"video_url": LINK})),
    ("called a video", answers(200, {"url": LINK}, ("content-type", "video/mp4"))),
    ("in data", answers(200, {"code": "success", "data": {"status": "SUCCESS", "url": LINK}})),
    ("in gzip", answers(200, gzip.compress(b'{"url": "%b"}' % LINK.encode()), ZIPPED)),
    ("302", moved(LINK)),
    ("301", moved(LINK, 301)),
    ("307", moved(LINK, 307)),
]


@pytest.mark.parametrize("act", [row[1] for row in LINKS], ids=[row[0] for row in LINKS])
async def test_a_link_is_told_and_not_followed(act: Act) -> None:
    async with dialling(act) as dials:
        assert await open_content(dials.house, "api", "job") == Link(LINK)


async def test_a_redirect_within_the_gateway_is_a_link_without_our_key() -> None:
    async with dialling(moved("/files/made.mp4")) as dials:
        assert await open_content(dials.house, "api", "job") == Link(
            f"{dials.gateways[0].url}/files/made.mp4"
        )


OTHERWISE: list[tuple[str, Act, Trouble | type[NotReady]]] = [
    ("not completed", answers(400, NOT_COMPLETED), NotReady),
    ("an occasional 400", answers(400, b""), NotReady),
    ("accepted", answers(202, {"id": "job", "status": "processing"}), NotReady),
    ("a status without a link", answers(200, {"id": "job", "status": "completed"}), NotReady),
    ("a running status with a link", answers(200, {"status": "queued", "url": LINK}), NotReady),
    ("an error as a success", answers(200, {"error": {"message": "busy"}}), NotReady),
    ("a page", answers(200, HTML), NotReady),
    ("a page called a video", answers(200, HTML, ("content-type", "video/mp4")), NotReady),
    ("nothing", answers(200, b""), NotReady),
    ("the first bytes alone", answers(200, MP4[:7]), NotReady),
    ("a link to itself", answers(200, {"url": f"https://api.apiyi.com{PATH}"}), NotReady),
    ("a redirect to itself", moved(PATH), NotReady),
    ("a redirect to nowhere", answers(302, b""), Trouble.STATUS),
    ("a redirect to half an address", moved("http://["), NotReady),
    ("a redirect out of the web", moved("ftp://cdn.vendor.example/made.mp4"), NotReady),
    ("unknown", answers(404, {"error": {"code": "video_not_found"}}), Trouble.GONE),
    ("unknown as 400", answers(400, {"code": "task_not_exist", "message": "no"}), Trouble.GONE),
    ("a page as 404", answers(404, HTML), Trouble.GONE),
    ("another's key", refusal(401), Trouble.STATUS),
    ("forbidden", refusal(403), Trouble.STATUS),
    ("too often", refusal(429), Trouble.STATUS),
    ("broken", answers(502, HTML), Trouble.STATUS),
    ("half of it", part(206, b"content-range: bytes 0-299999/600000"), Trouble.STATUS),
    ("compressed", clips(content_encoding="gzip"), Trouble.ENCODED),
    ("silent", stalls(), Trouble.SILENT),
    ("too long", answers(200, MP4 + bytes(300_000)), Trouble.TOO_LARGE),
]


@pytest.mark.parametrize(
    ("act", "what"), [row[1:] for row in OTHERWISE], ids=[row[0] for row in OTHERWISE]
)
async def test_what_is_no_clip_is_none(act: Act, what: Trouble | type[NotReady]) -> None:
    async with dialling(act) as dials:
        found = await open_content(dials.house, "api", "job")
        if isinstance(what, Trouble):
            assert isinstance(found, NotFetched)
            assert found.trouble is what
        else:
            assert isinstance(found, NotReady)


async def test_what_the_vendor_says_of_a_clip_that_is_not_ready_is_passed_on() -> None:
    async with dialling(answers(400, NOT_COMPLETED)) as dials:
        found = await open_content(dials.house, "api", "job")
        assert found == NotReady("Task is not completed yet, current status: IN_PROGRESS")


async def test_a_gateway_that_is_away_or_not_ours_has_nothing() -> None:
    async with dialling() as dials:
        house = dials.house
        nowhere = await open_content(house, "elsewhere", "job")
        assert isinstance(nowhere, NotFetched)
        house.addresses = {"api": type(house.addresses["api"])("api", closed_port())}
        assert await open_content(house, "api", "job") == NotFetched(Trouble.UNREACHABLE, "refused")


@pytest.mark.parametrize(
    ("upstream_id", "path"),
    [
        ("a/../../b?c#d", "/v1/videos/a%2F..%2F..%2Fb%3Fc%23d/content"),
        ("vidéo 1", "/v1/videos/vid%C3%A9o%201/content"),
        (".", None),
        ("..", None),
    ],
)
async def test_an_id_of_the_vendors_never_leads_elsewhere(
    upstream_id: str, path: str | None
) -> None:
    async with dialling(clips()) as dials:
        found = await open_content(dials.house, "api", upstream_id)
        if path is None:
            assert isinstance(found, NotFetched)
        else:
            assert await read(found) == MP4
        assert [request.path for request in dials.gateways[0].requests] == ([path] if path else [])


async def test_a_body_that_breaks_off_is_taken_up_again_with_our_key() -> None:
    tag = b'etag: "v1"'
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%s\r\n\r\n" % (len(MP4), tag)
    rest = b"HTTP/1.1 206 X\r\ncontent-length: %d\r\ncontent-range: bytes 1000-%d/%d\r\n%s\r\n\r\n"
    rest %= (len(MP4) - 1000, len(MP4) - 1, len(MP4), tag)
    acts = bytes_then(head + MP4[:1000]), bytes_then(rest + MP4[1000:])
    async with dialling(*acts) as dials:
        assert await read(await open_content(dials.house, "api", "job")) == MP4
        first, second = (request.headers for request in dials.gateways[0].requests)
        assert (second["range"], second["if-range"]) == ("bytes=1000-", '"v1"')
        assert second["authorization"] == first["authorization"]


def waiting(url: str | None, gateway: str | None = "api", job: str | None = None) -> Waiting:
    return Waiting("video_a", url, gateway, job, None, 0, 0)  # type: ignore[arg-type]


async def test_a_link_is_followed_without_our_key() -> None:
    async with dialling() as dials:
        url = f"{dials.host.url}/a.mp4?Signature=x%2By"
        assert await read(await open_clip(dials.house, waiting(url, job="job"))) == MP4
        (request,) = dials.host.requests
        assert request.path == "/a.mp4?Signature=x%2By"
        assert not {"authorization", "cookie", "referer", "via"} & set(request.headers)
        assert dials.asked == []


async def test_without_a_link_the_gateway_that_made_it_is_asked_first_and_then_the_others() -> None:
    async with dialling() as dials:
        api, vip, b = dials.gateways
        vip.does(refusal(503))
        api.does(answers(400, NOT_COMPLETED))
        b.does(clips())
        order: list[str] = []
        for one in dials.gateways:
            one.acts = [noted(one.name, one.acts[0], order)]
        assert await read(await open_clip(dials.house, waiting(None, "vip", "job"))) == MP4
        assert order == ["vip", "api", "b"]


def noted(name: str, act: Act, order: list[str]) -> Act:
    async def acted(request: object, writer: object) -> None:
        order.append(name)
        await act(request, writer)  # type: ignore[arg-type]

    return acted


async def test_what_is_told_is_the_first_trouble() -> None:
    async with dialling() as dials:
        for one, act in zip(
            dials.gateways, (refusal(503), answers(404, HTML), answers(400, b"")), strict=True
        ):
            one.does(act)
        for gateway, trouble in (
            ("api", Trouble.STATUS),
            ("vip", Trouble.GONE),
            ("b", Trouble.NOT_READY),
        ):
            found = await open_clip(dials.house, waiting(None, gateway, "job"))
            assert isinstance(found, NotFetched)
            assert found.trouble is trouble


async def test_a_dead_link_of_a_job_is_replaced_by_what_its_gateway_has() -> None:
    async with dialling() as dials:
        dials.host.does(refusal(403), clips())
        dials.gateways[0].does(answers(200, {**DOCUMENTED, "url": f"{dials.host.url}/fresh.mp4"}))
        url = f"{dials.host.url}/dead.mp4"
        assert await read(await open_clip(dials.house, waiting(url, job="job"))) == MP4
        assert [one.path for one in dials.host.requests] == ["/dead.mp4", "/fresh.mp4"]
        assert dials.asked == ["api"]


async def test_the_dead_link_of_a_chat_has_no_other_source() -> None:
    async with dialling() as dials:
        dials.host.does(refusal(403))
        found = await open_clip(dials.house, waiting(f"{dials.host.url}/dead.mp4"))
        assert found == NotFetched(Trouble.STATUS, "status 403", 403)
        assert dials.asked == []


async def test_a_link_to_one_of_our_gateways_content_is_asked_for_with_our_key() -> None:
    async with dialling() as dials:
        dials.gateways[1].does(clips())
        url = f"{dials.gateways[1].url}/v1/videos/job%2F1/content"
        assert await read(await open_clip(dials.house, waiting(url))) == MP4
        (request,) = dials.gateways[1].requests
        assert request.path == "/v1/videos/job%2F1/content"
        assert request.headers["authorization"].startswith("Bearer sk-")
        assert dials.asked == ["vip"]


async def test_a_link_that_only_looks_like_our_gateways_never_gets_our_key() -> None:
    async with dialling() as dials:
        url = f"{dials.host.url}/v1/videos/job/content"
        assert await read(await open_clip(dials.house, waiting(url))) == MP4
        assert "authorization" not in dials.host.requests[0].headers
        assert dials.asked == []


async def test_a_clip_with_neither_a_link_nor_a_job_is_told_as_such() -> None:
    async with dialling() as dials:
        found = await open_clip(dials.house, waiting(None))
        assert isinstance(found, NotFetched)
        assert found.trouble is Trouble.GARBLED
