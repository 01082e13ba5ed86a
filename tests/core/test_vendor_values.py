"""Amounts, times and ids of the vendor's are read exactly, or not at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.pricing import format_usd
from proxy.core.vendor_values import amount, moment, text, unit_micros, usd_micros, whole

ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "micros"),
    [(75_000, 150_000), ("125000", 250_000), (-75_000.0, -150_000), (1, 2), (0, 0)],
)
def test_five_hundred_thousand_units_are_a_dollar(value: object, micros: int) -> None:
    assert unit_micros(value) == micros


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        ("0.15", 150_000),
        (0.15, 150_000),
        ("$0.15", 150_000),
        ("-$0.15", -150_000),
        ("$-0.15", -150_000),
        ("(0.15)", -150_000),
        ("0.15 USD", 150_000),
        ("1,234.50", 1_234_500_000),
        (".5", 500_000),
        ("0.0000005", 0),
        ("0.0000015", 2),
        (3, 3_000_000),
    ],
    ids=repr,
)
def test_dollars_are_read_however_they_are_written(value: object, micros: int) -> None:
    assert usd_micros(value) == micros


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, "", " ", "-", "free", "1.2.3", "1e5", "NaN", "0x10", "１"),  # noqa: RUF001
        *(float("nan"), float("inf"), 10**18, -(10**30), 1e30, "9" * 30, b"1", [1], {}),
    ],
    ids=repr,
)
def test_what_is_no_amount_is_none(value: object) -> None:
    assert amount(value) is None


@given(st.integers(0, 10**14))
def test_a_dollar_amount_is_exact(micros: int) -> None:
    assert usd_micros(format_usd(micros)) == micros


@pytest.mark.parametrize(
    "value",
    [
        1_793_707_200,
        "1793707200",
        1_793_707_200_000,
        1_793_707_200.0,
        "2026-11-03T12:00:00Z",
        "2026-11-03T20:00:00+08:00",
        "2026-11-03 12:00:00",
        "2026/11/03 12:00:00",
    ],
    ids=repr,
)
def test_a_time_is_read_however_it_is_written(value: object) -> None:
    assert moment(value) == NOON


def test_a_time_without_a_zone_is_where_it_was_written() -> None:
    assert moment("2026-11-03 20:00:00", timedelta(hours=8)) == NOON
    assert moment("2026-11-03T12:00:00Z", timedelta(hours=8)) == NOON


@pytest.mark.parametrize(
    "value", [None, "", "soon", 0, -5, True, 10**17, "0001-01-01", []], ids=repr
)
def test_what_is_no_time_is_none(value: object) -> None:
    assert moment(value, timedelta(hours=8)) is None


@pytest.mark.parametrize(
    ("value", "read"),
    [(" task_1 ", "task_1"), (17, "17"), ("", None), (None, None), (True, None), (1.5, None)],
)
def test_an_id_is_text_without_blanks(value: object, read: str | None) -> None:
    assert text(value) == read


@given(ODD)
def test_anything_at_all_can_be_asked(value: object) -> None:
    assert isinstance(amount(value), Decimal | None)
    assert isinstance(unit_micros(value), int | None)
    assert isinstance(usd_micros(value), int | None)
    assert isinstance(moment(value), datetime | None)
    assert isinstance(text(value), str | None)
    assert isinstance(whole(value), int | None)
