"""Routes, keys and ids of a gateway, and how strictly it reads HTTP."""

from __future__ import annotations

import asyncio
import json

import pytest

from proxy.sandbox import Sandbox, documented_products
from tests.sandbox.dialling import Answer, ask, chat, exchange, finished_video, read, running

BODY = json.dumps(
    {"model": "veo-3.1-fast", "stream": True, "messages": [{"role": "user", "content": "a"}]}
).encode()


def fetch(path: str, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
    async def run() -> Answer:
        async with running() as sandbox:
            return await ask(f"{sandbox.urls['b']}{path}", method=method, headers=headers)

    return asyncio.run(run())


@pytest.mark.parametrize("key", ["", "Bearer ", "Bearer sk-other", "sk-cm-mine", "Basic c2s="])
def test_a_wrong_key_is_refused_and_free(key: str) -> None:
    async def run() -> None:
        async with running() as sandbox:
            url = f"{sandbox.urls['api']}/v1/chat/completions"
            answer = await ask(url, BODY, headers={"Authorization": key})
            assert (answer.status, answer.data["error"]["code"]) == (401, "invalid_api_key")
            assert sandbox.bill().jobs == 0

    asyncio.run(run())


@pytest.mark.parametrize("key", ["Bearer sk-sandbox", "sk-sandbox", "Bearer sk-sandbox-team-7"])
def test_a_key_is_taken_with_or_without_bearer(key: str) -> None:
    assert fetch("/v1/models", headers={"Authorization": key}).status == 200


def test_the_models_on_sale_are_listed() -> None:
    listed = fetch("/v1/models").data
    assert listed["object"] == "list"
    assert {model["id"] for model in listed["data"]} == set(documented_products())
    assert len(listed["data"]) == 8


def test_an_unknown_path_is_a_web_page() -> None:
    answer = fetch("/v1/nothing")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    twice = fetch("/v1/v1/chat/completions", "POST")
    assert twice.status == 404
    assert twice.data["error"]["message"] == "Invalid URL (POST /v1/v1/chat/completions)"


def test_every_answer_carries_the_vendors_request_ids() -> None:
    async def run() -> list[Answer]:
        async with running() as sandbox:
            return [
                await chat(sandbox, "x", "api"),
                await chat(sandbox, "[[status 500]]", "vip"),
                await chat(sandbox, "x", "b"),
            ]

    answers = asyncio.run(run())
    ids = {answer.headers["x-shellapi-request-id"] for answer in answers}
    assert len(ids | {answer.headers["x-request-id"] for answer in answers}) == 6
    assert ["x-oneapi-request-id" in answer.headers for answer in answers] == [False, False, True]


def raw(*pieces: bytes) -> list[Answer]:
    """What a gateway answers to bytes, one list entry an answer on the same connection."""

    async def run() -> bytes:
        async with running() as sandbox:
            host, port = sandbox.urls["api"].removeprefix("http://").split(":")
            received, _ = await exchange(host, int(port), b"".join(pieces))
            return received

    received = asyncio.run(run())
    return [read(b"HTTP/1.1" + part, reset=False) for part in received.split(b"HTTP/1.1")[1:]]


KEY = b"Authorization: sk-sandbox\r\n"
LIST = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + KEY


def test_a_connection_serves_several_requests() -> None:
    answers = raw(LIST + b"\r\n", LIST + b"\r\n", LIST + b"Connection: close\r\n\r\n")
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert [answer.headers["connection"] for answer in answers][1:] == ["keep-alive", "close"]


def test_chunked_requests_are_read() -> None:
    chunks = b"".join(b"%x;a=b\r\n%c\r\n" % (1, byte) for byte in BODY)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + KEY
    (answer,) = raw(head, b"Connection: close\r\n\r\n", chunks, b"0\r\nTrailer: x\r\n\r\n")
    assert (answer.status, len(answer.links())) == (200, 1)


def test_a_caller_who_waits_to_continue_is_told_to() -> None:
    head = b"POST /v1/videos HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n" + KEY
    answers = raw(head, b"Connection: close\r\n\r\n{}")
    assert [answer.status for answer in answers] == [100, 400]


def test_an_old_caller_gets_a_body_without_chunks() -> None:
    head = b"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: %d\r\n" % len(BODY)
    (answer,) = raw(head, KEY, b"\r\n", BODY)
    assert "transfer-encoding" not in answer.headers
    assert answer.body.endswith(b"data: [DONE]\n\n")


MALFORMED = {
    "not HTTP": (b"hello\r\n\r\n", 400),
    "HTTP/2": (b"GET / HTTP/2\r\n\r\n", 400),
    "bare line feed": (b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", 400),
    "no colon": (b"GET / HTTP/1.1\r\nAb\r\n\r\n", 400),
    "space before colon": (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", 400),
    "folded header": (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400),
    "two lengths": (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    "length and chunks": (
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    "signed length": (b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 400),
    "huge length": (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
    "other coding": (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    "bad chunk": (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n", 400),
    "long chunk": (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400),
    "huge chunk": (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n", 413),
    "huge head": (b"GET / HTTP/1.1\r\nA: " + b"b" * 200_000 + b"\r\n\r\n", 431),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_request_is_refused_and_the_connection_ends(case: str) -> None:
    sent, status = MALFORMED[case]
    (answer,) = raw(sent)
    assert answer.status == status
    assert answer.headers["connection"] == "close"
    assert answer.data["error"]["message"]


def test_ids_of_jobs_are_shared_and_chats_are_no_jobs() -> None:
    async def run(sandbox: Sandbox) -> None:
        job = await finished_video(sandbox, "x", "vip")
        assert job.startswith("video_")
        polls = [await ask(f"{url}/v1/videos/{job}") for url in sandbox.urls.values()]
        assert {poll.data["status"] for poll in polls} == {"completed"}
        chat_id = (await chat(sandbox, "x")).chunks[0]["id"]
        absent = await ask(f"{sandbox.urls['api']}/v1/videos/{chat_id}")
        assert (absent.status, absent.data["error"]["code"]) == (404, "video_not_found")

    async def story() -> None:
        async with running() as sandbox:
            await run(sandbox)

    asyncio.run(story())
