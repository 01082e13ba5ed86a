"""A month closes when it is over, settled, priced and its turn; and never opens again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.months import (
    Books,
    Obstacle,
    Phase,
    bounds,
    following,
    landing,
    phase,
    preceding,
    refusals,
)

GRACE = timedelta(hours=72)
OVER = datetime(2026, 12, 4, tzinfo=UTC)
MONTHS = st.builds("{:04d}-{:02d}".format, st.integers(2000, 2099), st.integers(1, 12))


def obstacles(now: datetime, books: Books, month: str = "2026-11") -> list[Obstacle]:
    return [refusal.obstacle for refusal in refusals(month, now, GRACE, books)]


def test_a_month_goes_from_its_first_moment_to_that_of_the_next() -> None:
    assert bounds("2026-12") == (
        datetime(2026, 12, 1, tzinfo=UTC),
        datetime(2027, 1, 1, tzinfo=UTC),
    )


@given(MONTHS)
def test_months_follow_each_other_without_a_gap(month: str) -> None:
    assert bounds(month)[1] == bounds(following(month))[0]
    assert preceding(following(month)) == month
    assert month < following(month)


@pytest.mark.parametrize("month", ["2026-13", "2026", "", "now"])
def test_what_is_no_month_has_no_bounds(month: str) -> None:
    with pytest.raises(ValueError, match="is not a month"):
        bounds(month)


@pytest.mark.parametrize(
    ("now", "last_closed", "expected"),
    [
        (datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC), None, Phase.OPEN),
        (datetime(2026, 12, 1, tzinfo=UTC), None, Phase.CLOSING),
        (datetime(2027, 6, 1, tzinfo=UTC), "2026-10", Phase.CLOSING),
        (OVER, "2026-11", Phase.CLOSED),
        (OVER, "2027-01", Phase.CLOSED),
    ],
)
def test_a_month_is_open_then_closing_then_closed(
    now: datetime, last_closed: str | None, expected: Phase
) -> None:
    assert phase("2026-11", now, last_closed) is expected


def test_a_settled_month_closes_when_its_grace_is_over() -> None:
    assert obstacles(OVER, Books(first="2026-11")) == []
    assert obstacles(OVER - timedelta(microseconds=1), Books()) == [Obstacle.GRACE]


def test_a_month_that_runs_does_not_close() -> None:
    (refusal,) = refusals("2026-11", datetime(2026, 11, 20, tzinfo=UTC), GRACE, Books())
    assert refusal.obstacle is Obstacle.RUNNING
    assert refusal.until == OVER
    assert "2026-12-01T00:00:00Z" in refusal.message


def test_unsettled_clips_hold_a_month_open_and_are_named() -> None:
    books = Books(unsettled=["video_1", "video_2"], unsettled_micros_max=400_000)
    (refusal,) = refusals("2026-11", OVER, GRACE, books)
    assert refusal.obstacle is Obstacle.UNSETTLED
    assert refusal.clips == ("video_1", "video_2")
    assert refusal.message == (
        "2 clips of 2026-11 or before are still open, worth $0.40 at most: video_1, video_2"
    )


def test_a_long_list_is_named_in_part_and_held_whole() -> None:
    clips = [f"video_{number}" for number in range(1_000)]
    (refusal,) = refusals("2026-11", OVER, GRACE, Books(unpriced=clips))
    assert refusal.obstacle is Obstacle.UNPRICED
    assert refusal.message.endswith("video_9 and 990 more")
    assert refusal.clips == tuple(clips)


def test_months_close_one_after_the_other() -> None:
    (refusal,) = refusals("2026-11", OVER, GRACE, Books(first="2026-08", last_closed="2026-09"))
    assert refusal.obstacle is Obstacle.EARLIER_OPEN
    assert "2026-10 comes first" in refusal.message
    assert obstacles(OVER, Books(first="2026-08", last_closed="2026-10")) == []
    assert obstacles(OVER, Books(first="2026-08")) == [Obstacle.EARLIER_OPEN]


def test_a_closed_month_does_not_close_again() -> None:
    assert obstacles(OVER, Books(last_closed="2026-11", unsettled=["video_1"])) == [Obstacle.CLOSED]


def test_every_reason_is_told_at_once() -> None:
    books = Books(first="2026-10", unsettled=["video_1"], unpriced=["video_2"])
    found = refusals("2026-11", OVER - GRACE, GRACE, books)
    assert [refusal.obstacle for refusal in found] == [
        Obstacle.GRACE,
        Obstacle.EARLIER_OPEN,
        Obstacle.UNSETTLED,
        Obstacle.UNPRICED,
    ]
    assert all(refusal.message for refusal in found)


@given(MONTHS, st.none() | MONTHS)
def test_a_fact_lands_in_its_month_or_in_the_first_that_is_not_closed(
    month: str, last_closed: str | None
) -> None:
    landed = landing(month, last_closed)
    assert landed >= month
    assert last_closed is None or landed > last_closed
    assert landed == month or preceding(landed) == last_closed
