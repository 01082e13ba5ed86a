"""Entries have derived ids, balances are folds, and a clip's entries add up or are named."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.ledger import Balance, Entry, Kind, balance, broken

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

amounts = st.integers(0, 2**62)


def entry(kind: Kind, micros: int = 250_000, clip_id: str = "video_a") -> Entry:
    return Entry(kind, clip_id, "tenant_a", micros, NOW)


HOLD, CHARGE, RELEASE = (entry(kind) for kind in Kind)


def test_an_entrys_id_is_the_fact_it_records() -> None:
    assert [one.id for one in (HOLD, CHARGE, RELEASE)] == [
        "hold:video_a",
        "charge:video_a",
        "release:video_a",
    ]


@pytest.mark.parametrize(
    "entries", [(), (HOLD,), (HOLD, CHARGE), (HOLD, RELEASE), (CHARGE, HOLD)], ids=repr
)
def test_these_entries_of_a_clip_are_sound(entries: tuple[Entry, ...]) -> None:
    assert broken(entries) is None


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ((CHARGE,), "there is no hold"),
        ((RELEASE,), "there is no hold"),
        ((HOLD, HOLD), "hold:video_a stands twice"),
        ((HOLD, CHARGE, CHARGE), "charge:video_a stands twice"),
        ((HOLD, CHARGE, RELEASE), "it is both charged and released"),
        ((HOLD, entry(Kind.CHARGE, 1)), "its hold of 250000 was settled with 1"),
        ((HOLD, entry(Kind.RELEASE, 250_001)), "its hold of 250000 was settled with 250001"),
        ((entry(Kind.HOLD, -1),), "hold:video_a is negative"),
    ],
)
def test_what_is_wrong_with_a_clips_entries_is_said_in_any_order(
    entries: tuple[Entry, ...], words: str
) -> None:
    assert {broken(order) for order in permutations(entries)} == {words}


@given(amounts, st.sampled_from([Kind.CHARGE, Kind.RELEASE]))
def test_a_resolved_clips_hold_is_its_charge_and_its_release(micros: int, kind: Kind) -> None:
    entries = [entry(Kind.HOLD, micros), entry(kind, micros)]
    sums = balance(entries)
    assert broken(entries) is None
    assert sums.held == sums.charged + sums.released
    assert sums.open == 0


ledgers = st.lists(
    st.builds(entry, st.sampled_from(Kind), amounts, st.sampled_from(["video_a", "video_b"]))
)


@given(ledgers, st.randoms(use_true_random=False))
def test_the_order_of_entries_changes_no_balance(entries: list[Entry], shuffler: Random) -> None:
    shuffled = shuffler.sample(entries, len(entries))
    assert balance(shuffled) == balance(entries)


@given(ledgers, ledgers)
def test_the_balance_of_two_ledgers_is_the_sum_of_theirs(
    one: list[Entry], other: list[Entry]
) -> None:
    first, second = balance(one), balance(other)
    assert balance(one + other) == Balance(
        first.held + second.held,
        first.charged + second.charged,
        first.released + second.released,
    )


def test_a_budget_counts_what_is_charged_and_what_is_still_held() -> None:
    sums = balance([HOLD, CHARGE, entry(Kind.HOLD, 7, "video_b"), entry(Kind.HOLD, 9, "video_c")])
    assert (sums.committed, sums.open) == (250_016, 16)
