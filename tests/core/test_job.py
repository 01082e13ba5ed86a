"""Every reply shape of the wire facts, sections 4.3 to 4.6, and anything else, becomes a value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.failure import Reason
from proxy.core.job import WORDS_CHARS_MAX, Absent, Garbled, Job, JobState, read_job

CDN = "https://mycnd-hz.oss-cn-hangzhou.aliyuncs.com/flow/cd810292.mp4"
SELF = "https://api.apiyi.com/v1/videos/video_9c4e/content"
SIGNED = "https://storage.googleapis.com/ai-sandbox/video/1f?GoogleAccessId=x&Signature=a%2Fb%3D"
AUDIO = "PUBLIC_ERROR_AUDIO_FILTERED"


def read(value: Any, status: int = 200) -> Job | Absent | Garbled:
    return read_job(json.dumps(value).encode(), status)


def job(value: Any, status: int = 200) -> Job:
    found = read(value, status)
    assert isinstance(found, Job), found
    return found


DOCUMENTED_FAILURE = {
    "task_id": "video_6937",
    "object": "task",
    "task_type": "sora2_video_generation",
    "model_name": "veo-3.1-fl",
    "platform": "openai",
    "status": "failed",
    "progress": "100%",
    "fail_reason": AUDIO,
    "error": {"message": AUDIO, "type": "task_failed"},
    "data": {
        "id": "video_6937",
        "object": "video",
        "model": "veo-3.1-fl",
        "size": "720x1280",
        "status": "failed",
        "error": {"code": "", "message": AUDIO},
    },
}
CAPTURED_SUCCESS = {
    "completed_at": 1764173113,
    "created_at": 1764172941,
    "id": "video_9c4e",
    "model": "sora2_video_generation",
    "object": "video",
    "progress": 100,
    "result_url": CDN,
    "seconds": "4",
    "size": "720x1280",
    "status": "completed",
    "url": CDN,
    "video_url": CDN,
}


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        (
            {"id": "v1", "object": "video", "created": 1762181811, "status": "queued"},
            JobState.QUEUED,
        ),
        ({"id": "v1", "object": "task", "status": "submitted", "expires_at": 1}, JobState.QUEUED),
        (
            {"id": "v1", "status": "submitted", "progress": 0, "url": None, "completed_at": None},
            JobState.QUEUED,
        ),
        (
            {"id": "v1", "task_id": "v1", "status": "queued", "completed_at": 1775025090},
            JobState.QUEUED,
        ),
        ({"task_id": "v1", "status": "processing"}, JobState.IN_PROGRESS),
        ({"code": "success", "message": "", "data": {"task_id": "v1"}}, JobState.QUEUED),
        ({"code": "success", "message": "ok", "data": {"id": "v1"}}, JobState.QUEUED),
        ({"id": "v1", "message": "Task submitted"}, JobState.QUEUED),
        ({"data": {"id": "v1"}}, JobState.QUEUED),
        ({"data": {"data": {"task_id": "v1"}}}, JobState.QUEUED),
        ({"data": json.dumps({"id": "v1"})}, JobState.QUEUED),
        ({"id": 99, "task_id": "v1", "status": "NOT_START"}, JobState.QUEUED),
        ({"id": 99, "data": {"id": "v1"}, "status": "IN_PROGRESS"}, JobState.IN_PROGRESS),
    ],
    ids=repr,
)
@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_create_reply_of_any_shape_names_its_job(
    reply: dict[str, Any], state: JobState, status: int
) -> None:
    found = job(reply, status)
    assert (found.id, found.state) == ("v1", state)
    assert found.url is None
    assert not found.needs_content


def test_a_number_is_an_id_where_no_text_is() -> None:
    assert job({"id": 4711, "status": "queued"}).id == "4711"
    assert job({"id": True, "status": "queued"}).id is None


@pytest.mark.parametrize("bad", ["", "..", ".", "a b", "a\nb", "é", "x" * 201, {}, [], None])
def test_what_cannot_stand_in_a_path_is_no_id(bad: object) -> None:
    assert job({"id": bad, "status": "queued"}).id is None


@pytest.mark.parametrize(
    ("text", "state"),
    [
        *((text, JobState.QUEUED) for text in ("queued", "pending", "SUBMITTED", "Not_Start")),
        *((text, JobState.IN_PROGRESS) for text in ("processing", "in_progress", "In Progress")),
        *((text, JobState.IN_PROGRESS) for text in ("IN-PROGRESS", "running", "UNKNOWN", "🏃")),
        *((text, JobState.COMPLETED) for text in ("completed", " complete ", "SUCCESS")),
        *((text, JobState.COMPLETED) for text in ("succeeded", "Finished")),
        *((text, JobState.FAILED) for text in ("failed", "FAILURE", "fail", "error", "expired")),
        *((text, JobState.FAILED) for text in ("cancelled", "CANCELED")),
    ],
)
def test_a_status_is_read_in_any_case_and_an_unknown_one_is_running(
    text: str, state: JobState
) -> None:
    assert job({"id": "v1", "status": text}).state is state
    assert job({"task_id": "v1", "object": "task", "data": {"status": text}}).state is state


@pytest.mark.parametrize(
    ("outer", "inner", "state"),
    [
        ("failed", "processing", JobState.FAILED),  # the gateway's own time-out
        ("processing", "completed", JobState.IN_PROGRESS),
        ("success", "processing", JobState.IN_PROGRESS),  # success of the reply, not of the job
        ("success", "failed", JobState.FAILED),
        ("SUCCESS", "completed", JobState.COMPLETED),
        ("ok", "failed", JobState.FAILED),
        ("ok", "queued", JobState.QUEUED),
        (200, "queued", JobState.QUEUED),
    ],
)
def test_of_two_statuses_the_outer_counts_unless_it_may_mean_the_reply(
    outer: object, inner: str, state: JobState
) -> None:
    assert job({"id": "v1", "status": outer, "data": {"status": inner}}).state is state


def test_a_success_with_its_link_is_believed_whatever_stands_inside() -> None:
    found = job({"status": "SUCCESS", "result_url": CDN, "data": {"status": "processing"}})
    assert (found.state, found.url) == (JobState.COMPLETED, CDN)


def test_the_captured_success_has_its_link_and_all_of_its_progress() -> None:
    assert job(CAPTURED_SUCCESS) == Job("video_9c4e", JobState.COMPLETED, 100, CDN)


@pytest.mark.parametrize(
    "where",
    [
        *({name: SIGNED} for name in ("url", "video_url", "result_url")),
        *({"data": {name: SIGNED}} for name in ("url", "video_url", "result_url")),
        {"data": {"data": {"url": SIGNED}}},
        {"data": {"metadata": {"url": SIGNED}}},
        {"metadata": {"url": SIGNED}},
        {"output": {"video_url": SIGNED}},
        {"result": {"url": SIGNED}},
        {"url": None, "video_url": "", "result_url": SIGNED},
        {"url": "/v1/videos/v1/content", "data": {"url": SIGNED}},
        {"url": SELF, "result_url": f" {SIGNED}\n"},
        {"fail_reason": SIGNED},
        {"data": {"fail_reason": SIGNED}},
    ],
    ids=repr,
)
def test_a_link_is_found_wherever_it_stands(where: dict[str, Any]) -> None:
    found = job({"id": "v1", "status": "completed", **where})
    assert found.url == SIGNED
    assert not found.needs_content
    assert not found.words


@pytest.mark.parametrize(
    "link",
    [
        None,
        "",
        "/v1/videos/v1/content",
        "v1.mp4",
        SELF,
        SELF + "?variant=video",
        SELF + "#t=1",
        SELF + "/",
        "http://10.0.0.1/api/v1/videos/task_1/content",
        "ftp://host/v.mp4",
        "data:video/mp4;base64,AAAA",
        "https://host/a b.mp4",
        "https://host/" + "x" * 9_000,
        "https://host/\ud800",
        7,
        {"url": CDN},
    ],
)
def test_a_completed_job_without_a_free_link_needs_its_content(link: object) -> None:
    found = job({"id": "v1", "status": "completed", "url": link})
    assert found.needs_content
    assert found.url is None
    assert (found.state, found.percent) == (JobState.COMPLETED, 100)


def test_a_link_before_the_end_is_no_clip() -> None:
    found = job({"id": "v1", "status": "processing", "url": CDN})
    assert (found.state, found.url) == (JobState.IN_PROGRESS, None)
    assert job({"id": "v1", "status": "failed", "url": CDN}).url is None


@pytest.mark.parametrize("reply", [{"url": CDN}, {"video_url": CDN}, {"status": "🎬", "url": CDN}])
def test_a_link_without_a_known_status_is_a_clip(reply: dict[str, Any]) -> None:
    found = job(reply)
    assert (found.state, found.url) == (JobState.COMPLETED, CDN)


@pytest.mark.parametrize(
    ("reply", "words", "reason"),
    [
        (DOCUMENTED_FAILURE, AUDIO, Reason.POLICY_AUDIO),
        ({"error": "Content policy violation"}, "Content policy violation", Reason.POLICY_OTHER),
        ({"error": {"code": "heavy_load", "message": "busy"}}, "heavy_load busy", None),
        ({"error": "", "fail_reason": AUDIO}, AUDIO, Reason.POLICY_AUDIO),
        ({"error": {"message": "", "code": ""}, "fail_reason": AUDIO}, AUDIO, None),
        ({"fail_reason": CDN, "message": "服务内部异常"}, "服务内部异常", Reason.VENDOR_ERROR),
        ({"data": {"error": {"message": AUDIO}}}, AUDIO, Reason.POLICY_AUDIO),
        ({"data": {"data": {"fail_reason": AUDIO}}}, AUDIO, Reason.POLICY_AUDIO),
        ({"error": {"message": json.dumps({"error": {"message": AUDIO}})}}, AUDIO, None),
        ({"message": "insufficient quota"}, "insufficient quota", Reason.VENDOR_ACCOUNT),
        ({"error": ""}, "failed", Reason.VENDOR_ERROR),
        ({"error": {}}, "failed", Reason.VENDOR_ERROR),
        ({"error": [1]}, "failed", Reason.VENDOR_ERROR),
        ({"status": "EXPIRED", "error": None}, "expired", Reason.VENDOR_ERROR),
        ({"error": "a\x00b\ud800c"}, "ab?c", Reason.VENDOR_ERROR),
    ],
    ids=repr,
)
def test_a_failure_says_why_in_whatever_form(
    reply: dict[str, Any], words: str, reason: Reason | None
) -> None:
    found = job({"id": "v1", "status": "failed", **reply})
    assert found.state is JobState.FAILED
    assert found.words == words
    assert found.reason is not None
    assert reason in {found.reason, None}
    assert (found.url, found.needs_content, found.percent) == (None, False, 0)


def test_the_words_of_an_envelope_that_reports_its_own_success_are_no_reason() -> None:
    found = job(
        {
            "code": "success",
            "message": "fine",
            "data": {"task_id": "v1", "status": "FAILURE", "fail_reason": ""},
        }
    )
    assert (found.state, found.words) == (JobState.FAILED, "failure")


def test_words_are_kept_only_so_far() -> None:
    assert len(job({"status": "failed", "error": "x" * 99_999}).words) == WORDS_CHARS_MAX


@pytest.mark.parametrize(
    ("progress", "percent"),
    [
        (0, 0),
        (45, 45),
        (100, 100),
        (250, 100),
        (-3, 0),
        (10**400, 100),
        (45.9, 45),
        (0.45, 45),
        (0.29, 29),
        (1.0, 1),
        (1, 1),
        ("45%", 45),
        ("100%", 100),
        (" 45.9 % ", 45),
        ("0.45", 45),
        ("0.5%", 0),
        ("45", 45),
        ("-1%", 0),
        ("9" * 400, 0),
        ("half", 0),
        ("", 0),
        (None, 0),
        (True, 0),
        ([50], 0),
        (float("nan"), 0),
        (float("inf"), 100),
    ],
    ids=repr,
)
def test_progress_is_a_whole_percent_however_it_is_written(progress: object, percent: int) -> None:
    assert job({"id": "v1", "status": "processing", "progress": progress}).percent == percent
    assert job({"data": {"progress": progress, "status": "running"}}).percent == percent


def test_progress_counts_where_it_can_be_read() -> None:
    assert job({"status": "running", "progress": "?", "data": {"progress": "7%"}}).percent == 7
    assert job({"status": "running"}).percent == 0


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ({}, 404),
        ({"error": {"message": "Task not found"}}, 404),
        ({"code": "task_not_exist", "message": "task_not_exist", "data": None}, 400),
        ({"code": "task_not_exist", "message": "task_not_exist", "data": None}, 200),
        ({"error": {"code": "video_not_found", "message": "no such video"}}, 400),
        ({"error": {"code": "", "type": "video_not_found", "message": ""}}, 403),
        ({"error": {"message": "video_not_found: gone", "code": "invalid_request"}}, 500),
        ({"error": "video_not_found"}, 200),
        ({"detail": "VIDEO_NOT_FOUND"}, 400),
        ({"type": "video_not_found"}, 400),
        ({"data": {"error": {"code": "video_not_found"}}}, 200),
        (
            {
                "code": "fail_to_fetch_task",
                "message": json.dumps({"error": {"code": "video_not_found"}}),
                "data": None,
            },
            500,
        ),
    ],
    ids=repr,
)
def test_an_unknown_job_is_absent_however_it_is_said(reply: dict[str, Any], status: int) -> None:
    assert isinstance(read(reply, status), Absent)


@pytest.mark.parametrize("body", [b"", b"<html>404</html>", b"\xff\xfe", b"null"])
def test_a_404_is_absent_whatever_its_body(body: bytes) -> None:
    assert isinstance(read_job(body, 404), Absent)


def test_a_prompt_cannot_make_its_job_absent() -> None:
    found = job({"id": "v1", "status": "completed", "prompt": "video_not_found", "url": CDN})
    assert found.url == CDN


@pytest.mark.parametrize(
    ("reply", "status", "words"),
    [
        ({"error": {"message": "busy", "type": "x"}}, 200, "busy"),
        ({"error": {"message": "busy"}}, 503, "busy"),
        ({"error": {"message": "Task is not completed yet"}}, 400, "Task is not completed yet"),
        ({"detail": "nope"}, 200, "nope"),
        ({"id": "req_1", "error": {"message": "busy"}}, 200, "busy"),
        ({"id": "v1", "code": "fail_to_submit", "message": "no"}, 200, "fail_to_submit no"),
        ({"code": "success", "message": "", "data": None}, 200, ""),
        ({"choices": []}, 200, ""),
        ({}, 200, ""),
        (CAPTURED_SUCCESS, 500, ""),
        (CAPTURED_SUCCESS, 300, ""),
        (CAPTURED_SUCCESS, 199, ""),
    ],
    ids=repr,
)
def test_a_reply_that_tells_no_state_is_garbled_with_its_words(
    reply: dict[str, Any], status: int, words: str
) -> None:
    found = read(reply, status)
    assert isinstance(found, Garbled)
    assert found.words == words


@pytest.mark.parametrize(
    ("body", "job_id"),
    [
        (b'{"id":"video_9c4e","object":"vid', "video_9c4e"),
        (b' \n{"object":"video","task_id": "task_1",', "task_1"),
        (b'{"id":"video_9c', None),
        (b'{"id":"..", "x', None),
        (b'<script>{"id":"video_9c4e"}</script>', None),
        (b'[{"id":"video_9c4e"}]', None),
        (b"Bad Gateway", None),
        (b"", None),
    ],
)
def test_an_accepted_job_is_still_named_by_a_reply_that_broke_off(
    body: bytes, job_id: str | None
) -> None:
    found = read_job(body, 200)
    assert isinstance(found, Garbled)
    assert found.id == job_id


def test_json_of_a_careless_writer_is_read() -> None:
    body = b'\xef\xbb\xbf{"id":"v1","status":"queued","prompt":"\\ud83d","x":NaN,"y":"a\nb"}'
    found = read_job(body, 200)
    assert isinstance(found, Job)
    assert found.id == "v1"


@given(st.binary(max_size=200), st.integers(100, 599))
def test_any_bytes_under_any_status_are_a_value(body: bytes, status: int) -> None:
    assert isinstance(read_job(body, status), Job | Absent | Garbled)


_SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["completed", "failed", "SUCCESS", "v1", CDN, SELF, "45%", "{}", AUDIO]),
)
_KEYS = st.sampled_from(
    [
        *("id", "task_id", "status", "data", "progress", "error", "code", "type", "message"),
        *("detail", "fail_reason", "url", "video_url", "result_url", "metadata", "output"),
        "result",
    ]
)
_ANY = st.recursive(
    _SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=6),
    max_leaves=12,
)


@given(st.dictionaries(_KEYS, _ANY, max_size=8), st.sampled_from([200, 202, 400, 500]))
def test_any_mixture_of_the_known_fields_keeps_the_promises_of_a_job(
    reply: dict[str, Any], status: int
) -> None:
    found = read(reply, status)
    if not isinstance(found, Job):
        return
    assert 200 <= status < 300
    assert 0 <= found.percent <= 100
    completed = found.state is JobState.COMPLETED
    assert found.needs_content is (completed and found.url is None)
    assert found.url is None or (completed and found.url.startswith("https://"))
    assert (found.reason is not None) is (found.state is JobState.FAILED)
    assert "\x00" not in found.words
    assert found.words.encode() is not None


def test_a_reply_nested_beyond_reason_is_read_no_further() -> None:
    deep: Any = {"id": "v1", "status": "queued"}
    for _ in range(10):
        deep = {"data": deep}
    assert isinstance(read(deep), Garbled)
    assert isinstance(read_job(b'{"data":' * 5_000, 200), Garbled)
