"""A clip's bytes come whole, in one version, unencoded and within their limits, or not at all.

The clip host is a real socket on the loopback that misbehaves as it is told to.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from proxy.remote.download import (
    REDIRECTS_MAX,
    Download,
    Downloads,
    Ended,
    Limits,
    NotFetched,
    Trouble,
    begin,
)
from proxy.remote.gateway import Deadlines, Gateway, Gateways, Opened
from proxy.remote.guard import Rules
from tests.remote.fault_server import Fault, FaultServer, Line

CLIP = b"\x00\x00\x00\x18ftypisom" + bytes(range(256)) * 8
SIZE = len(CLIP)
TAG = b'"tag-1"'
LIMITS = Limits(
    open_seconds=5,
    stall_seconds=5,
    total_seconds=10,
    bytes_max=2**20,
    resumes_max=3,
    resume_seconds=0,
)
PRIVATE = Rules(private=True)
HEADERS_SENT = ["accept", "accept-encoding", "connection", "host", "user-agent"]
BARE = replace(LIMITS, resumes_max=0)


def head(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    return b"\r\n".join((b"HTTP/1.1 " + status, *lines, b"", b""))


def whole(*lines: bytes, body: bytes = CLIP) -> bytes:
    return head(b"Content-Length: %d" % len(body), *lines) + body


def part(first: int, *, tag: bytes = TAG, total: int = SIZE, more: bytes = b"X: y") -> bytes:
    span = b"Content-Range: bytes %d-%d/%d" % (first, total - 1, total)
    length = b"Content-Length: %d" % (total - first)
    return head(length, span, b"ETag: " + tag, more, status=b"206 Partial Content") + CLIP[
        first:total
    ].ljust(total - first)


def redirect(target: bytes) -> bytes:
    return head(b"Location: " + target, b"Set-Cookie: a=b", b"Content-Length: 0", status=b"302 Go")


def one_by_one(*answers: bytes, then: str = "close") -> Fault:
    """Each connection sends the next of `answers`; the last one again and again."""
    left = list(answers)

    async def fault(line: Line) -> None:
        await line.request()
        await line.send(left.pop(0) if len(left) > 1 else left[0])
        if then == "hold" and len(left) == 1:
            await line.gone()
        await line.close()

    return fault


class Named(AbstractResolver):
    """Answers each question with the next of its addresses; the last one stays."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
        ]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def host(
    fault: Fault, rules: Rules = PRIVATE, resolver: AbstractResolver | None = None
) -> AsyncIterator[tuple[FaultServer, Downloads]]:
    async with FaultServer(fault) as server:
        downloads = Downloads(rules, resolver)
        try:
            yield server, downloads
        finally:
            await downloads.close()


async def read(download: Download | NotFetched) -> bytes:
    assert isinstance(download, Download), download
    return b"".join([chunk async for chunk in download])


async def outcome(fault: Fault, limits: Limits = BARE) -> tuple[object, bytes, FaultServer]:
    """How it ended (or why it did not begin), the bytes, and the host that saw it."""
    async with host(fault) as (server, downloads), asyncio.timeout(10):
        download = await downloads.fetch(f"{server.url}/a.mp4?s=1", limits)
        if isinstance(download, NotFetched):
            return download.trouble, b"", server
        data = await read(download)
        assert download.received >= len(data)
        assert download.complete == (download.ended is Ended.COMPLETE)
        return download.ended, data, server


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the condition is another socket's
            await asyncio.sleep(0.005)


def names_of(request: bytes) -> list[str]:
    lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return sorted(line.partition(":")[0].lower() for line in lines)


async def test_a_clip_comes_whole_and_nothing_secret_goes() -> None:
    async with host(one_by_one(whole())) as (server, downloads):
        download = await downloads.fetch(f"{server.url}/v/%7Ea.mp4?X=a%2Fb&s=%3D", LIMITS)
        assert await read(download) == CLIP
        assert isinstance(download, Download)
        assert (download.ended, download.declared) == (Ended.COMPLETE, SIZE)
    request = server.requests[0]
    assert request.startswith(b"GET /v/%7Ea.mp4?X=a%2Fb&s=%3D HTTP/1.1\r\n")
    assert names_of(request) == HEADERS_SENT
    assert b"accept-encoding: identity" in request.lower()


async def test_a_chunked_clip_is_complete_when_it_says_so() -> None:
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (SIZE, CLIP)
    ended, data, _ = await outcome(one_by_one(head(b"Transfer-Encoding: chunked") + chunks))
    assert (ended, data) == (Ended.COMPLETE, CLIP)


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_clip_cut_at_any_byte_is_never_complete(framing: str) -> None:
    body = CLIP[:60]
    answer = (
        whole(body=body)
        if framing == "length"
        else head(b"Transfer-Encoding: chunked") + b"3c\r\n" + body + b"\r\n0\r\n\r\n"
    )
    position = 0

    async def fault(line: Line) -> None:
        await line.request()
        await line.send(answer[:position])
        await line.close()

    async with host(fault) as (server, downloads), asyncio.timeout(20):
        for position in range(len(answer)):
            download = await downloads.fetch(f"{server.url}/a", BARE)
            if isinstance(download, Download):
                assert body.startswith(await read(download))
                assert (download.complete, download.ended) == (False, Ended.CUT), position
            else:
                assert download.trouble in {Trouble.UNREACHABLE, Trouble.GARBLED}, position
        position = len(answer)
        assert await read(await downloads.fetch(f"{server.url}/a", BARE)) == body


async def test_a_body_that_only_the_connection_ends_is_not_read() -> None:
    assert (await outcome(one_by_one(head() + CLIP)))[0] is Trouble.UNFRAMED


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Encoding: gzip"],
        [b"Content-Encoding: identity", b"Content-Encoding: br"],
        [b"Content-Encoding: deflate, gzip"],
    ],
)
async def test_an_encoded_body_is_refused_and_never_unfolded(lines: list[bytes]) -> None:
    ended, data, server = await outcome(one_by_one(whole(*lines), then="hold"))
    assert (ended, data) == (Trouble.ENCODED, b"")
    await until(lambda: server.open == 0)


async def test_a_coding_beneath_the_chunks_is_refused() -> None:
    answer = head(b"Transfer-Encoding: gzip, chunked") + b"3\r\nabc\r\n0\r\n\r\n"
    assert (await outcome(one_by_one(answer)))[0] in {Trouble.ENCODED, Trouble.GARBLED}


async def test_identity_named_as_an_encoding_is_none() -> None:
    ended, data, _ = await outcome(one_by_one(whole(b"Content-Encoding: Identity")))
    assert (ended, data) == (Ended.COMPLETE, CLIP)


async def test_a_clip_declared_too_large_is_not_begun() -> None:
    limits = replace(BARE, bytes_max=SIZE - 1)
    assert (await outcome(one_by_one(whole(), then="hold"), limits))[0] is Trouble.TOO_LARGE
    limits = replace(BARE, bytes_max=SIZE)
    assert (await outcome(one_by_one(whole()), limits))[0] is Ended.COMPLETE


async def test_an_endless_body_is_let_go_at_the_limit() -> None:
    async def endless(line: Line) -> None:
        await line.request()
        await line.send(head(b"Transfer-Encoding: chunked"))
        while True:
            await line.send(b"10000\r\n" + bytes(2**16) + b"\r\n")

    ended, data, server = await outcome(endless)
    assert ended is Ended.TOO_LARGE
    assert len(data) <= BARE.bytes_max
    await until(lambda: server.open == 0)


@pytest.mark.parametrize("status", [204, 206, 304, 400, 403, 404, 410, 416, 429, 500, 503])
async def test_any_answer_but_200_is_no_clip(status: int) -> None:
    length = b"X: y" if status in {204, 304} else b"Content-Length: 0"
    async with host(one_by_one(head(length, status=b"%d No" % status))) as (server, downloads):
        download = await downloads.fetch(f"{server.url}/a?Signature=secret", LIMITS)
        assert isinstance(download, NotFetched)
        assert (download.trouble, download.status) == (Trouble.STATUS, status)
        assert "secret" not in repr(download)


@pytest.mark.parametrize(
    ("span", "length", "whole"),
    [
        (b"bytes 0-%d/%d" % (SIZE - 1, SIZE), SIZE, True),
        (b"bytes 0-%d/%d" % (SIZE - 1, SIZE), None, True),
        (b"bytes 0-%d/%d" % (SIZE - 1, SIZE + 1), SIZE, False),
        (b"bytes 1-%d/%d" % (SIZE, SIZE + 1), SIZE, False),
        (b"bytes 0-%d/*" % (SIZE - 1), SIZE, False),
        (b"bytes 0-%d/%d" % (SIZE, SIZE + 1), SIZE, False),
    ],
    ids=["all", "all, in chunks", "not the end", "not the beginning", "of nobody knows", "a lie"],
)
async def test_a_part_that_nobody_asked_for_is_the_clip_if_it_is_all_of_it(
    span: bytes, length: int | None, whole: bool
) -> None:
    framing = b"Content-Length: %d" % length if length else b"Transfer-Encoding: chunked"
    body = CLIP if length else b"%x\r\n%s\r\n0\r\n\r\n" % (SIZE, CLIP)
    answer = head(framing, b"Content-Range: " + span, status=b"206 Partial Content") + body
    ended, data, _ = await outcome(one_by_one(answer))
    assert (ended, data) == ((Ended.COMPLETE, CLIP) if whole else (Trouble.STATUS, b""))


async def test_silence_has_a_limit_in_every_phase() -> None:
    short = Limits(open_seconds=0.1, stall_seconds=0.1, total_seconds=5, bytes_max=2**20)

    async def silent(line: Line) -> None:
        await line.request()
        await line.gone()

    assert (await outcome(silent, replace(short, resumes_max=0)))[0] is Trouble.SILENT
    for answer in (head(b"Content-Length: 9"), whole()[:-1]):
        ended, _, server = await outcome(one_by_one(answer, then="hold"), short)
        assert ended is Ended.STALLED
        await until(lambda server=server: server.open == 0)  # type: ignore[misc]


async def test_a_drip_ends_with_the_time_for_all_of_it() -> None:
    async def drip(line: Line) -> None:
        await line.request()
        await line.send(head(b"Content-Length: 1000", b"ETag: " + TAG))
        while True:
            await line.send(b"x")
            await asyncio.sleep(0.02)

    limits = Limits(open_seconds=1, stall_seconds=1, total_seconds=0.2, bytes_max=2**20)
    ended, _, server = await outcome(drip, limits)
    assert ended is Ended.TIMED_OUT
    assert server.connections == 1


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", Trouble.GARBLED),
        (head(b"X: " + b"a" * 2**20), Trouble.GARBLED),
        (head(b"Content-Length: 3", b"Content-Length: 4") + b"abcd", Trouble.GARBLED),
        (b"", Trouble.UNREACHABLE),
    ],
    ids=["another protocol", "a huge header", "two lengths", "nothing"],
)
async def test_what_is_no_http_answer_is_no_clip(answer: bytes, trouble: Trouble) -> None:
    assert (await outcome(one_by_one(answer)))[0] is trouble


async def test_a_refused_connection_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    downloads = Downloads(PRIVATE)
    download = await downloads.fetch(f"http://127.0.0.1:{port}/a", LIMITS)
    await downloads.close()
    assert download == NotFetched(Trouble.UNREACHABLE, "connect")


async def test_a_blocked_link_is_never_dialled() -> None:
    async with host(one_by_one(whole()), Rules()) as (server, downloads):
        for link in (server.url, server.url.replace("http", "https"), "https://169.254.169.254/"):
            download = await downloads.fetch(link, LIMITS)
            assert isinstance(download, NotFetched)
            assert download.trouble is Trouble.BLOCKED
    assert server.connections == 0


async def test_redirects_are_followed_a_few_times() -> None:
    hops = [redirect(b"/%d" % number) for number in range(REDIRECTS_MAX)]
    ended, data, server = await outcome(one_by_one(*hops, whole()))
    assert (ended, data) == (Ended.COMPLETE, CLIP)
    assert [request.split()[1] for request in server.requests] == [
        b"/a.mp4?s=1",
        *(b"/%d" % number for number in range(REDIRECTS_MAX)),
    ]
    ended, _, server = await outcome(one_by_one(*hops, redirect(b"/x")))
    assert ended is Trouble.REDIRECTED
    assert server.connections == REDIRECTS_MAX + 1


async def test_nothing_that_a_host_set_on_the_way_is_sent_on() -> None:
    names = Named("127.0.0.1")
    async with host(one_by_one(redirect(b"/a"), whole()), PRIVATE, names) as (server, downloads):
        download = await downloads.fetch(f"http://cdn.example:{server.port}/", LIMITS)
        assert await read(download) == CLIP
    assert [names_of(request) for request in server.requests] == [HEADERS_SENT] * 2


async def test_names_of_clip_hosts_are_found_without_the_threads_that_gateways_need() -> None:
    hangs, loop = threading.Event(), asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as every_thread:
        loop.set_default_executor(every_thread)
        held = loop.run_in_executor(None, hangs.wait)
        async with host(one_by_one(whole())) as (server, downloads):
            link = server.url.replace("127.0.0.1", "localhost") + "/clip.mp4"
            download = await downloads.fetch(link, LIMITS)
            assert isinstance(download, Download), download
            assert b"".join([chunk async for chunk in download]) == CLIP
        hangs.set()
        assert await held


async def test_the_body_of_a_redirect_is_not_waited_for() -> None:
    unsent = redirect(b"/a").replace(b"Content-Length: 0", b"Content-Length: 9")

    async def fault(line: Line) -> None:
        first = b" /a " not in await line.request()
        await line.send(unsent if first else whole())
        await line.gone()

    ended, data, server = await outcome(fault)
    assert (ended, data) == (Ended.COMPLETE, CLIP)
    await until(lambda: server.open == 0)


@pytest.mark.parametrize(
    "target",
    [
        b"http://169.254.169.254/latest/meta-data/",
        b"//169.254.169.254/",
        b"http://[::ffff:169.254.169.254]/",
        b"http://0.0.0.0/",
        b"http://2852039166/",
        b"http://cdn@127.0.0.1/",
        b"file:///etc/passwd",
        b"gopher://127.0.0.1/",
        b"http://other.example/",
        b"http://127.0.0.1:0/",
        b"http://[",
        b"//[::1",
    ],
)
async def test_a_redirect_inward_is_not_followed(target: bytes) -> None:
    rules = Rules(("127.0.0.1", "169.254.169.254", "0.0.0.0"), private=True)
    async with host(one_by_one(redirect(target)), rules) as (server, downloads):
        download = await downloads.fetch(f"{server.url}/a", LIMITS)
        assert isinstance(download, NotFetched)
        assert download.trouble is Trouble.BLOCKED
    assert server.connections == 1


async def test_a_redirect_to_nowhere_is_no_clip() -> None:
    ended, _, server = await outcome(one_by_one(head(b"Content-Length: 0", status=b"302 Go")))
    assert (ended, server.connections) == (Trouble.STATUS, 1)


async def test_what_broke_off_is_taken_up_at_its_byte() -> None:
    for cut in range(1, SIZE, 137):
        broken = whole(b"ETag: " + TAG)[: cut - SIZE]
        ended, data, server = await outcome(one_by_one(broken, part(cut)), LIMITS)
        assert (ended, data) == (Ended.COMPLETE, CLIP), cut
        ranged = server.requests[1].lower()
        assert b"range: bytes=%d-\r\n" % cut in ranged
        assert b'if-range: "tag-1"\r\n' in ranged


async def test_a_rest_that_breaks_off_is_taken_up_too() -> None:
    first = whole(b"ETag: " + TAG)[: 500 - SIZE]
    second = part(500)[: 1500 - SIZE]
    ended, data, server = await outcome(one_by_one(first, b"", second, part(1500)), LIMITS)
    assert (ended, data) == (Ended.COMPLETE, CLIP)
    assert server.connections == 4


async def test_a_silence_is_broken_by_another_connection() -> None:
    answers = [whole(b"ETag: " + TAG)[:-700], part(SIZE - 700)]

    async def fault(line: Line) -> None:
        await line.request()
        await line.send(answers.pop(0))
        await line.gone()

    ended, data, _ = await outcome(fault, replace(LIMITS, stall_seconds=0.1))
    assert (ended, data) == (Ended.COMPLETE, CLIP)


async def test_resumptions_have_a_limit() -> None:
    broken = whole(b"ETag: " + TAG)[:-700]
    ended, data, server = await outcome(one_by_one(broken, b""), LIMITS)
    assert (ended, data) == (Ended.CUT, CLIP[:-700])
    # The client itself asks a second time where no answer came at all.
    assert server.connections == 1 + 2 * LIMITS.resumes_max
    unwell = head(b"Content-Length: 0", status=b"503 No")
    ended, data, server = await outcome(one_by_one(broken, unwell), LIMITS)
    assert (ended, server.connections) == (Ended.CUT, 1 + LIMITS.resumes_max)


@pytest.mark.parametrize("tag", [b"X: y", b'ETag: W/"weak"', b"ETag: unquoted", b'ETag: "a", "b"'])
async def test_without_a_strong_tag_nothing_is_taken_up(tag: bytes) -> None:
    ended, _, server = await outcome(one_by_one(whole(tag)[:-1]), LIMITS)
    assert (ended, server.connections) == (Ended.CUT, 1)


@pytest.mark.parametrize(
    "rest",
    [
        whole(b'ETag: "tag-2"'),
        whole(b"ETag: " + TAG),
        part(SIZE - 700, tag=b'"tag-2"'),
        part(SIZE - 700, tag=b'W/"tag-1"'),
        part(SIZE - 701),
        part(SIZE - 699),
        part(SIZE - 700, total=SIZE + 1),
        part(SIZE - 700).replace(b"-%d/" % (SIZE - 1), b"-%d/" % (SIZE - 2)),
        part(SIZE - 700, more=b"Content-Encoding: gzip"),
        part(SIZE - 700).replace(b"Content-Range", b"X-Range"),
        head(b"Content-Range: bytes */9", b"Content-Length: 0", status=b"416 No"),
        head(b"Content-Length: 0", status=b"412 No"),
    ],
)
async def test_two_versions_are_never_spliced(rest: bytes) -> None:
    broken = whole(b"ETag: " + TAG)[:-700]
    ended, data, server = await outcome(one_by_one(broken, rest), LIMITS)
    assert (ended, data) == (Ended.CHANGED, CLIP[:-700])
    assert server.connections == 2


async def test_a_link_that_died_in_between_is_not_asked_again() -> None:
    gone = head(b"Content-Length: 0", status=b"404 No")
    ended, _, server = await outcome(one_by_one(whole(b"ETag: " + TAG)[:-1], gone), LIMITS)
    assert (ended, server.connections) == (Ended.CUT, 2)


async def test_a_name_that_turns_inward_is_not_followed_there() -> None:
    for first in (redirect(b"/again"), whole(b"ETag: " + TAG)[:-700]):
        names = Named("127.0.0.1", "169.254.169.254")
        async with host(one_by_one(first), PRIVATE, names) as (server, downloads):
            download = await downloads.fetch(f"http://cdn.example:{server.port}/a", LIMITS)
            if isinstance(download, Download):
                assert await read(download) == CLIP[:-700]
                assert download.ended is Ended.CUT
            else:
                assert download == NotFetched(Trouble.BLOCKED, "address")
        assert server.connections == 1


async def test_leaving_early_leaves_no_connection() -> None:
    async with host(one_by_one(whole()[:-1], then="hold")) as (server, downloads):
        download = await downloads.fetch(f"{server.url}/a", BARE)
        assert isinstance(download, Download)
        assert await anext(download)
        download.close()
        download.close()
        assert (download.ended, download.complete) == (Ended.CUT, False)
        await until(lambda: server.open == 0)
        with pytest.raises(StopAsyncIteration):
            await anext(download)


async def test_a_cancelled_fetch_leaves_no_connection() -> None:
    async with host(one_by_one(b"", then="hold")) as (server, downloads):
        asking = asyncio.create_task(downloads.fetch(f"{server.url}/a", LIMITS))
        await until(lambda: server.open == 1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: server.open == 0)


async def test_a_gateways_own_content_is_read_by_the_same_rules() -> None:
    limit = Deadlines(5, 5, 5, 5, 5)
    async with FaultServer(one_by_one(whole(), whole(b"Content-Encoding: gzip"))) as server:
        gateways = Gateways("sk-vendor-key-of-the-test")
        bodies = []
        for _ in range(2):
            opened = await gateways.get(Gateway("api", server.url), "/v1/x", deadlines=limit)
            assert isinstance(opened, Opened)
            bodies.append(begin(opened.answer, LIMITS))
        assert await read(bodies[0]) == CLIP
        assert isinstance(bodies[1], NotFetched)
        assert bodies[1].trouble is Trouble.ENCODED
        await gateways.close()
