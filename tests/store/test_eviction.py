"""Clips leave when their time is over, and for room those that were unused longest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from proxy.store.eviction import Keeping, victims
from proxy.store.kept import Kept, Kind, Stored

NOW = datetime(2026, 11, 22, tzinfo=UTC)
SHA = "0" * 64


def stored(clip_id: str, days: float, size: int, kind: Kind = Kind.CLIP) -> Stored:
    return Stored(Kept(clip_id, kind, SHA, size), NOW - timedelta(days=days))


def keeping(bytes_max: int, spared_days: float = 0.0) -> Keeping:
    return Keeping(NOW - timedelta(days=30), NOW - timedelta(days=spared_days), bytes_max)


def test_what_is_past_its_time_goes_however_much_room_there_is() -> None:
    every = [stored("a", 31, 1), stored("b", 29, 1), stored("c", 40, 1)]
    assert victims(every, keeping(1000), {}) == ("c", "a")
    assert victims(every, keeping(1000), {"c": NOW}) == ("c", "a")


def test_the_hour_of_expiry_itself_is_still_kept() -> None:
    assert victims([stored("a", 30, 1)], keeping(1000), {}) == ()


def test_a_clip_goes_with_its_pictures_and_is_as_old_as_its_first() -> None:
    every = [stored("a", 31, 10), stored("a", 1, 5, Kind.THUMBNAIL), stored("b", 2, 10)]
    assert victims(every, keeping(1000), {}) == ("a",)
    every = [stored("a", 3, 10), stored("a", 1, 5, Kind.THUMBNAIL), stored("b", 2, 10)]
    assert victims(every, keeping(24), {}) == ("a",)
    assert victims(every, keeping(25), {}) == ()


def test_for_room_the_one_unused_longest_goes_first() -> None:
    every = [stored("a", 5, 10), stored("b", 4, 10), stored("c", 3, 10)]
    assert victims(every, keeping(20), {}) == ("a",)
    assert victims(every, keeping(20), {"a": NOW}) == ("b",)
    assert victims(every, keeping(9), {"a": NOW}) == ("b", "c", "a")
    assert victims(every, keeping(20), {"a": NOW - timedelta(days=99)}) == ("a",)


def test_what_is_young_is_spared() -> None:
    every = [stored("a", 0.5, 10), stored("b", 4, 10)]
    assert victims(every, keeping(0, spared_days=1), {}) == ("b",)


CLIPS = st.dictionaries(
    st.sampled_from([f"video_{number}" for number in range(12)]),
    st.tuples(st.floats(0, 60), st.integers(0, 100)),
)


@given(CLIPS, st.integers(0, 500), st.floats(0, 30))
def test_what_stays_fits_or_is_spared_and_no_more_goes_than_must(
    clips: dict[str, tuple[float, int]], bytes_max: int, spared_days: float
) -> None:
    every = [stored(clip_id, days, size) for clip_id, (days, size) in clips.items()]
    rules = keeping(bytes_max, spared_days)
    gone = victims(every, rules, {})
    assert len(set(gone)) == len(gone)
    left = {each.kept.clip_id: each for each in every if each.kept.clip_id not in gone}
    assert all(each.modified >= rules.expired_before for each in left.values())
    used = sum(each.kept.size_bytes for each in left.values())
    if used > bytes_max:
        assert all(each.modified >= rules.spared_from for each in left.values())
    for_room = [clip_id for clip_id in gone if clips[clip_id][0] <= 29]
    if for_room:  # without the last of them it would not have fitted
        assert used + clips[for_room[-1]][1] > bytes_max
    for clip_id in for_room:
        assert NOW - timedelta(days=clips[clip_id][0]) < rules.spared_from
