"""What a caller sees of a clip is a `Video` that OpenAI's own SDK accepts."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Video as OpenAIVideo

from proxy.core.catalog import Catalog, Model
from proxy.core.clip import FINAL, UNSETTLED, State
from proxy.core.failure import Reason
from proxy.core.job import JobState
from proxy.core.video import (
    Video,
    deleted_json,
    list_json,
    model_of,
    poll_after_ms,
    status_of,
    video_json,
)

START = datetime(2026, 11, 22, 12, 0, 0, 900_000, UTC)
QUEUED = Video(
    id="video_a",
    state=State.QUEUED,
    model="veo-3.1",
    size="720x1280",
    seconds=8,
    accepted_at=START,
    generation="gen_a",
)
DELIVERED = replace(
    QUEUED,
    state=State.DELIVERED,
    percent=45,
    ended_at=START + timedelta(seconds=90),
    expires_at=START + timedelta(days=30),
    prompt="a cat",
    url="https://clips.example/c/video_a?sig=x",
    gateway="api",
    attempts=2,
    cost_micros=250_000,
)


def test_a_delivered_clip_is_a_completed_video_in_full() -> None:
    assert video_json(DELIVERED) == {
        "id": "video_a",
        "object": "video",
        "model": "veo-3.1",
        "status": "completed",
        "progress": 100,
        "created_at": 1795348800,
        "completed_at": 1795348890,
        "expires_at": 1797940800,
        "prompt": "a cat",
        "seconds": "8",
        "size": "720x1280",
        "quality": "standard",
        "remixed_from_video_id": None,
        "error": None,
        "url": "https://clips.example/c/video_a?sig=x",
        "clipmeter": {
            "generation": "gen_a",
            "gateway": "api",
            "attempts": 2,
            "outcome": "delivered",
            "cost_usd": "0.25",
        },
    }


def test_a_clip_that_has_just_been_accepted_knows_little_and_says_null() -> None:
    video = video_json(QUEUED)
    assert video["progress"] == 0
    unknown = ("completed_at", "expires_at", "prompt", "error", "url", "remixed_from_video_id")
    assert [video[name] for name in unknown] == [None] * len(unknown)
    assert video["clipmeter"] == {
        "generation": "gen_a",
        "gateway": None,
        "attempts": 0,
        "outcome": "queued",
        "cost_usd": None,
    }


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (State.ACCEPTED, "queued"),
        (State.QUEUED, "queued"),
        (State.GENERATING, "in_progress"),
        (State.IN_PROGRESS, "in_progress"),
        (State.UNKNOWN, "in_progress"),
        (State.DELIVERED, "completed"),
        (State.REPLAYED, "completed"),
        (State.FAILED, "failed"),
        (State.WRITTEN_OFF, "failed"),
    ],
)
def test_each_state_of_a_clip_is_one_of_openais(state: State, status: str) -> None:
    assert status_of(state) == status
    assert video_json(replace(QUEUED, state=state))["status"] == status


def test_the_sdk_waits_exactly_as_long_as_a_clip_is_unsettled() -> None:
    waited = {state for state in State if status_of(state) in {"queued", "in_progress"}}
    assert waited == UNSETTLED
    assert all(status_of(state) in {JobState.COMPLETED, JobState.FAILED} for state in FINAL)


@given(
    st.builds(
        Video,
        id=st.text(min_size=1),
        state=st.sampled_from(State),
        model=st.text(min_size=1),
        size=st.sampled_from(["720x1280", "1280x720"]),
        seconds=st.integers(1, 60),
        accepted_at=st.datetimes(timezones=st.just(UTC)),
        generation=st.text(),
        percent=st.integers(),
        ended_at=st.none() | st.datetimes(timezones=st.just(UTC)),
        reason=st.none() | st.sampled_from(Reason),
        words=st.text(),
        cost_micros=st.none() | st.integers(0, 10**9),
    )
)
def test_every_video_is_one_for_the_sdk(video: Video) -> None:
    answered = video_json(video)
    parsed = OpenAIVideo.model_validate(answered, strict=True)
    assert 0 <= parsed.progress <= 100
    assert (parsed.progress == 100) is (parsed.status == "completed")
    assert (parsed.error is not None) is (parsed.status == "failed")
    assert json.loads(json.dumps(answered)) == answered


def test_a_finished_looking_job_is_not_finished_before_its_clip_is_in_hand() -> None:
    assert video_json(replace(QUEUED, state=State.IN_PROGRESS, percent=100))["progress"] == 99


@pytest.mark.parametrize("reason", Reason)
def test_every_failure_says_what_to_do_and_that_it_is_free(reason: Reason) -> None:
    error = video_json(replace(QUEUED, state=State.FAILED, reason=reason))["error"]
    assert isinstance(error, dict)
    assert error["code"] == reason.value
    assert error["message"].endswith("It is not charged.")
    assert len(error["message"]) > 40


def test_the_vendors_code_stands_first_because_clients_look_for_it() -> None:
    words = "PUBLIC_ERROR_AUDIO_FILTERED"
    failed = replace(QUEUED, state=State.FAILED, reason=Reason.POLICY_AUDIO, words=words)
    error = video_json(failed)["error"]
    assert isinstance(error, dict)
    assert error["message"].startswith("PUBLIC_ERROR_AUDIO_FILTERED. ")


def test_the_vendors_words_about_our_account_never_reach_a_team() -> None:
    words = "user [25359] quota [50264897] is not enough"
    failed = replace(QUEUED, state=State.FAILED, reason=Reason.VENDOR_ACCOUNT, words=words)
    error = video_json(failed)["error"]
    assert isinstance(error, dict)
    assert "quota" not in error["message"]
    assert "operator" in error["message"]


def test_a_clip_given_up_says_that_it_is_lost_whatever_was_said_before() -> None:
    lost = replace(QUEUED, state=State.WRITTEN_OFF, reason=Reason.VENDOR_ERROR, words="502")
    error = video_json(lost)["error"]
    assert isinstance(error, dict)
    assert error["code"] == "lost"
    assert "502" not in error["message"]


def test_long_words_are_one_line_and_not_too_much_of_it() -> None:
    words = "a\nb  c." + "x" * 10_000
    failed = replace(QUEUED, state=State.FAILED, reason=Reason.VENDOR_ERROR, words=words)
    error = video_json(failed)["error"]
    assert isinstance(error, dict)
    assert error["message"].startswith("a b c.x")
    assert len(error["message"]) < 700


def test_a_page_names_its_first_and_last() -> None:
    other = replace(QUEUED, id="video_b")
    page = list_json([DELIVERED, other], has_more=True)
    assert page["data"] == [video_json(DELIVERED), video_json(other)]
    assert (page["object"], page["first_id"], page["last_id"], page["has_more"]) == (
        "list",
        "video_a",
        "video_b",
        True,
    )


def test_an_empty_page_names_nobody() -> None:
    page = list_json([], has_more=False)
    assert page == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


def test_a_deleted_video_is_told_as_openai_does() -> None:
    assert deleted_json("video_a") == {"id": "video_a", "object": "video.deleted", "deleted": True}


@pytest.mark.parametrize(
    ("model", "age", "milliseconds"),
    [
        ("veo-3.1-fast", 0, 5_000),
        ("veo-3.1-landscape-fast-fl", 100, 5_000),
        ("veo-3.1", 0, 10_000),
        ("veo-3.1-landscape", 406, 10_000),
        ("veo-3.1-fast", 407, 15_000),
        ("no longer sold", 10**6, 15_000),
    ],
)
def test_a_caller_asks_again_no_sooner_than_there_can_be_news(
    model: str, age: float, milliseconds: int
) -> None:
    assert poll_after_ms(model, age, 5) == milliseconds


def test_the_pace_follows_the_followers() -> None:
    assert poll_after_ms("veo-3.1-fast", 0, 0.25) == 250


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("veo-3.1-landscape-fl", "1280x720"),
        ("veo-3.1-fast", "720x1280"),
        ("veo-2-landscape", "1280x720"),
        ("veo-2", "720x1280"),
    ],
)
def test_a_model_makes_what_its_name_says_even_when_it_is_sold_no_more(
    name: str, size: str
) -> None:
    model = model_of(name, Catalog.documented())
    assert (model.name, model.size, model.seconds) == (name, size, 8)


def test_a_model_of_the_catalogue_is_what_the_catalogue_says() -> None:
    tall = Model("veo-3.1-4k", "2160x3840", 6, images_min=0, images_max=0)
    assert model_of("veo-3.1-4k", Catalog.documented().with_models([tall])) is tall
