"""The vendor's files: usual headings, headings of a map, and rows that cannot be read."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.vendor_csv import ColumnMap, read_csv, read_map
from proxy.core.vendor_lines import Meaning, Unreadable, VendorLine

Found = list[VendorLine | Unreadable]


def read(text: str, columns: ColumnMap | None = None) -> Found:
    return list(read_csv(io.StringIO(text, newline=""), columns))


def lines(found: Found) -> list[tuple[tuple[str, ...], int]]:
    assert not [line for line in found if isinstance(line, Unreadable)]
    return [(line.keys, line.micros) for line in found if isinstance(line, VendorLine)]


@pytest.mark.parametrize(
    "text",
    [
        "request_id,quota\r\nreq-1,75000\r\n",
        "\ufeffRequest ID;Quota\nreq-1;75000\n",
        "请求ID\t额度\nreq-1\t75000",
        "Time,Request ID,Amount (USD)\n2026-11-03,req-1,$0.15\n",
        "request_id,quota\r\n\r\nreq-1,75000\r\n,\r\n",
    ],
    ids=["plain", "semicolons", "Chinese", "dollars", "blank rows"],
)
def test_usual_headings_are_known(text: str) -> None:
    assert lines(read(text)) == [(("req-1",), 150_000)]


def test_a_map_names_what_is_unusual() -> None:
    columns = read_map(
        {"task_id": "Job", "usd": "Net", "time": "When", "utc_offset_minutes": "480"}
    )
    (line,) = read("When,Job,Net\n2026-11-03 20:00:00,task_1,0.25\n", columns)
    assert isinstance(line, VendorLine)
    assert (line.keys, line.micros) == (("task_1",), 250_000)
    assert line.at == datetime(2026, 11, 3, 12, tzinfo=UTC)


def test_the_map_comes_before_the_usual_headings() -> None:
    text = "request_id,amount,quota,net\nreq-1,9,9,0.15\n"
    assert lines(read(text, ColumnMap(usd="net", quota="none"))) == [(("req-1",), 150_000)]


def test_types_and_all_ids_are_read() -> None:
    text = (
        "id,request_id,task_id,type,quota,model\n"
        "1,req-1,task_1,2,75000,veo-3.1-fast\n"
        "2,req-1,,refund,75000,veo-3.1-fast\n"
        "3,,,top-up,5000000,\n"
    )
    charge, refund = read(text)
    assert isinstance(charge, VendorLine)
    assert isinstance(refund, VendorLine)
    assert (charge.keys, charge.id, charge.place) == (("req-1", "task_1"), "1", 1)
    assert (refund.micros, refund.meaning, refund.place) == (-150_000, Meaning.REFUND, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("a,b\n1,2\n", "names no amount, or no id"),
        ("request_id\nreq-1\n", "names no amount, or no id"),
        ("quota\n5\n", "names no amount, or no id"),
    ],
)
def test_a_file_that_cannot_be_compared_is_told_at_once(text: str, words: str) -> None:
    (told,) = read(text)
    assert isinstance(told, Unreadable)
    assert told.place == 0
    assert words in told.why


def test_a_row_that_cannot_be_read_is_told_and_stops_nothing() -> None:
    found = read("request_id,quota\nreq-1,free\nreq-2\nreq-3,75000\n")
    assert found[:2] == [
        Unreadable(1, "the amount is 'free'"),
        Unreadable(2, "the amount is ''"),
    ]
    assert lines(found[2:]) == [(("req-3",), 150_000)]


def test_a_cell_larger_than_any_id_is_told_and_stops_nothing() -> None:
    huge = "x" * (csv.field_size_limit() + 1)
    found = read(f"request_id,quota\n{huge},1\nreq-2,75000\n")
    assert isinstance(found[0], Unreadable)
    assert "no CSV" in found[0].why
    assert lines(found[1:]) == [(("req-2",), 150_000)]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"amount": "Net"}, "amount: none of request_id, task_id"),
        ({"utc_offset_minutes": "east"}, "'east' is no whole number"),
        ({"utc_offset_minutes": "9999"}, "more than a day"),
    ],
)
def test_a_wrong_map_is_explained(said: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_map(said)


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    for line in read(text):
        assert isinstance(line, VendorLine | Unreadable)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_anything_below_a_good_header_is_read(text: str) -> None:
    for line in read(f"request_id,quota,type,created_at\n{text}"):
        assert isinstance(line, VendorLine | Unreadable)
