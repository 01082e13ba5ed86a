"""Bodies as they come: whole, or refused as soon as they are too large or too slow."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.config import Limits
from proxy.errors import ProxyError
from proxy.flows.reply import CallerGone
from proxy.web.body import has_left, read_body
from proxy.web.exchange import Exchange

LIMITS = Limits(request_bytes_max=100, request_text_bytes_max=50, image_bytes_max=50)


class Caller:
    """Says its pieces one after the other, then hangs up or waits; `heard` of them were taken."""

    def __init__(self, *pieces: bytes, ends: bool = True, leaves: bool = False) -> None:
        self.pieces = list(pieces)
        self.ends, self.leaves = ends, leaves
        self.heard = 0

    async def receive(self) -> dict[str, Any]:
        if self.heard < len(self.pieces):
            self.heard += 1
            last = self.ends and self.heard == len(self.pieces)
            body = self.pieces[self.heard - 1]
            return {"type": "http.request", "body": body, "more_body": not last}
        if not self.leaves:
            await asyncio.sleep(3600)
        return {"type": "http.disconnect"}


def read(caller: Caller, limits: Limits = LIMITS, length: bytes | None = None) -> bytes:
    headers = [] if length is None else [(b"content-length", length)]
    exchange = Exchange("POST", "/v1/videos", headers, "req_1", 0.0)
    return asyncio.run(read_body(exchange, caller.receive, limits))


@pytest.mark.parametrize(
    "pieces", [(b"",), (b"x" * 100,), (b"a", b"", b"b")], ids=["none", "one", "three"]
)
def test_a_body_is_what_came(pieces: tuple[bytes, ...]) -> None:
    assert read(Caller(*pieces)) == b"".join(pieces)


def test_a_body_that_says_it_is_too_large_is_refused_unread() -> None:
    with pytest.raises(ProxyError) as caught:
        read(Caller(b"x"), length=b"101")
    assert caught.value.code == "request_too_large"


@pytest.mark.parametrize("length", [None, b"3", b"x", b"9" * 40], ids=repr)
def test_a_body_that_is_too_large_is_refused_and_heard_out(length: bytes | None) -> None:
    caller = Caller(b"x" * 60, b"x" * 60, b"x" * 60)
    with pytest.raises(ProxyError) as caught:
        read(caller, length=length)
    assert caught.value.status == 413
    assert dict(caught.value.headers())["connection"] == "close"
    assert caller.heard == 3


def test_a_refused_body_without_an_end_is_not_heard_for_ever() -> None:
    caller = Caller(*[b"x" * 60] * 50, ends=False)
    with pytest.raises(ProxyError):
        read(caller)
    assert caller.heard < 15


def test_a_body_that_was_refused_at_its_last_byte_is_answered_at_once() -> None:
    async def story() -> None:
        exchange = Exchange("POST", "/v1/videos", [], "req_1", 0.0)
        async with asyncio.timeout(1):
            await read_body(exchange, Caller(b"x" * 101).receive, LIMITS)

    with pytest.raises(ProxyError):
        asyncio.run(story())


def test_a_body_that_does_not_come_in_time_is_refused() -> None:
    limits = LIMITS.model_copy(update={"request_seconds_max": 0.05})
    with pytest.raises(ProxyError) as caught:
        read(Caller(b"x", ends=False), limits)
    assert (caught.value.status, caught.value.code) == (400, "invalid_request")


def test_a_caller_who_leaves_before_the_last_byte_is_gone() -> None:
    with pytest.raises(CallerGone):
        read(Caller(b"x", ends=False, leaves=True))


@pytest.mark.parametrize("leaves", [True, False])
def test_a_caller_has_left_once_it_has_hung_up(leaves: bool) -> None:
    assert asyncio.run(has_left(Caller(leaves=leaves).receive)) is leaves
