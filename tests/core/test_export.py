"""Finance rows: the contract's columns, an order that is total, sums that need no picking."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given

from proxy.core.columns import Kind
from proxy.core.corrections import corrections
from proxy.core.export import (
    COLUMNS,
    ExportRow,
    OutOfOrderError,
    Totals,
    cells,
    columns,
    counted,
    in_order,
    ordering,
)
from tests.exports import any_rows, clip_row, credit_row, failed_row, replayed_row, some_month

CONTRACT = [
    "month",
    "completed_at",
    "accepted_at",
    "tenant",
    "cost_center",
    "key_id",
    "key_label",
    "generation_id",
    "clip_id",
    "clip_index",
    "mode",
    "model",
    "outcome",
    "reason",
    "gateway",
    "attempts",
    "upstream_id",
    "upstream_request_id",
    "price_version",
    "unit_price_usd",
    "amount_usd",
    "list_price_usd",
    "replay_of",
    "correction_of",
]
USD = ["amount_usd", "list_usd", "avoided_usd"]


def tallied(*rows: ExportRow) -> Totals:
    totals = Totals()
    for row in rows:
        totals.add(row)
    return totals


def test_the_columns_are_the_contracts_and_what_makes_lines_add_up() -> None:
    assert [column.name for column in COLUMNS] == [*CONTRACT, "line_id", "line_kind", "quantity"]


def test_amounts_and_times_have_their_kinds() -> None:
    kinds = {column.name: column.kind for column in COLUMNS}
    assert {name for name, kind in kinds.items() if kind is Kind.DECIMAL} == {
        name for name in kinds if name.endswith("_usd")
    }
    assert {name for name, kind in kinds.items() if kind is Kind.TIME} == {
        "completed_at",
        "accepted_at",
    }


def test_a_rows_cells_stand_in_the_order_of_the_columns() -> None:
    names = [column.name for column in COLUMNS]
    (row,) = cells([clip_row(7)])
    said = dict(zip(names, row, strict=True))
    assert said["clip_id"] == "video_00000007"
    assert said["amount_usd"] == 150_000
    assert said["quantity"] == 1
    assert said["replay_of"] is None


def test_every_row_of_a_sandbox_says_so_in_front() -> None:
    rows = list(cells([clip_row(1), failed_row(2)], sandbox=True))
    assert columns(sandbox=True)[0].name == "sandbox"
    assert [row[0] for row in rows] == ["SANDBOX", "SANDBOX"]
    assert {len(row) for row in rows} == {len(columns(sandbox=True))}


def test_rows_are_ordered_by_their_end_and_then_by_their_clip() -> None:
    at = clip_row(1).completed_at
    early, late, twin = clip_row(1), clip_row(2), clip_row(3, completed_at=at)
    open_ = clip_row(0, completed_at=None, outcome="unknown")
    assert sorted([open_, late, twin, early], key=ordering) == [early, twin, late, open_]


def test_rows_out_of_their_order_are_refused() -> None:
    with pytest.raises(OutOfOrderError, match="video_00000001 does not come after video_00000002"):
        list(in_order([clip_row(2), clip_row(1)]))


def test_a_line_that_stands_twice_is_refused() -> None:
    with pytest.raises(OutOfOrderError, match="does not come after"):
        list(in_order([clip_row(1), clip_row(1)]))


def test_a_month_in_order_passes_whole() -> None:
    rows = list(some_month(200))
    assert list(in_order(rows)) == rows


def test_a_failed_clip_counts_as_a_line_and_costs_nothing() -> None:
    totals = tallied(failed_row(1), clip_row(2))
    assert (totals.rows, totals.quantity, totals.amount_micros) == (2, 1, 150_000)
    assert totals.outcomes == {"failed": 1, "delivered": 1}


def test_what_a_replay_would_have_cost_is_avoided() -> None:
    totals = tallied(replayed_row(1, "video_00000000", unit_price_micros=140_000))
    assert (totals.quantity, totals.amount_micros, totals.avoided_micros) == (0, 0, 140_000)


def test_a_credit_lowers_the_amount_and_no_count_of_clips() -> None:
    totals = tallied(clip_row(1), credit_row(2, 50_000))
    assert (totals.quantity, totals.amount_micros) == (1, 100_000)


def test_a_reversal_takes_its_line_out_of_every_sum() -> None:
    for line in (clip_row(1), failed_row(1), replayed_row(1, "video_0"), credit_row(1, 5)):
        (back,) = corrections(line, None, "2026-12")
        left = {name: value for name, value in tallied(line, back).as_json().items() if value}
        assert left == {"rows": 2, **dict.fromkeys(USD, "0.00")}


@given(any_rows())
def test_totals_are_sums_over_rows_as_they_pass(rows: list[ExportRow]) -> None:
    totals = Totals()
    assert list(counted(rows, totals)) == rows
    assert totals.amount_micros == sum(row.amount_micros for row in rows)
    assert totals.quantity == sum(row.quantity for row in rows)
    assert totals.rows == len(rows)
    assert totals == tallied(*reversed(rows))


def test_the_totals_say_amounts_in_both_ways() -> None:
    said = tallied(clip_row(1), clip_row(2)).as_json()
    assert (said["amount_micros"], said["amount_usd"]) == (300_000, "0.30")
    assert said["outcomes"] == {"delivered": 2}


def test_a_row_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        clip_row(1).amount_micros = 0  # type: ignore[misc]


def test_no_field_is_left_out_of_the_columns() -> None:
    names = {re.sub("_micros$", "_usd", name) for name in ExportRow.__dataclass_fields__}
    assert names | {"quantity"} == {column.name for column in COLUMNS}


def test_an_unsettled_clip_stands_by_its_acceptance() -> None:
    row = replace(clip_row(4), completed_at=None)
    assert row.incurred_at == row.accepted_at
