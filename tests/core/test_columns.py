"""Cells are written as text in one way, whatever the zone of a time or the sign of an amount."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from proxy.core.columns import (
    AS_TEXT,
    Kind,
    second_text,
    sheet_time_text,
    time_text,
)

AT = datetime(2026, 11, 30, 23, 59, 59, 999_999, tzinfo=UTC)


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (time_text, "2026-11-30T23:59:59.999999Z"),
        (second_text, "2026-11-30T23:59:59Z"),
        (sheet_time_text, "2026-11-30 23:59:59"),
    ],
)
def test_a_time_is_written_in_utc_wherever_it_was_taken(write: object, text: str) -> None:
    assert callable(write)
    for hours in (-11, 0, 8, 14):
        assert write(AT.astimezone(timezone(timedelta(hours=hours)))) == text


def test_a_whole_second_keeps_its_six_decimals() -> None:
    assert time_text(AT.replace(microsecond=0)) == "2026-11-30T23:59:59.000000Z"


@pytest.mark.parametrize(
    ("kind", "cell", "text"),
    [
        (Kind.TEXT, "=1+1", "=1+1"),
        (Kind.WHOLE, -1, "-1"),
        (Kind.DECIMAL, -250_000, "-0.25"),
        (Kind.DECIMAL, 1_000_000, "1.00"),
        (Kind.DECIMAL, 227_273, "0.227273"),
        (Kind.TIME, AT, "2026-11-30T23:59:59.999999Z"),
        (Kind.SECOND, AT, "2026-11-30T23:59:59Z"),
    ],
)
def test_each_kind_has_its_text(kind: Kind, cell: object, text: str) -> None:
    assert AS_TEXT[kind](cell) == text


def test_every_kind_can_be_written() -> None:
    assert AS_TEXT.keys() == set(Kind)
