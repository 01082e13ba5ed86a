"""Clips leave when their time is over, and for room those that were unused longest."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from proxy.store.eviction import Keeping, victims
from proxy.store.keepings import KeptRow

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def kept(clip_id: str, days: float, size: int, used_days: float | None = None) -> KeptRow:
    used_at = None if used_days is None else NOW - timedelta(days=used_days)
    return KeptRow(clip_id, "0" * 64, size, NOW - timedelta(days=days), used_at)


def keeping(bytes_max: int, spared_days: float = 0.0) -> Keeping:
    return Keeping(NOW - timedelta(days=30), NOW - timedelta(days=spared_days), bytes_max)


def test_what_is_past_its_time_goes_however_much_room_there_is() -> None:
    every = [kept("a", 31, 1), kept("b", 29, 1), kept("c", 40, 1)]
    assert victims(every, keeping(1000)) == ("c", "a")
    used = [replace(row, used_at=NOW) for row in every]
    assert victims(used, keeping(1000)) == ("c", "a")


def test_the_hour_of_expiry_itself_is_still_kept() -> None:
    assert victims([kept("a", 30, 1)], keeping(1000)) == ()


def test_for_room_the_one_unused_longest_goes_first() -> None:
    a, b, c = kept("a", 5, 10), kept("b", 4, 10), kept("c", 3, 10)
    assert victims([a, b, c], keeping(20)) == ("a",)
    used = replace(a, used_at=NOW)
    assert victims([used, b, c], keeping(20)) == ("b",)
    assert victims([used, b, c], keeping(9)) == ("b", "c", "a")
    long_ago = replace(a, used_at=NOW - timedelta(days=99))
    assert victims([long_ago, b, c], keeping(20)) == ("a",)


def test_what_is_young_is_spared() -> None:
    assert victims([kept("a", 0.5, 10), kept("b", 4, 10)], keeping(0, spared_days=1)) == ("b",)


def test_what_goes_by_age_makes_room() -> None:
    assert victims([kept("a", 31, 10), kept("b", 4, 10)], keeping(10)) == ("a",)


CLIPS = st.dictionaries(
    st.sampled_from([f"video_{number}" for number in range(12)]),
    st.tuples(st.floats(0, 60), st.integers(0, 100)),
)


@given(CLIPS, st.integers(0, 500), st.floats(0, 30))
def test_what_stays_fits_or_is_spared_and_no_more_goes_than_must(
    clips: dict[str, tuple[float, int]], bytes_max: int, spared_days: float
) -> None:
    every = [kept(clip_id, days, size) for clip_id, (days, size) in clips.items()]
    rules = keeping(bytes_max, spared_days)
    gone = victims(every, rules)
    assert len(set(gone)) == len(gone)
    left = [row for row in every if row.clip_id not in gone]
    assert all(row.kept_at >= rules.expired_before for row in left)
    used = sum(row.size_bytes for row in left)
    if used > bytes_max:
        assert all(row.kept_at >= rules.spared_from for row in left)
    for_room = [clip_id for clip_id in gone if clips[clip_id][0] <= 29]
    if for_room:  # without the last of them it would not have fitted
        assert used + clips[for_room[-1]][1] > bytes_max
    for clip_id in for_room:
        assert NOW - timedelta(days=clips[clip_id][0]) < rules.spared_from
