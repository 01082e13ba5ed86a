"""Refusals: each code of the contract, its envelope, and who may repeat what."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import errors
from proxy.errors import CODES, ProxyError

# The contract's table, status by status.
CONTRACT = {
    400: {
        "invalid_request",
        "model_not_found",
        "image_required",
        "image_not_allowed",
        "invalid_image",
        "n_out_of_range",
    },
    401: {"invalid_api_key"},
    403: {"model_not_allowed", "role_required"},
    404: {"video_not_found"},
    409: {"video_not_ready", "video_failed", "idempotency_in_progress"},
    410: {"video_expired"},
    413: {"request_too_large"},
    422: {"idempotency_key_reused"},
    429: {"rate_limit_exceeded", "insufficient_quota"},
    502: {"upstream_unavailable", "upstream_auth", "upstream_balance", "upstream_invalid"},
    503: {"ledger_unavailable", "draining"},
    504: {"outcome_unknown"},
}
BEYOND = {
    403: {"link_invalid"},
    404: {"route_not_found"},
    405: {"method_not_allowed"},
    409: {"picture_failed"},
    412: {"precondition_failed"},
    416: {"range_not_satisfiable"},
    500: {"internal_error"},
    503: {"vault_unavailable"},
}
CURED_BY_WAITING = {
    "rate_limit_exceeded",
    "draining",
    "ledger_unavailable",
    "upstream_unavailable",
    "idempotency_in_progress",
    "vault_unavailable",
}

MADE: dict[str, Callable[[], ProxyError]] = {
    "route_not_found": errors.route_not_found,
    "method_not_allowed": lambda: errors.method_not_allowed(["GET", "HEAD"]),
    "request_too_large": lambda: errors.request_too_large(16 * 2**20),
    "invalid_api_key": errors.invalid_api_key,
    "model_not_allowed": lambda: errors.model_not_allowed("veo-3.1"),
    "role_required": lambda: errors.role_required("tenant", ["finance", "admin"]),
    "model_not_found": lambda: errors.model_without_price("veo-3.1-4k"),
    "video_not_found": errors.video_not_found,
    "video_not_ready": lambda: errors.video_not_ready(5),
    "video_failed": lambda: errors.video_failed("policy_audio"),
    "video_expired": errors.video_expired,
    "link_invalid": errors.link_invalid,
    "picture_failed": errors.picture_failed,
    "precondition_failed": errors.precondition_failed,
    "range_not_satisfiable": lambda: errors.range_not_satisfiable(8_000_000),
    "vault_unavailable": errors.vault_unavailable,
    "idempotency_in_progress": errors.idempotency_in_progress,
    "idempotency_key_reused": errors.idempotency_key_reused,
    "rate_limit_exceeded": lambda: errors.rate_limit_exceeded("requests_per_minute", 60, 17),
    "insufficient_quota": lambda: errors.insufficient_quota("usd_per_month", "$5.00"),
    "internal_error": lambda: errors.internal_error("req_1"),
    "upstream_unavailable": lambda: errors.upstream_unavailable("gen_1", maybe_accepted=False),
    "upstream_auth": errors.upstream_auth,
    "upstream_balance": errors.upstream_balance,
    "upstream_invalid": lambda: errors.upstream_invalid("gen_1"),
    "outcome_unknown": lambda: errors.outcome_unknown("gen_1"),
    "ledger_unavailable": errors.ledger_unavailable,
    "draining": errors.draining,
}
ALSO_MADE = {
    "clip_not_fetched": lambda: errors.clip_not_fetched(7),
    "answer_gone": lambda: errors.answer_gone("gen_1", delivered=True),
}
"""Makers of codes that have another maker as well."""

SAID_BY_CORE = CONTRACT[400] - {"model_not_found"}
"""Codes whose message core writes, because it knows what was wrong."""


def test_the_table_is_the_contracts_and_a_few_codes_more() -> None:
    by_status: dict[int, set[str]] = {}
    for name, code in CODES.items():
        by_status.setdefault(code.status, set()).add(name)
    expected = {status: set(names) for status, names in CONTRACT.items()}
    for status, names in BEYOND.items():
        expected.setdefault(status, set()).update(names)
    assert by_status == expected


def test_the_table_stands_in_the_order_of_its_status() -> None:
    statuses = [code.status for code in CODES.values()]
    assert statuses == sorted(statuses)


def test_every_code_can_be_made_and_every_maker_is_tried() -> None:
    assert set(MADE) | SAID_BY_CORE == set(CODES)
    makers = {
        name
        for name, function in inspect.getmembers(errors, inspect.isfunction)
        if inspect.signature(function).return_annotation == "ProxyError"
    }
    assert makers == (set(MADE) - {"model_not_found"}) | {"model_without_price", *ALSO_MADE}


@pytest.mark.parametrize("code", MADE)
def test_a_refusal_has_its_own_code_and_status_and_says_what_to_do(code: str) -> None:
    refusal = MADE[code]()
    assert refusal.code == code
    assert refusal.status == CODES[code].status
    assert refusal.message.endswith(".")
    assert len(refusal.message.split()) >= 8


def test_a_clip_on_its_way_may_be_asked_for_again_when_the_next_try_is_over() -> None:
    refusal = ALSO_MADE["clip_not_fetched"]()
    assert (refusal.code, refusal.status) == ("upstream_unavailable", 502)
    assert dict(refusal.headers())["retry-after"] == "7"


@pytest.mark.parametrize("code", CODES)
def test_only_what_waiting_cures_may_be_repeated_by_the_sdk(code: str) -> None:
    headers = dict(ProxyError(code, "…").headers())
    assert headers["x-should-retry"] == ("true" if code in CURED_BY_WAITING else "false")
    assert ("retry-after" in headers) is (code in CURED_BY_WAITING)


@pytest.mark.parametrize("code", CODES)
def test_a_wait_cannot_be_promised_where_waiting_does_not_help(code: str) -> None:
    headers = dict(ProxyError(code, "…", retry_after_seconds=7).headers())
    assert headers.get("retry-after") == ("7" if code in CURED_BY_WAITING else None)


def test_a_request_that_may_have_been_bought_is_never_repeated() -> None:
    refusal = errors.upstream_unavailable("gen_1", maybe_accepted=True)
    headers = dict(refusal.headers())
    assert headers["x-should-retry"] == "false"
    assert "retry-after" not in headers
    assert "gen_1" in refusal.message


@pytest.mark.parametrize("code", CODES)
def test_the_body_is_openais_envelope(code: str) -> None:
    refusal = ProxyError(code, "Say what to do.", "messages[0]")
    assert json.loads(refusal.body()) == {
        "error": {
            "message": "Say what to do.",
            "type": CODES[code].type,
            "param": "messages[0]",
            "code": code,
        }
    }
    assert dict(refusal.headers())["content-type"] == "application/json"


def test_no_key_is_told_from_a_wrong_one() -> None:
    one, other = errors.invalid_api_key(), errors.invalid_api_key()
    assert one.body() == other.body()
    assert dict(one.headers())["www-authenticate"] == 'Bearer realm="clipmeter"'


def test_the_wait_is_the_limits_own() -> None:
    headers = dict(errors.rate_limit_exceeded("clips_in_flight", 2, 15).headers())
    assert headers["retry-after"] == "15"


def test_a_client_that_waits_for_a_clip_is_told_how_long() -> None:
    assert dict(errors.video_not_ready(5).headers())["openai-poll-after-ms"] == "5000"


def test_a_code_outside_the_table_cannot_be_made() -> None:
    with pytest.raises(KeyError):
        ProxyError("no_such_code", "…")


@given(st.text(max_size=300))
def test_what_a_caller_sent_comes_back_short_printable_and_in_the_body_only(word: str) -> None:
    refusal = errors.model_not_allowed(word)
    assert refusal.body().isascii()
    said = json.loads(refusal.body())["error"]["message"]
    assert said.isprintable()
    assert len(said) < 200
    for name, value in refusal.headers():
        assert f"{name}: {value}".isascii()
        assert f"{name}: {value}".isprintable()
