"""Amounts are exact, and a price is the latest line not after the clip's acceptance."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.pricing import Price, PriceBook, PriceLine, format_usd, parse_usd

AMOUNTS = {
    "0": 0,
    "0.15": 150_000,
    "0.150000": 150_000,
    "0.25": 250_000,
    "1": 1_000_000,
    "0.000001": 1,
    "999999999.999999": 999_999_999_999_999,
}
NOT_AMOUNTS = (
    "",
    " 1",
    "1 ",
    "-1",
    "+1",
    "1.",
    ".5",
    "1e3",
    "0.0000001",
    "1,000",
    "0x10",
    "NaN",
    "$1",
    "\uff11",
    "1\n",
    "1000000000",
)


@pytest.mark.parametrize(("text", "micros"), AMOUNTS.items())
def test_an_amount_is_read_to_the_micro(text: str, micros: int) -> None:
    assert parse_usd(text) == micros


@pytest.mark.parametrize("text", NOT_AMOUNTS)
def test_anything_but_a_plain_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an amount"):
        parse_usd(text)


@given(st.integers(0, 999_999_999_999_999))
def test_what_is_written_is_read_back_the_same(micros: int) -> None:
    assert parse_usd(format_usd(micros)) == micros


@given(st.text())
def test_any_text_is_read_exactly_or_refused(text: str) -> None:
    try:
        micros = parse_usd(text)
    except ValueError:
        return
    assert parse_usd(format_usd(micros)) == micros


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "0.00"),
        (150_000, "0.15"),
        (1, "0.000001"),
        (1_500_000, "1.50"),
        (-1_250_001, "-1.250001"),
    ],
)
def test_an_amount_is_written_with_two_decimals_or_what_it_needs(micros: int, text: str) -> None:
    assert format_usd(micros) == text


FIRST = date(2025, 1, 1)
BOOK = PriceBook(
    [
        PriceLine("veo-3.1", 300_000, date(2026, 6, 1), "later"),
        PriceLine("veo-3.1", 250_000, FIRST, "first"),
        PriceLine("veo-3.1-fast", 150_000, FIRST, "fast"),
    ]
)


@pytest.mark.parametrize(
    ("day", "version"),
    [
        (date(2024, 12, 31), None),
        (FIRST, "first"),
        (date(2026, 5, 31), "first"),
        (date(2026, 6, 1), "later"),
        (date(2030, 1, 1), "later"),
    ],
)
def test_the_latest_line_not_after_the_day_is_the_price(day: date, version: str | None) -> None:
    price = BOOK.quote("veo-3.1", day)
    assert (price.version if price else None) == version


def test_a_price_says_what_is_paid_what_is_listed_and_by_which_line() -> None:
    assert BOOK.quote("veo-3.1-fast", FIRST) == Price(150_000, 150_000, "fast")


def test_a_model_without_a_line_has_no_price_rather_than_a_free_one() -> None:
    assert BOOK.quote("veo-3.1-4k", date(2026, 11, 22)) is None


def test_two_lines_for_one_model_and_day_are_an_error() -> None:
    line = PriceLine("veo-3.1", 1, FIRST, "one")
    with pytest.raises(ValueError, match=r"two prices for .* from 2025-01-01"):
        PriceBook([line, PriceLine("veo-3.1", 2, FIRST, "two")])


@given(st.sets(st.integers(0, 400), max_size=8), st.integers(0, 400))
def test_a_book_quotes_what_a_search_through_all_its_lines_finds(
    starts: set[int], asked: int
) -> None:
    lines = [PriceLine("m", n, FIRST + timedelta(days=n), f"from {n}") for n in starts]
    expected = max((n for n in starts if n <= asked), default=None)
    price = PriceBook(lines).quote("m", FIRST + timedelta(days=asked))
    assert (price.micros if price else None) == expected
