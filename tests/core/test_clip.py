"""The life of a clip: the architecture's table, no more and no less, and ends that stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.clip import (
    FINAL,
    OPEN,
    UNSETTLED,
    Delivered,
    Event,
    Failed,
    Found,
    GaveUp,
    Impossible,
    Lost,
    Opened,
    Progressed,
    Queued,
    Refused,
    State,
    advance,
)
from proxy.core.failure import Reason

DELIVERED = Delivered("https://cdn.example/clip.mp4")
FAILED = Failed(Reason.POLICY_AUDIO)
LOST = Lost(Reason.LOST)
REFUSED = Refused(Reason.VENDOR_CAPACITY)
PROGRESSED = Progressed(40.0)

EVENTS: tuple[Event, ...] = (
    Opened(),
    Queued(),
    REFUSED,
    PROGRESSED,
    DELIVERED,
    FAILED,
    LOST,
    Found(PROGRESSED),
    Found(DELIVERED),
    Found(FAILED),
    GaveUp(),
)

RUNNING: dict[Event, State] = {
    PROGRESSED: State.IN_PROGRESS,
    DELIVERED: State.DELIVERED,
    FAILED: State.FAILED,
    LOST: State.UNKNOWN,
}

TABLE: dict[State, dict[Event, State]] = {
    State.ACCEPTED: {
        Opened(): State.GENERATING,
        Queued(): State.QUEUED,
        REFUSED: State.FAILED,
        LOST: State.UNKNOWN,
    },
    State.GENERATING: RUNNING,
    State.QUEUED: RUNNING,
    State.IN_PROGRESS: RUNNING,
    State.UNKNOWN: {
        Found(PROGRESSED): State.IN_PROGRESS,
        Found(DELIVERED): State.DELIVERED,
        Found(FAILED): State.FAILED,
        GaveUp(): State.WRITTEN_OFF,
    },
    State.DELIVERED: {},
    State.FAILED: {},
    State.WRITTEN_OFF: {},
    State.REPLAYED: {},
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", EVENTS, ids=repr)
def test_every_state_takes_exactly_the_steps_of_the_table(state: State, event: Event) -> None:
    assert advance(state, event) == TABLE[state].get(event, Impossible(state, event))


def test_every_state_is_either_unsettled_or_final() -> None:
    assert frozenset(State) == UNSETTLED | FINAL
    assert not UNSETTLED & FINAL
    assert UNSETTLED - {State.UNKNOWN} == OPEN


@given(st.sampled_from(sorted(UNSETTLED)), st.lists(st.sampled_from(EVENTS), max_size=12))
def test_an_end_is_never_left_again_whatever_comes(start: State, events: list[Event]) -> None:
    state, ended = start, None
    for event in events:
        following = advance(state, event)
        state = state if isinstance(following, Impossible) else following
        ended = ended or (state if state in FINAL else None)
        assert ended in {None, state}


@given(st.sampled_from(sorted(State)))
def test_only_an_unknown_clip_can_be_written_off(state: State) -> None:
    assert (advance(state, GaveUp()) is State.WRITTEN_OFF) == (state is State.UNKNOWN)


def test_a_clip_that_is_lost_can_still_be_found_and_paid() -> None:
    lost = advance(State.GENERATING, LOST)
    assert lost is State.UNKNOWN
    assert advance(lost, Found(DELIVERED)) is State.DELIVERED
