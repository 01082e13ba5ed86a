"""How the sandbox reads HTTP: strictly, and every part within a limit."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from tests.sandbox.dialling import Answer, exchange, read, running

BODY = json.dumps(
    {"model": "veo-3.1-fast", "stream": True, "messages": [{"role": "user", "content": "a"}]}
).encode()
KEY = b"Authorization: sk-sandbox\r\n"
LIST = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + KEY


def raw(*pieces: bytes) -> list[Answer]:
    """What a gateway answers to bytes, one list entry an answer on the same connection."""

    async def run() -> bytes:
        async with running() as sandbox:
            host, port = sandbox.urls["api"].removeprefix("http://").split(":")
            received, _ = await exchange(host, int(port), b"".join(pieces))
            return received

    received = asyncio.run(run())
    answers = re.split(rb"HTTP/1\.1 (?=\d{3} )", received)
    return [read(b"HTTP/1.1 " + answer, reset=False) for answer in answers[1:]]


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
