"""A request fits under every limit or names the first it does not."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.budget import (
    IN_FLIGHT_RETRY_SECONDS,
    Limit,
    Limits,
    OverLimit,
    Used,
    admit,
    minute_of,
    month_of,
)

NOW = datetime(2026, 11, 22, 12, 0, 42, 999_999, tzinfo=UTC)
CLIPS, MICROS = 3, 750_000

# Each limit: the field that sets it, the field that counts it, and what a request adds to it.
COUNTED = {
    Limit.CLIPS_PER_MONTH: ("clips_per_month", "clips_month", CLIPS),
    Limit.USD_PER_MONTH: ("micros_per_month", "micros_month", MICROS),
    Limit.REQUESTS_PER_MINUTE: ("requests_per_minute", "requests_minute", 1),
    Limit.CLIPS_IN_FLIGHT: ("clips_in_flight", "clips_in_flight", CLIPS),
    Limit.VENDOR_CLIPS_IN_FLIGHT: ("vendor_clips_in_flight", "vendor_clips_in_flight", CLIPS),
}


@pytest.mark.parametrize("limit", Limit)
def test_a_request_fits_exactly_up_to_the_limit_and_not_beyond(limit: Limit) -> None:
    allowed, counted, adds = COUNTED[limit]
    limits = replace(Limits(), **{allowed: 5_000_000})
    full = replace(Used(), **{counted: 5_000_000 - adds})
    fuller = replace(Used(), **{counted: 5_000_000 - adds + 1})
    assert admit(limits, full, CLIPS, MICROS, NOW) is None
    refusal = admit(limits, fuller, CLIPS, MICROS, NOW)
    assert refusal is not None
    assert (refusal.limit, refusal.allowed) == (limit, 5_000_000)


def test_no_limit_refuses_nothing() -> None:
    used = Used(10**12, 10**15, 10**6, 10**6, 10**6)
    assert admit(Limits(), used, 4, 10**9, NOW) is None


def test_a_limit_of_zero_lets_nothing_in() -> None:
    for limit, (allowed, _, _) in COUNTED.items():
        refusal = admit(replace(Limits(), **{allowed: 0}), Used(), 1, 1, NOW)
        assert refusal is not None
        assert refusal.limit is limit


def test_only_limits_that_time_cures_say_when_to_come_again() -> None:
    waits = {
        limit: admit(replace(Limits(), **{allowed: 0}), Used(), 1, 1, NOW)
        for limit, (allowed, _, _) in COUNTED.items()
    }
    assert {limit: wait.retry_after_seconds for limit, wait in waits.items() if wait} == {
        Limit.CLIPS_PER_MONTH: None,
        Limit.USD_PER_MONTH: None,
        Limit.REQUESTS_PER_MINUTE: 18,
        Limit.CLIPS_IN_FLIGHT: IN_FLIGHT_RETRY_SECONDS,
        Limit.VENDOR_CLIPS_IN_FLIGHT: IN_FLIGHT_RETRY_SECONDS,
    }


def test_a_spent_month_is_told_before_a_busy_minute() -> None:
    limits = Limits(clips_per_month=0, requests_per_minute=0, clips_in_flight=0)
    assert admit(limits, Used(), 1, 1, NOW) == OverLimit(Limit.CLIPS_PER_MONTH, 0, None)


numbers = st.integers(0, 50)
limits_ = st.builds(Limits, *(st.none() | numbers for _ in fields(Limits)))


@given(limits_, st.lists(st.tuples(st.integers(1, 4), st.integers(0, 10)), max_size=60))
def test_no_row_of_requests_ever_gets_past_any_limit(
    limits: Limits, requests: list[tuple[int, int]]
) -> None:
    used = Used()
    for clips, micros in requests:
        if admit(limits, used, clips, micros, NOW) is None:
            used = Used(
                used.clips_month + clips,
                used.micros_month + micros,
                used.clips_in_flight + clips,
                used.requests_minute + 1,
                used.vendor_clips_in_flight + clips,
            )
    for allowed, counted, _ in COUNTED.values():
        limit = getattr(limits, allowed)
        assert limit is None or getattr(used, counted) <= limit


@pytest.mark.parametrize(
    ("moment", "month"),
    [
        (datetime(2026, 11, 30, 23, 59, 59, 999_999, UTC), "2026-11"),
        (datetime(2026, 12, 1, tzinfo=UTC), "2026-12"),
        (datetime(2028, 2, 29, tzinfo=UTC), "2028-02"),
        (datetime(987, 1, 1, tzinfo=UTC), "0987-01"),
    ],
)
def test_the_month_is_the_calendars(moment: datetime, month: str) -> None:
    assert month_of(moment) == month


def test_a_minute_starts_at_its_first_microsecond() -> None:
    assert minute_of(NOW) == datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
