from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.failure import Reason
from proxy.core.job import Absent, Garbled, Job, JobState
from proxy.core.pursuit import (
    CONTENT_SECONDS,
    CONTENT_TRIES,
    GONE_AGE_SECONDS_MIN,
    HOMEWARD,
    Decision,
    Deliver,
    Fail,
    FetchContent,
    Gone,
    Met,
    NotReady,
    Pace,
    Pursuit,
    Wait,
    after,
    begin,
    whom,
)
from proxy.core.refusal import Kind
from proxy.core.rotation import Answered, Silent, Unreachable

NAMES: Final = ("api", "vip", "b")
PACE: Final = Pace(poll_seconds=5, pause_seconds_max=60, give_up_seconds=24 * 3600)
LINK: Final = "https://cdn.test/flow/1.mp4"

QUEUED: Final = Job("j", JobState.QUEUED)
RUNNING: Final = Job("j", JobState.IN_PROGRESS, 40)
COMPLETED: Final = Job("j", JobState.COMPLETED, 100, needs_content=True)
LINKED: Final = Job("j", JobState.COMPLETED, 100, LINK)
FAILED: Final = Job("j", JobState.FAILED, words="PUBLIC_ERROR_X", reason=Reason.POLICY_OTHER)
BROKEN: Final = Answered(502, Kind.SERVER)
RATE: Final = Answered(429, Kind.RATE, retry_after_seconds=20)

TROUBLES: Final[tuple[Met, ...]] = (
    Garbled("<html>"),
    Silent("timeout"),
    Unreachable("refused"),
    BROKEN,
    Answered(503, Kind.NO_CHANNEL),
    Answered(400, Kind.BAD_REQUEST),
    Answered(401, Kind.AUTH),
    Answered(403, Kind.BALANCE),
    Answered(403, Kind.GROUP),
    Answered(429, Kind.RATE),
)


def job(age: float = 120, **known: int | bool) -> Chase:
    return Chase(begin("api", NAMES, **known), age)  # type: ignore[arg-type]


class Chase:
    """A job, asked whatever and wherever `whom` says, at one age."""

    def __init__(self, pursuit: Pursuit, age: float) -> None:
        self.pursuit, self.age = pursuit, age
        self.asked: list[str] = []

    def meets(self, *mets: Met, share: float = 0.0, unwell: Sequence[str] = ()) -> Decision:
        """The decision after the last of `mets`."""
        decision: Decision = Wait(0)
        for met in mets:
            name = whom(self.pursuit, unwell)
            self.asked.append(name)
            self.pursuit, decision = after(self.pursuit, name, met, self.age, share, PACE)
        return decision

    def waits(self, *mets: Met) -> list[float]:
        """How long it waits after each."""
        return [each.seconds for met in mets if isinstance(each := self.meets(met), Wait)]


def test_a_healthy_job_is_asked_for_at_the_gateway_that_made_it_once_an_interval() -> None:
    chase = job()
    assert chase.waits(QUEUED, RUNNING, RUNNING) == [5, 5, 5]
    assert chase.asked == ["api"] * 3
    assert whom(begin("vip", NAMES)) == "vip"
    assert begin("vip", NAMES).gateways == ("vip", "api", "b")


def test_a_job_of_a_gateway_that_is_configured_no_more_is_asked_for_at_the_others() -> None:
    assert begin("old", NAMES).gateways == NAMES


def test_the_pause_is_stretched_and_never_shortened_so_that_jobs_do_not_come_in_step() -> None:
    assert job().meets(RUNNING, share=1.0) == Wait(5.5)
    assert job().meets(RUNNING, share=0.5) == Wait(5.25)
    assert job().meets(RUNNING, share=-3.0) == Wait(5)


def test_an_answer_without_news_leaves_the_very_same_value() -> None:
    chase = job()
    chase.meets(RUNNING)
    before = chase.pursuit
    chase.meets(RUNNING)
    assert chase.pursuit is before


def test_an_old_job_is_asked_for_less_often() -> None:
    assert [job(age).meets(RUNNING) for age in (0, 600, 1200, 3600, 7200, 80_000)] == [
        Wait(5),
        Wait(5),
        Wait(10),
        Wait(30),
        Wait(60),
        Wait(60),
    ]


def test_progress_never_goes_back() -> None:
    chase = job(percent=20)
    seen = []
    for percent in (10, 45, 30, 0, 46):
        chase.meets(Job("j", JobState.IN_PROGRESS, percent))
        seen.append(chase.pursuit.percent)
    assert seen == [20, 45, 45, 45, 46]


@pytest.mark.parametrize("trouble", TROUBLES, ids=repr)
def test_after_trouble_the_next_gateway_is_asked_and_later_and_later(trouble: Met) -> None:
    chase = job()
    assert chase.waits(*[trouble] * 7) == [5, 10, 20, 40, 60, 60, 60]
    assert chase.asked == ["api", "vip", "b", "api", "vip", "b", "api"]
    assert chase.meets(RUNNING) == Wait(5)
    assert chase.pursuit.troubles == 0


def test_a_wish_to_be_left_alone_is_granted_up_to_the_longest_pause() -> None:
    assert job().meets(RATE) == Wait(20)
    assert job().meets(Answered(503, Kind.SERVER, retry_after_seconds=3600)) == Wait(60)
    assert job().meets(Answered(503, Kind.SERVER, retry_after_seconds=1)) == Wait(5)


def test_a_job_that_was_heard_of_elsewhere_stays_there_and_comes_home_in_the_end() -> None:
    chase = job()
    chase.meets(BROKEN, *[RUNNING] * HOMEWARD, RUNNING, RUNNING)
    assert chase.asked == ["api", *["vip"] * HOMEWARD, "api", "api"]


def test_a_gateway_that_is_known_to_be_unwell_is_not_asked_while_another_is_well() -> None:
    chase = job()
    chase.meets(RUNNING, unwell=("api",))
    chase.meets(RUNNING, unwell=("api", "vip"))
    chase.meets(RUNNING, unwell=NAMES)
    assert chase.asked == ["vip", "b", "b"]


def gone_after(chase: Chase, *mets: Met) -> int | None:
    """After how many of `mets` it is gone."""
    for number, met in enumerate(mets, 1):
        if isinstance(chase.meets(met), Gone):
            return number
    return None


def test_a_job_is_gone_when_every_gateway_has_said_so_three_times() -> None:
    chase = job()
    assert gone_after(chase, *[Absent()] * 20) == 9
    assert chase.asked == [*NAMES] * 3
    assert chase.pursuit.lost


def test_any_word_of_it_in_between_begins_the_count_again() -> None:
    assert gone_after(job(), *[Absent()] * 8, QUEUED, *[Absent()] * 8) is None
    assert gone_after(job(), *[Absent()] * 8, QUEUED, *[Absent()] * 9) == 18


def test_trouble_is_not_a_no_and_does_not_unsay_one() -> None:
    chase = job()
    in_turn: tuple[Met, ...] = (BROKEN, Absent())
    assert gone_after(chase, *in_turn * 20) == 18
    only_two = job()
    silent_third: tuple[Met, ...] = (Absent(), Absent(), BROKEN)
    only_two.meets(*silent_third * 10)
    assert not only_two.pursuit.lost


def test_the_answer_of_one_gateway_alone_is_never_enough() -> None:
    chase = job()
    for _ in range(50):
        assert not isinstance(chase.meets(Absent(), unwell=("vip", "b")), Gone)
    assert set(chase.asked) == {"api"}


def test_a_young_job_is_not_gone_whatever_the_gateways_say() -> None:
    young = job(GONE_AGE_SECONDS_MIN - 1)
    assert gone_after(young, *[Absent()] * 30) is None
    young.age += 1
    assert gone_after(young, Absent()) == 1


def test_a_lost_job_is_asked_for_seldom_and_found_again() -> None:
    chase = job(lost=True)
    assert chase.waits(Absent(), RUNNING) == [60, 60]
    assert not chase.pursuit.lost
    assert chase.pursuit.begun
    assert job(lost=True).meets(LINKED) == Deliver(LINK)
    assert job(lost=True).meets(FAILED) == Fail(Reason.POLICY_OTHER, "PUBLIC_ERROR_X")


def test_a_job_is_lost_at_the_age_to_give_it_up_and_being_under_way_saves_it_no_more() -> None:
    old = job(PACE.give_up_seconds)
    assert old.meets(RUNNING) == Gone(60, "too_old")
    assert old.meets(RUNNING) == Wait(60)
    assert old.pursuit.lost
    assert old.meets(LINKED) == Deliver(LINK)


@pytest.mark.parametrize("met", [*TROUBLES, Absent(), NotReady()], ids=repr)
def test_trouble_that_lasts_until_a_job_is_too_old_loses_it(met: Met) -> None:
    assert job(PACE.give_up_seconds - 1).meets(met) != Gone(60, "too_old")
    assert job(PACE.give_up_seconds).meets(met) == Gone(60, "too_old")


def test_a_link_is_a_delivery_and_its_lack_is_not() -> None:
    assert job().meets(LINKED) == Deliver(LINK)
    assert job().meets(COMPLETED) == FetchContent()


def test_content_that_is_not_ready_is_asked_for_a_few_times_soon_and_then_at_the_usual_pace() -> (
    None
):
    chase = job()
    chase.meets(BROKEN, COMPLETED)
    waits = chase.waits(*[NotReady()] * (CONTENT_TRIES + 1))
    assert waits == [CONTENT_SECONDS] * CONTENT_TRIES + [5]
    assert set(chase.asked[1:]) == {"vip"}
    assert not chase.pursuit.wants_content
    assert chase.meets(COMPLETED) == FetchContent()
    assert chase.meets(NotReady()) == Wait(5)


def test_content_that_one_gateway_never_has_is_asked_for_at_the_next() -> None:
    chase = job()
    chase.meets(COMPLETED, *[NotReady()] * (CONTENT_TRIES + 1))
    assert chase.meets(COMPLETED) == FetchContent()
    chase.meets(NotReady(), COMPLETED, NotReady(), COMPLETED)
    assert chase.asked == ["api"] * (CONTENT_TRIES + 2) + ["vip"] * 2 + ["b"] * 2 + ["api"]


def test_content_is_asked_for_where_the_job_completed_even_when_that_gateway_is_unwell() -> None:
    chase = job()
    chase.meets(COMPLETED, NotReady())
    assert chase.pursuit.wants_content
    chase.meets(NotReady(), unwell=("api",))
    assert chase.asked == ["api"] * 3


@pytest.mark.parametrize("trouble", [*TROUBLES, Absent()], ids=repr)
def test_content_that_cannot_be_had_sends_the_next_question_elsewhere(trouble: Met) -> None:
    chase = job()
    chase.meets(COMPLETED, NotReady(), trouble, RUNNING)
    assert chase.asked == ["api", "api", "api", "vip"]


def test_a_failure_is_believed_at_once_unless_its_own_words_call_it_passing() -> None:
    assert job().meets(FAILED) == Fail(Reason.POLICY_OTHER, "PUBLIC_ERROR_X")
    assert job().meets(Job("j", JobState.FAILED)) == Fail(Reason.VENDOR_ERROR, "")
    passing = Job("j", JobState.FAILED, words="服务内部异常", reason=Reason.VENDOR_ERROR)
    assert job().meets(passing, passing) == Wait(5)
    assert job().meets(passing, passing, passing) == Fail(Reason.VENDOR_ERROR, "服务内部异常")
    assert job().meets(passing, passing, RUNNING, passing, passing) == Wait(5)


def _mets() -> Iterator[st.SearchStrategy[Met]]:
    yield st.sampled_from((*TROUBLES, Absent(), NotReady(), COMPLETED))
    yield st.builds(
        Job, st.none(), st.sampled_from((JobState.QUEUED, JobState.IN_PROGRESS)), st.integers(0, 99)
    )


@given(st.lists(st.one_of(*_mets()), max_size=60), st.floats(0, 90_000), st.floats(0, 1))
def test_nothing_but_a_word_of_the_vendor_ends_a_job_and_no_pause_is_out_of_bounds(
    mets: list[Met], age: float, share: float
) -> None:
    chase, percent = job(age), 0
    for met in mets:
        decision = chase.meets(met, share=share)
        if isinstance(decision, Wait | Gone):
            soon = isinstance(met, NotReady)
            assert (CONTENT_SECONDS if soon else PACE.poll_seconds) <= decision.seconds <= 60
        else:
            assert decision == FetchContent()
            assert met == COMPLETED
        assert chase.pursuit.percent >= percent
        percent = chase.pursuit.percent
