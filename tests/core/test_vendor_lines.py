"""The vendor's task and log lists: charges, refunds, what was taken in advance; odd rows told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.vendor_lines import (
    Meaning,
    Origin,
    Unreadable,
    VendorLine,
    meaning_of,
    read_logs,
    read_tasks,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["data", "items", "quota", "type", "status", "task_id", "id", "created_at"]
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def page(*rows: object) -> dict[str, Any]:
    return {"success": True, "message": "", "data": {"items": list(rows), "total": len(rows)}}


def log(**changes: object) -> dict[str, object]:
    plain = {
        "id": 9001,
        "type": 2,
        "quota": 75_000,
        "request_id": "req-1",
        "model_name": "veo-3.1-fast",
        "created_at": 1_793_707_200,
    }
    return {**plain, **changes}


def task(**changes: object) -> dict[str, object]:
    plain = {
        "task_id": "task_1",
        "status": "completed",
        "quota": 125_000,
        "model_name": "veo-3.1",
        "submit_time": 1_793_707_100,
        "finish_time": 1_793_707_200,
    }
    return {**plain, **changes}


def one(lines: Any) -> VendorLine:
    (line,) = lines
    assert isinstance(line, VendorLine)
    return line


def test_a_log_line_is_a_charge_in_the_vendors_units() -> None:
    assert one(read_logs(page(log()))) == VendorLine(
        keys=("req-1",),
        micros=150_000,
        meaning=Meaning.CHARGE,
        origin=Origin.LOG,
        place=1,
        id="9001",
        model="veo-3.1-fast",
        at=datetime(2026, 11, 3, 12, tzinfo=UTC),
    )


@pytest.mark.parametrize("quota", [75_000, -75_000])
@pytest.mark.parametrize("kind", [11, "11", 6, "refund", "退款", "任务失败退还"], ids=repr)
def test_a_refund_takes_away_whichever_sign_it_has(kind: object, quota: int) -> None:
    line = one(read_logs(page(log(type=kind, quota=quota))))
    assert (line.micros, line.meaning) == (-150_000, Meaning.REFUND)


@pytest.mark.parametrize("kind", [1, 3, 4, 5, "充值", "Top-up", "system", "错误"])
def test_what_has_nothing_to_do_with_clips_is_passed_over(kind: object) -> None:
    assert list(read_logs(page(log(type=kind)))) == []


@pytest.mark.parametrize(
    ("kind", "micros", "meaning"),
    [
        (None, 5, Meaning.CHARGE),
        (None, -5, Meaning.REFUND),
        (99, 5, Meaning.CHARGE),
        ("预扣费", 5, Meaning.CHARGE),
        ("消费", 5, Meaning.CHARGE),
        ("consumption", 5, Meaning.CHARGE),
    ],
)
def test_without_a_known_type_the_sign_decides(kind: object, micros: int, meaning: Meaning) -> None:
    assert meaning_of(kind, micros) is meaning


def test_a_completed_task_cost_its_quota() -> None:
    line = one(read_tasks(page(task())))
    assert (line.micros, line.meaning, line.origin) == (250_000, Meaning.CHARGE, Origin.TASK)
    assert line.keys == ("task_1",)


@pytest.mark.parametrize("status", ["failed", "FAILURE", "cancelled"])
def test_a_failed_task_cost_nothing_though_it_shows_what_was_taken(status: str) -> None:
    line = one(read_tasks(page(task(status=status))))
    assert (line.micros, line.meaning) == (0, Meaning.FAILED)


@pytest.mark.parametrize("status", ["submitted", "in_progress", "", "whatever"])
def test_what_an_unfinished_task_took_is_pending(status: str) -> None:
    line = one(read_tasks(page(task(status=status, finish_time=0))))
    assert (line.micros, line.meaning) == (250_000, Meaning.PENDING)
    assert line.at is not None


@pytest.mark.parametrize(
    "envelope",
    [
        [log()],
        {"items": [log()]},
        {"data": [log()]},
        {"data": {"items": [log()]}},
        {"data": {"data": [log()]}},
        {"data": {"logs": [log()]}},
    ],
)
def test_a_page_is_found_in_any_envelope(envelope: object) -> None:
    assert one(read_logs(envelope)).micros == 150_000


@pytest.mark.parametrize("empty", [{"data": {"items": []}}, {"data": {"items": None}}, []])
def test_an_empty_page_has_no_lines(empty: object) -> None:
    assert list(read_logs(empty)) == []


@pytest.mark.parametrize("read", [read_logs, read_tasks])
@pytest.mark.parametrize("nothing", [None, "", {}, {"success": False, "message": "无权"}, 7])
def test_a_page_without_a_list_is_told(read: Any, nothing: object) -> None:
    assert list(read(nothing)) == [Unreadable(0, "the page has no list")]


def test_a_row_that_cannot_be_read_is_told_and_stops_nothing() -> None:
    found = list(read_logs(page(log(quota="free"), 7, log())))
    assert found[:2] == [
        Unreadable(1, "the quota is 'free'"),
        Unreadable(2, "the row is no object"),
    ]
    assert isinstance(found[2], VendorLine)


@given(JSON)
def test_any_page_is_read(said: object) -> None:
    for read in (read_logs, read_tasks):
        for line in read(said):
            assert isinstance(line, VendorLine | Unreadable)
