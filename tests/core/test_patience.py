"""A clip is tried ever more seldom, in any case shortly before its link dies, and once after."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.patience import LAST_CHANCE, LONG_DEAD, is_long_dead, next_try

NOW = datetime(2026, 11, 22, tzinfo=UTC)
DAY = timedelta(hours=24)
PAUSE = 300.0


def pause(tries: int, left: timedelta = DAY, *, lasting: bool = False) -> float | None:
    at = next_try(NOW, NOW + left, tries, PAUSE, lasting=lasting)
    return None if at is None else (at - NOW).total_seconds()


@pytest.mark.parametrize(
    ("tries", "seconds"), [(0, 1), (1, 2), (2, 4), (8, 256), (9, 300), (10_000, 300)]
)
def test_pauses_double_up_to_the_longest(tries: int, seconds: float) -> None:
    assert pause(tries) == seconds


def test_what_only_an_operator_can_cure_waits_longest_from_the_first() -> None:
    assert pause(0, lasting=True) == PAUSE


@pytest.mark.parametrize(
    ("tries", "left", "seconds"),
    [
        (9, 250, 190),  # no further than the last chance, a minute before the end
        (9, 361, 300),
        (9, 60, 60),  # that was it: once more, when the link is dead
        (9, 20, 20),
        (1, 20, 2),
        (0, 0.5, 0.5),
        (0, 0, None),
        (0, -1, None),
    ],
)
def test_a_link_that_is_about_to_die_is_tried_in_time_and_a_dead_one_given_up(
    tries: int, left: float, seconds: float | None
) -> None:
    assert pause(tries, timedelta(seconds=left)) == seconds


def test_a_link_is_long_dead_a_day_after_its_death() -> None:
    assert not is_long_dead(NOW + LONG_DEAD - timedelta(seconds=1), NOW)
    assert is_long_dead(NOW + LONG_DEAD, NOW)


@given(st.floats(0.001, 10_000), st.floats(5, 5_000), st.booleans())
def test_whatever_the_pauses_the_last_chance_is_taken_and_a_dead_link_is_tried_once(
    life: float, pause_max: float, lasting: bool
) -> None:
    dies_at, at, tries = NOW + timedelta(seconds=life), NOW, 0
    tried = [at]
    while (following := next_try(at, dies_at, tries, pause_max, lasting=lasting)) is not None:
        assert following > at
        assert following - at <= timedelta(seconds=pause_max)
        at, tries = following, tries + 1
        tried.append(at)
    assert [each for each in tried if each >= dies_at] == [dies_at]
    if timedelta(seconds=life) > LAST_CHANCE:
        assert any(dies_at - LAST_CHANCE <= each < dies_at for each in tried)
