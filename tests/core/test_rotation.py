from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.refusal import Kind, Refusal, read_refusal
from proxy.core.rotation import (
    Answered,
    BreakerLimits,
    Fleet,
    Outcome,
    Relay,
    RotateOn,
    Silent,
    Step,
    Try,
    Unanswered,
    Unavailable,
    Unreachable,
    answered,
    begin_probe,
    end_probe,
    maybe_bought,
    next_step,
    observe,
    plan,
    probe_due,
    rotates,
    state,
)

NAMES: Final = ("api", "vip", "b")
LIMITS: Final = BreakerLimits(faults=5, pause_seconds=30, pause_seconds_max=300, jitter_ratio=0.2)

OK: Final = Answered(200)
BAD_REQUEST: Final = Answered(400, Kind.BAD_REQUEST)
ERROR: Final = Answered(500, Kind.SERVER)
NO_CHANNEL: Final = Answered(503, Kind.NO_CHANNEL)
MAYBE: Final = Answered(504, Kind.SERVER, maybe_accepted=True)
TIMEOUT_408: Final = Answered(408, Kind.OTHER, maybe_accepted=True)
RATE: Final = Answered(429, Kind.RATE, retry_after_seconds=7)
REFUSED: Final = Unreachable("refused")
RESET: Final = Silent("reset")

FIVES: Final[RotateOn] = ("5xx",)
CAREFUL: Final[RotateOn] = (500, 502, 503)


def after(*outcomes: Outcome) -> list[tuple[str, Outcome]]:
    return list(zip(NAMES, outcomes, strict=False))


@pytest.mark.parametrize(
    ("outcomes", "rotate_on", "step"),
    [
        # Nothing tried yet.
        ((), FIVES, Try("api")),
        # A complete answer ends it, whatever it says.
        ((OK,), FIVES, Relay(0)),
        ((BAD_REQUEST,), FIVES, Relay(0)),
        ((RATE,), FIVES, Relay(0)),
        ((Answered(403, Kind.POLICY),), FIVES, Relay(0)),
        ((Answered(302),), FIVES, Relay(0)),
        # What was not sent, and what was refused by a 5xx, goes to the next gateway.
        ((REFUSED,), FIVES, Try("vip")),
        ((ERROR,), FIVES, Try("vip")),
        ((NO_CHANNEL,), FIVES, Try("vip")),
        ((MAYBE,), FIVES, Try("vip")),
        ((ERROR, REFUSED), FIVES, Try("b")),
        ((ERROR, OK), FIVES, Relay(1)),
        ((ERROR, BAD_REQUEST), FIVES, Relay(1)),
        # What was sent and not answered goes nowhere.
        ((RESET,), FIVES, Unanswered("reset")),
        ((ERROR, RESET), FIVES, Unanswered("reset")),
        ((REFUSED, RESET), FIVES, Unanswered("reset")),
        ((TIMEOUT_408,), FIVES, Unanswered("maybe_accepted")),
        # The end of the fleet: the last real answer, or none.
        ((ERROR, ERROR, NO_CHANNEL), FIVES, Relay(2)),
        ((ERROR, MAYBE, REFUSED), FIVES, Relay(1)),
        ((REFUSED, REFUSED, ERROR), FIVES, Relay(2)),
        ((ERROR, REFUSED, REFUSED), FIVES, Relay(0)),
        ((REFUSED, REFUSED, REFUSED), FIVES, Unavailable()),
        # The careful setting rotates on what it names.
        ((ERROR,), CAREFUL, Try("vip")),
        ((MAYBE,), CAREFUL, Unanswered("maybe_accepted")),
        ((Answered(501, Kind.SERVER),), CAREFUL, Relay(0)),
        ((Answered(500, Kind.SERVER, maybe_accepted=True),), CAREFUL, Try("vip")),
        ((REFUSED,), (), Try("vip")),
        ((ERROR,), (), Relay(0)),
        ((RATE,), (429,), Try("vip")),
    ],
)
def test_each_history_has_its_next_step(
    outcomes: Sequence[Outcome], rotate_on: RotateOn, step: Step
) -> None:
    assert next_step(NAMES, after(*outcomes), rotate_on, 100.0) == step


@pytest.mark.parametrize(
    ("outcomes", "step"),
    [
        ((), Unavailable()),
        ((REFUSED,), Unavailable()),
        ((ERROR,), Relay(0)),
        ((ERROR, REFUSED), Relay(0)),
        ((OK,), Relay(0)),
        ((RESET,), Unanswered("reset")),
    ],
)
def test_no_attempt_begins_when_time_is_up(outcomes: Sequence[Outcome], step: Step) -> None:
    assert next_step(NAMES, after(*outcomes), FIVES, 0.0) == step


OUTCOMES = st.one_of(
    st.builds(
        Answered,
        st.integers(min_value=200, max_value=599),
        st.none() | st.sampled_from(Kind),
        st.booleans(),
    ),
    st.builds(Unreachable, st.just("x")),
    st.builds(Silent, st.just("x")),
)


@given(st.permutations(NAMES), st.lists(OUTCOMES, min_size=3, max_size=3), st.booleans())
def test_a_request_goes_once_through_a_gateway_and_never_on_after_silence(
    order: list[str], outcomes: list[Outcome], careful: bool
) -> None:
    rotate_on = CAREFUL if careful else FIVES
    tried: list[tuple[str, Outcome]] = []
    while isinstance(step := next_step(order, tried, rotate_on, 1.0), Try):
        assert step.name not in [name for name, _ in tried]
        assert not any(isinstance(outcome, Silent) for _, outcome in tried)
        tried.append((step.name, outcomes[len(tried)]))
    assert [name for name, _ in tried] == order[: len(tried)]
    if isinstance(step, Relay):
        assert isinstance(tried[step.index][1], Answered)
        assert all(isinstance(outcome, Unreachable) for _, outcome in tried[step.index + 1 :])
    if isinstance(step, Unavailable):
        assert len(tried) == 3
        assert maybe_bought(tried) == 0


@pytest.mark.parametrize(
    ("status", "rotate_on", "expected"),
    [
        (500, FIVES, True),
        (599, FIVES, True),
        (499, FIVES, False),
        (600, FIVES, False),
        (502, CAREFUL, True),
        (504, CAREFUL, False),
        (502, frozenset({502}), True),
        (200, (200,), False),
    ],
)
def test_rotation_is_by_status(status: int, rotate_on: RotateOn, expected: bool) -> None:
    assert rotates(status, rotate_on) is expected


KNOWN = Refusal(Kind.SERVER, "", "bad_response_status_code", recognised=True)
UNKNOWN = Refusal(Kind.SERVER, "Bad Gateway", "", recognised=False)


@pytest.mark.parametrize(
    ("status", "refusal", "maybe"),
    [
        (200, None, False),
        (400, UNKNOWN, False),
        (403, UNKNOWN, False),
        (500, KNOWN, False),
        (502, KNOWN, False),
        (503, KNOWN, False),
        (500, UNKNOWN, True),
        (502, UNKNOWN, True),
        (502, None, True),
        (504, KNOWN, True),
        (520, KNOWN, True),
        (524, KNOWN, True),
        (525, KNOWN, False),
        (408, KNOWN, True),
        (499, KNOWN, True),
    ],
)
def test_an_answer_may_hide_a_running_job(
    status: int, refusal: Refusal | None, maybe: bool
) -> None:
    outcome = answered(status, refusal, 7)
    assert outcome.maybe_accepted is maybe
    assert outcome.retry_after_seconds == 7
    assert outcome.refusal == (refusal.kind if refusal else None)


def test_a_page_of_a_cdn_may_hide_a_running_job_and_an_envelope_does_not() -> None:
    page = read_refusal(502, "text/html", b"<html><title>502 Bad Gateway</title></html>")
    envelope = read_refusal(
        502,
        "application/json",
        b'{"error":{"message":"","type":"shell_api_error","code":"bad_response_status_code"}}',
    )
    assert answered(502, page).maybe_accepted
    assert not answered(502, envelope).maybe_accepted


def test_every_attempt_that_may_have_been_accepted_is_counted() -> None:
    assert maybe_bought(after()) == 0
    assert maybe_bought(after(REFUSED, ERROR, OK)) == 0
    assert maybe_bought(after(MAYBE, MAYBE, OK)) == 2
    assert maybe_bought(after(MAYBE, REFUSED, RESET)) == 2


# Health.


def faulty(fleet: Fleet, name: str, times: int, now: float, jitter: float = 0.0) -> Fleet:
    for _ in range(times):
        fleet = observe(fleet, name, RESET, now, jitter, LIMITS)
    return fleet


def states(fleet: Fleet, now: float) -> list[str]:
    return [state(health, now) for health in fleet.gateways]


@pytest.mark.parametrize(
    ("outcome", "opens"),
    [
        (REFUSED, True),
        (RESET, True),
        (ERROR, True),
        (MAYBE, True),
        (Answered(502, Kind.OTHER), True),
        (Answered(502), True),
        (OK, False),
        (BAD_REQUEST, False),
        (RATE, False),
        (TIMEOUT_408, False),
        (Answered(401, Kind.AUTH), False),
        (Answered(403, Kind.BALANCE), False),
        (NO_CHANNEL, False),
        (Answered(500, Kind.POLICY), False),
        (Answered(500, Kind.BALANCE), False),
        (Answered(503, Kind.RATE), False),
    ],
)
def test_five_faults_of_the_host_open_its_breaker_and_refusals_do_not(
    outcome: Outcome, opens: bool
) -> None:
    fleet = Fleet.of(NAMES)
    for count in range(1, 6):
        assert states(fleet, 0) == ["closed"] * 3, f"before outcome {count}"
        fleet = observe(fleet, "vip", outcome, 0, 0.0, LIMITS)
    assert states(fleet, 0) == ["closed", "open" if opens else "closed", "closed"]


@pytest.mark.parametrize(
    ("between", "opens"), [(OK, False), (BAD_REQUEST, False), (NO_CHANNEL, True)]
)
def test_faults_count_in_a_row(between: Outcome, opens: bool) -> None:
    fleet = faulty(Fleet.of(NAMES), "api", 4, 0)
    fleet = observe(fleet, "api", between, 0, 0.0, LIMITS)
    fleet = faulty(fleet, "api", 1, 0)
    assert (states(fleet, 0)[0] == "open") is opens


def test_a_paused_gateway_is_tried_last_and_a_doubtful_one_before_it() -> None:
    fleet = faulty(Fleet.of(NAMES), "api", 5, now=0)
    assert plan(fleet, 0) == ("vip", "b", "api")
    fleet = faulty(fleet, "vip", 5, now=20)
    assert plan(fleet, 20) == ("b", "api", "vip")
    assert states(fleet, 35) == ["half_open", "open", "closed"]
    assert plan(fleet, 35) == ("b", "api", "vip")
    assert plan(fleet, 1000) == ("b", "api", "vip")


def test_when_all_are_bad_all_are_tried_as_configured() -> None:
    fleet = Fleet.of(NAMES)
    for name in reversed(NAMES):
        fleet = faulty(fleet, name, 5, now=0)
    assert states(fleet, 1) == ["open"] * 3
    assert plan(fleet, 1) == NAMES


def test_pauses_grow_to_their_bound_and_end_by_a_probe() -> None:
    fleet = faulty(Fleet.of(NAMES), "api", 5, now=0)
    now, pauses = 0.0, []
    for _ in range(12):
        until = fleet.gateways[0].paused_until
        assert until is not None
        pauses.append(until - now)
        assert probe_due(fleet, until - 0.001) == ()
        now = until
        assert probe_due(fleet, now) == ("api",)
        fleet = end_probe(begin_probe(fleet, "api"), "api", False, now, 0.0, LIMITS)
    assert pauses == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]
    fleet = end_probe(begin_probe(fleet, "api"), "api", True, now, 0.0, LIMITS)
    assert fleet == Fleet.of(NAMES)


def test_only_one_probe_is_due_at_a_time() -> None:
    fleet = faulty(Fleet.of(NAMES), "api", 5, now=0)
    fleet = begin_probe(fleet, "api")
    assert probe_due(fleet, 100) == ()
    fleet = end_probe(fleet, "api", False, 100, 0.0, LIMITS)
    assert probe_due(fleet, 159) == ()
    assert probe_due(fleet, 160) == ("api",)


@pytest.mark.parametrize(
    ("jitter", "pause"), [(-1.0, 24), (0.0, 30), (0.5, 33), (1.0, 36), (9.0, 36), (-9.0, 24)]
)
def test_a_pause_strays_by_a_fifth_at_most(jitter: float, pause: float) -> None:
    fleet = faulty(Fleet.of(NAMES), "api", 5, now=100, jitter=jitter)
    assert fleet.gateways[0].paused_until == pytest.approx(100 + pause)


def test_faults_of_requests_that_were_under_way_do_not_stretch_a_pause() -> None:
    fleet = faulty(Fleet.of(NAMES), "api", 5, now=0)
    assert faulty(fleet, "api", 50, now=10) == fleet


def test_one_fault_after_the_pause_begins_a_longer_one() -> None:
    fleet = faulty(Fleet.of(NAMES), "api", 5, now=0)
    fleet = faulty(fleet, "api", 1, now=40)
    assert fleet.gateways[0].paused_until == 100


@pytest.mark.parametrize("now", [10, 40])
def test_an_answer_brings_a_gateway_back_at_once(now: float) -> None:
    fleet = faulty(Fleet.of(NAMES), "api", 5, now=0)
    assert observe(fleet, "api", OK, now, 0.0, LIMITS) == Fleet.of(NAMES)


def test_a_probe_that_fails_after_a_success_changes_nothing() -> None:
    fleet = begin_probe(faulty(Fleet.of(NAMES), "api", 5, now=0), "api")
    fleet = observe(fleet, "api", OK, 40, 0.0, LIMITS)
    fleet = end_probe(fleet, "api", False, 41, 0.0, LIMITS)
    assert fleet == Fleet.of(NAMES)


def test_a_gateway_that_is_not_in_the_fleet_is_an_error() -> None:
    with pytest.raises(KeyError, match="elsewhere"):
        observe(Fleet.of(NAMES), "elsewhere", RESET, 0, 0.0, LIMITS)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(NAMES),
            OUTCOMES,
            st.floats(min_value=0, max_value=200),
            st.floats(min_value=-1, max_value=1),
        ),
        max_size=60,
    )
)
def test_every_gateway_is_always_in_the_plan_with_the_well_ones_first(
    news: list[tuple[str, Outcome, float, float]],
) -> None:
    fleet, now = Fleet.of(NAMES), 0.0
    for name, outcome, passed, jitter in news:
        now += passed
        fleet = observe(fleet, name, outcome, now, jitter, LIMITS)
        order = plan(fleet, now)
        assert sorted(order) == sorted(NAMES)
        rank = {"closed": 0, "half_open": 1, "open": 2}
        by_name = {health.name: health for health in fleet.gateways}
        ranks = [rank[state(by_name[one], now)] for one in order]
        assert ranks == sorted(ranks)
        for health in fleet.gateways:
            assert health.paused_until is None or health.paused_until - now <= 360
