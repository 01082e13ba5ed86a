"""What a clip really cost, when the vendor gives a bonus on what is paid in advance."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.prepaid import PrepaidBook, TopUp, credited, divided
from tests.exports import START

DAY = timedelta(days=1)
FIRST = TopUp("topup_1", "2026-11", START + DAY, 100_000_000, 110_000_000)
SECOND = TopUp("topup_2", "2026-11", START + 3 * DAY, 500_000_000, 600_000_000)


def test_without_any_bonus_a_clip_costs_its_list_price() -> None:
    assert PrepaidBook().effective_micros(250_000, START) == 250_000


def test_before_the_first_top_up_the_configured_bonus_counts() -> None:
    book = PrepaidBook([FIRST], bonus_micros=250_000)
    assert book.effective_micros(250_000, START) == 200_000


@pytest.mark.parametrize(
    ("days", "micros"), [(1, 227_273), (2, 227_273), (3, 208_333), (30, 208_333)]
)
def test_the_latest_top_up_before_the_acceptance_counts(days: int, micros: int) -> None:
    book = PrepaidBook([SECOND, FIRST])
    assert book.effective_micros(250_000, START + days * DAY) == micros


@pytest.mark.parametrize(("paid", "credit"), [(-1, 10), (0, 0), (5, 0)])
def test_a_top_up_of_nothing_is_refused(paid: int, credit: int) -> None:
    with pytest.raises(ValueError, match="topup_9 puts nothing on the account"):
        PrepaidBook([TopUp("topup_9", "2026-11", START, paid, credit)])


def test_a_gift_makes_clips_cost_nothing() -> None:
    book = PrepaidBook([TopUp("topup_9", "2026-11", START, 0, 1_000_000)])
    assert book.effective_micros(250_000, START) == 0


def test_a_bonus_is_credited_on_top() -> None:
    assert credited(100_000_000, 100_000) == 110_000_000
    assert credited(3, 166_667) == 4


@given(st.integers(-(10**15), 10**15), st.integers(1, 10**9))
def test_division_rounds_half_to_even(amount: int, by: int) -> None:
    assert divided(amount, by) == round(Fraction(amount, by))


@given(st.integers(0, 10**12), st.integers(1, 10**12), st.integers(1, 10**12))
def test_a_cost_is_off_by_half_a_micro_at_most(micros: int, paid: int, credit: int) -> None:
    book = PrepaidBook([TopUp("topup_1", "2026-11", START, paid, credit)])
    exact = Fraction(micros * paid, credit)
    assert abs(book.effective_micros(micros, START) - exact) <= Fraction(1, 2)
