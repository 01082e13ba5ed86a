"""Late facts: closed lines stay, and what stands in later months makes the sums right."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.corrections import corrections
from proxy.core.export import ExportRow, LineKind
from tests.exports import clip_row, credit_row, failed_row

LINE = clip_row(1)
CHEAPER = replace(LINE, unit_price_micros=100_000, amount_micros=100_000)


def test_a_change_is_a_reversal_and_a_new_line() -> None:
    back, new = corrections(LINE, CHEAPER, "2026-12")
    assert (back.line_kind, new.line_kind) == (LineKind.REVERSAL, LineKind.REPLACEMENT)
    assert (back.amount_micros, new.amount_micros) == (-150_000, 100_000)
    assert (back.quantity, new.quantity) == (-1, 1)
    assert {back.correction_of, new.correction_of} == {LINE.line_id}
    assert {back.month, new.month} == {"2026-12"}


def test_a_reversal_matches_its_line_in_all_but_its_signs() -> None:
    back, _ = corrections(LINE, CHEAPER, "2026-12")
    assert back == replace(
        LINE,
        month="2026-12",
        amount_micros=-150_000,
        correction_of=LINE.line_id,
        line_id="video_00000001/0/reversed",
        line_kind=LineKind.REVERSAL,
    )


def test_both_keep_the_time_the_cost_was_incurred() -> None:
    known = replace(CHEAPER, completed_at=clip_row(99).completed_at)
    for line in corrections(LINE, known, "2026-12"):
        assert line.completed_at == LINE.completed_at


@pytest.mark.parametrize(
    "changes",
    [{"key_label": "renamed"}, {"cost_center": "CC-2"}, {"gateway": "vip"}, {"attempts": 3}],
    ids=lambda changes: next(iter(changes)),
)
def test_what_may_change_later_corrects_nothing(changes: dict[str, object]) -> None:
    assert corrections(LINE, replace(LINE, **changes), "2026-12") == ()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"tenant": "film"},
        {"model": "veo-3.1"},
        {"outcome": "failed", "amount_micros": 0},
        {"reason": "lost"},
        {"unit_price_micros": 1},
        {"amount_micros": 1},
        {"list_price_micros": 1},
        {"replay_of": "video_2"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_money_hangs_on_corrects(changes: dict[str, object]) -> None:
    known = replace(LINE, **changes)  # type: ignore[arg-type]
    assert len(corrections(LINE, known, "2026-12")) == 2


def test_a_clip_that_should_not_be_there_is_taken_back() -> None:
    (back,) = corrections(LINE, None, "2026-12")
    assert back.line_kind is LineKind.REVERSAL


def test_a_clip_that_comes_late_is_one_line() -> None:
    (line,) = corrections(None, LINE, "2026-12")
    assert line == replace(LINE, month="2026-12")


def test_nothing_known_of_nothing_is_nothing() -> None:
    assert corrections(None, None, "2026-12") == ()
    (back,) = corrections(LINE, None, "2026-12")
    assert corrections(back, None, "2027-01") == ()


def test_what_was_taken_back_can_come_back_under_a_new_name() -> None:
    (back,) = corrections(LINE, None, "2026-12")
    (again,) = corrections(back, LINE, "2027-01")
    assert again.line_kind is LineKind.REPLACEMENT
    assert again.line_id == "video_00000001/1"
    assert again.correction_of == LINE.line_id


def test_a_credit_can_be_taken_back() -> None:
    (back,) = corrections(credit_row(1, 70_000), None, "2026-12")
    assert (back.amount_micros, back.quantity) == (70_000, 0)


FACTS = st.one_of(
    st.none(),
    st.integers(0, 10**6).map(
        lambda micros: replace(LINE, unit_price_micros=micros, amount_micros=micros)
    ),
    st.just(failed_row(1)),
)


@given(st.lists(st.lists(FACTS, max_size=4), min_size=1, max_size=8))
def test_in_whatever_order_facts_come_the_lines_add_up_to_the_last(
    months: list[list[ExportRow | None]],
) -> None:
    """Each inner list is what was learned while one month was open; its last fact counts."""
    lines: list[ExportRow] = []
    known: ExportRow | None = None
    for number, learned in enumerate(months):
        known = learned[-1] if learned else known
        month = f"{2027 + number}-01"
        lines.extend(corrections(lines[-1] if lines else None, known, month))
        assert sum(line.amount_micros for line in lines) == (known.amount_micros if known else 0)
        assert sum(line.quantity for line in lines) == (known.quantity if known else 0)
        assert sum(line.sign for line in lines) == (1 if known else 0)
    assert len({line.line_id for line in lines}) == len(lines)
    taken_back = [line.correction_of for line in lines if line.line_kind is LineKind.REVERSAL]
    assert len(set(taken_back)) == len(taken_back)
