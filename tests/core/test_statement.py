"""Statements: sums that add up, and files that a spreadsheet reads and never runs."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.statement import (
    MEASURES,
    Dimension,
    Line,
    Statement,
    Tally,
    csv_line,
    parse_by,
    parse_month,
    read_statement,
)

TALLIES = st.builds(Tally, *[st.integers(0, 10**9) for _ in MEASURES])

TWO_TEAMS = Statement(
    month="2026-11",
    by=(Dimension.TENANT, Dimension.MODEL),
    lines=(
        Line(("ads", "veo-3.1-fast"), Tally(5, 3, 1, 1, 0, 2, 450_000)),
        Line(("film", "veo-3.1"), Tally(1, 1, 0, 0, 0, 0, 250_000)),
    ),
    unsettled_clips=1,
    unsettled_micros_max=150_000,
    exposure_micros=300_000,
)


def read_csv(statement: Statement) -> list[list[str]]:
    return list(csv.reader(io.StringIO("".join(statement.as_csv()), newline="")))


def test_the_json_has_the_contracts_shape() -> None:
    row = {
        "tenant": "ads",
        "model": "veo-3.1-fast",
        "requested": 5,
        "delivered": 3,
        "failed": 1,
        "unknown": 1,
        "written_off": 0,
        "replayed": 2,
        "amount_micros": 450_000,
        "avoided_micros": 0,
        "amount_usd": "0.45",
        "avoided_usd": "0.00",
    }
    said = TWO_TEAMS.as_json()
    assert list(said) == ["month", "rows", "totals", "unsettled"]
    assert said["month"] == "2026-11"
    assert isinstance(said["rows"], list)
    assert said["rows"][0] == row
    assert said["unsettled"] == {"clips": 1, "micros_max": 150_000, "exposure_micros": 300_000}


def test_the_totals_are_the_sum_of_the_rows() -> None:
    assert TWO_TEAMS.totals == Tally(6, 4, 1, 1, 0, 2, 700_000)
    assert TWO_TEAMS.as_json()["totals"] == TWO_TEAMS.totals.as_json()
    assert TWO_TEAMS.totals.as_json()["amount_usd"] == "0.70"


@given(st.lists(TALLIES))
def test_totals_are_exact_for_any_amounts(tallies: list[Tally]) -> None:
    lines = tuple(Line((str(at),), tally) for at, tally in enumerate(tallies))
    totals = Statement("2026-11", (Dimension.KEY,), lines, 0, 0).totals
    for name in MEASURES:
        assert getattr(totals, name) == sum(getattr(tally, name) for tally in tallies)


def test_the_csv_has_a_header_a_line_a_row_and_no_totals() -> None:
    assert "".join(TWO_TEAMS.as_csv()) == (
        "month,tenant,model,requested,delivered,failed,unknown,written_off,replayed,"
        "amount_usd,avoided_usd\r\n"
        "2026-11,ads,veo-3.1-fast,5,3,1,1,0,2,0.45,0.00\r\n"
        "2026-11,film,veo-3.1,1,1,0,0,0,0,0.25,0.00\r\n"
    )


def test_what_replays_avoided_stands_beside_what_was_spent_and_is_no_part_of_it() -> None:
    replays = Tally(3, 1, replayed=2, amount_micros=150_000, avoided_micros=300_000)
    spared = Statement("2026-11", (Dimension.TENANT,), (Line(("ads",), replays),), 0, 0)
    totals = spared.totals.as_json()
    assert (totals["amount_usd"], totals["avoided_usd"]) == ("0.15", "0.30")
    header, *_, last = spared.as_table()
    assert header[-3:] == ("replayed", "USD", "avoided USD")
    assert last[-3:] == ("2", "0.15", "0.30")
    (names, line) = read_csv(spared)
    assert dict(zip(names, line, strict=True))["avoided_usd"] == "0.30"
    assert read_statement(json.loads(json.dumps(spared.as_json())), spared.by) == spared


def test_the_table_ends_with_the_totals_under_their_columns() -> None:
    header, *rows = TWO_TEAMS.as_table()
    assert header[:3] == ("tenant", "model", "requested")
    assert rows[-1] == ("total", "", "6", "4", "1", "1", "2", "0.70")
    assert {len(row) for row in (header, *rows)} == {8}


def test_the_table_leaves_out_rare_columns_of_zeros_alone() -> None:
    header, *_ = TWO_TEAMS.as_table()
    assert "unknown" in header
    assert "written off" not in header
    quiet = Statement("2026-11", TWO_TEAMS.by, TWO_TEAMS.lines[1:], 0, 0)
    header, *_ = quiet.as_table()
    assert header == ("tenant", "model", "requested", "delivered", "failed", "USD")


@pytest.mark.parametrize("sandbox", [True, False])
def test_a_statement_is_read_back_from_its_json(sandbox: bool) -> None:
    statement = Statement("2026-11", TWO_TEAMS.by, TWO_TEAMS.lines, 1, 150_000, 5, sandbox)
    assert read_statement(json.loads(json.dumps(statement.as_json())), statement.by) == statement


def test_a_statement_by_nothing_is_its_totals() -> None:
    whole = Statement("2026-11", (), (Line((), Tally(requested=2)),), 0, 0)
    header, line, totals = whole.as_table()
    assert line == totals
    assert len(header) == len(line)


def test_every_form_of_a_sandbox_statement_says_so() -> None:
    pretended = Statement("2026-11", TWO_TEAMS.by, TWO_TEAMS.lines, 0, 0, sandbox=True)
    assert pretended.as_json()["sandbox"] is True
    header, *rows = read_csv(pretended)
    assert header[0] == "sandbox"
    assert [row[0] for row in rows] == ["SANDBOX", "SANDBOX"]


@given(st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"])))))
def test_a_csv_line_reads_back_as_the_cells_it_was_made_of(cells: list[str | None]) -> None:
    line = csv_line(["1", *cells])
    (read,) = csv.reader(io.StringIO(line, newline=""))
    assert [cell.removeprefix("'") for cell in read[1:]] == [
        (cell or "").removeprefix("'") for cell in cells
    ]


@given(st.text(" \t\r\n\0=+-@＝＋－＠a1", min_size=1))  # noqa: RUF001
def test_no_text_cell_can_become_a_formula(cell: str) -> None:
    (read,) = csv.reader(io.StringIO(csv_line([cell, "x"]), newline=""))
    if read[0].lstrip("-").isdigit():
        return
    assert read[0].strip(" \t\r\n\0")[:1] not in set("=+-@＝＋－＠")  # noqa: RUF001
    assert read[0][0] not in "\t\r\n\0"


@pytest.mark.parametrize("number", ["0", "-0.25", "12.000001", "-3"])
def test_numbers_stay_numbers(number: str) -> None:
    assert csv_line([number]) == f"{number}\r\n"


@pytest.mark.parametrize(
    ("text", "by"),
    [
        ("tenant,model", (Dimension.TENANT, Dimension.MODEL)),
        (" day , key ", (Dimension.DAY, Dimension.KEY)),
        ("cost_center", (Dimension.COST_CENTER,)),
        ("", ()),
    ],
)
def test_dimensions_are_read_in_their_order(text: str, by: tuple[Dimension, ...]) -> None:
    assert parse_by(text) == by


@pytest.mark.parametrize(
    ("text", "words"),
    [("tenant,colour", "'colour' is none of tenant, model"), ("day,day", "'day' stands twice")],
)
def test_a_wrong_dimension_is_named(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_by(text)


@pytest.mark.parametrize("text", ["2026-00", "2026-13", "2026-1", "26-11", "2026-11-01", "", "x"])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a month such as"):
        parse_month(text)


def test_a_month_is_itself() -> None:
    assert parse_month("2026-11") == "2026-11"
