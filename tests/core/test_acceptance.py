"""An answer to a new job is accepted, over or untold, and never more than it says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import clip
from proxy.core.acceptance import Accepted, Over, Untold, read_acceptance
from proxy.core.failure import Reason
from proxy.core.refusal import Kind

JSON = "application/json"
LINK = "https://cdn.example/clip.mp4"
ERROR = {"message": "quota is not enough", "code": "insufficient_user_quota"}


def read(value: Any, status: int = 200) -> Accepted | Over | Untold:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return read_acceptance(status, JSON, body)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ({"id": "v1", "status": "queued"}, Accepted("v1")),
        ({"id": "v1"}, Accepted("v1")),
        ({"task_id": "v1", "status": "SUBMITTED"}, Accepted("v1")),
        ({"code": "success", "data": {"task_id": "v1"}}, Accepted("v1")),
        ({"id": 4711, "status": "queued"}, Accepted("4711")),
        ({"id": "v1", "status": "processing", "progress": "45%"}, Accepted("v1", True, 45)),
        ({"id": "v1", "status": "what is this"}, Accepted("v1", True)),
        ({"id": "v1", "status": "completed"}, Accepted("v1", True, 100)),
        (b'{"id":"v1","object":"vid', Accepted("v1")),
        (b'{"id":"v1"} and more', Accepted("v1")),
        ({"id": "v1", "error": {"message": "busy"}}, Accepted("v1")),
    ],
    ids=repr,
)
@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_job_with_a_name_that_has_not_ended_is_accepted(
    reply: Any, expected: Accepted, status: int
) -> None:
    assert read(reply, status) == expected


@pytest.mark.parametrize("job_id", ["v1", None])
def test_a_link_is_a_delivery_and_a_failure_a_failure_whatever_the_job_is_called(
    job_id: str | None,
) -> None:
    named = {"id": job_id} if job_id else {}
    done = read({**named, "status": "completed", "url": LINK})
    assert done == Over(clip.Delivered(LINK), job_id)
    failed = read({**named, "status": "failed", "error": "PUBLIC_ERROR_UNSAFE_GENERATION"})
    policy = clip.Failed(Reason.POLICY_OTHER)
    assert failed == Over(policy, job_id, "PUBLIC_ERROR_UNSAFE_GENERATION")


def test_an_error_under_a_status_of_success_is_a_failure_that_may_be_billed() -> None:
    over = read({"error": ERROR})
    assert isinstance(over, Over)
    assert (over.news, over.id) == (clip.Failed(Reason.VENDOR_ACCOUNT), None)
    assert over.words == "insufficient_user_quota quota is not enough"
    assert over.refusal is not None
    assert over.refusal.kind is Kind.BALANCE


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ({"status": "queued"}, ""),
        ({"status": "completed"}, ""),
        ({"id": "..", "status": "queued"}, ""),
        ({"message": "one moment"}, "one moment"),
        ({"error": ""}, ""),
        ({"error": {"code": "video_not_found", "message": "gone"}}, "video_not_found gone"),
        (b"<!doctype html>", "<!doctype html>"),
        (b'{"object":"video","id":"v', '{"object":"video","id":"v'),
        (b'{"error":{"message":"quo', '{"error":{"message":"quo'),
        (b"[]", "[]"),
        (b"null", "null"),
        (b"", ""),
    ],
    ids=repr,
)
def test_without_name_link_or_error_nobody_can_say(reply: Any, words: str) -> None:
    assert read(reply) == Untold(words)


@given(st.binary(max_size=300) | st.from_regex(rb'\{"(id|error|status)": ?"[a-z]*"\}'))
def test_any_bytes_have_a_meaning(body: bytes) -> None:
    assert isinstance(read(body), Accepted | Over | Untold)
