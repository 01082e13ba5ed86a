"""What a request's headers and body say of it as a repeat."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from proxy import errors
from proxy.config import parse
from proxy.core.replay import fingerprint_chat
from proxy.flows.claim import ASIDE_BYTES_MIN, Claim, fingerprint, key_life, read_claim
from tests.running import ask

KEY, COUNT, REUSE = b"Idempotency-Key", b"x-stainless-retry-count", b"x-clipmeter-reuse"


@pytest.mark.parametrize(
    ("headers", "reuse", "expected", "cache_status"),
    [
        ([], "opt-in", Claim(), "fwd=bypass"),
        ([(KEY, b"k")], "never", Claim("k"), "fwd=bypass"),
        ([(COUNT, b"2")], "never", Claim(retry_count=2), "fwd=bypass"),
        ([(REUSE, b"on")], "opt-in", Claim(reuse=True), "fwd=miss"),
        ([(REUSE, b"on")], "never", Claim(reuse_off=True), "fwd=miss; detail=reuse-off"),
        ([(REUSE, b"off")], "never", Claim(), "fwd=bypass"),
    ],
    ids=["nothing", "a key", "a count", "reuse", "reuse, not allowed", "no reuse"],
)
def test_a_claim_is_read_from_the_headers(
    headers: list[tuple[bytes, bytes]], reuse: str, expected: Claim, cache_status: str
) -> None:
    claim = read_claim(parse({"replay": {"reuse": reuse}}, {}), headers)
    assert claim == expected
    assert claim.cache_status == f"clipmeter; {cache_status}"
    assert claim.asks is bool(headers and not claim.reuse_off and headers != [(REUSE, b"off")])


@pytest.mark.parametrize(
    "headers", [[(KEY, b"")], [(KEY, b"a"), (KEY, b"b")], [(REUSE, b"1")]], ids=str
)
def test_a_malformed_claim_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(errors.ProxyError) as refused:
        read_claim(parse({}, {}), headers)
    assert refused.value.code == "invalid_request"


@pytest.mark.parametrize("size", [1, ASIDE_BYTES_MIN])
async def test_a_large_body_has_the_same_kind_of_fingerprint(size: int) -> None:
    body: Any = json.dumps(ask("x" * size)).encode()
    assert await fingerprint(body) == fingerprint_chat(body)


@pytest.mark.parametrize(("hours", "life"), [(48, timedelta(days=2)), (1e300, timedelta(36_500))])
def test_a_key_lives_as_long_as_the_operator_says_or_a_century(
    hours: float, life: timedelta
) -> None:
    assert key_life(parse({"replay": {"idempotency_hours": hours}}, {})) == life
