"""Our clips against the vendor's lines: every clip told, and no micro-dollar lost."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.reconcile import (
    Comparison,
    Finding,
    OurClip,
    OurRequest,
    Verdict,
    reconcile,
    requests_of,
)
from proxy.core.vendor_book import VendorBook
from proxy.core.vendor_lines import Meaning, Origin, VendorLine
from tests.exports import START, clip_row, credit_row, failed_row, replayed_row

PRICE = 150_000


def request(*delivered: bool, number: int = 1, neighbour: bool = False) -> OurRequest:
    clips = tuple(
        OurClip(f"video_{number}{letter}", PRICE, is_there)
        for letter, is_there in zip("abcd", delivered, strict=False)
    )
    return OurRequest(f"gen_{number}", (f"req-{number}",), clips, neighbour)


def charge(micros: int, number: int = 1, day: int = 0) -> VendorLine:
    at = START + timedelta(days=day)
    return VendorLine((f"req-{number}",), micros, Meaning.CHARGE, Origin.LOG, 1, at=at)


def told(requests: list[OurRequest], *lines: VendorLine) -> list[tuple[str, str | None, int, int]]:
    return [
        (finding.verdict, finding.clip_id, finding.ours_micros, finding.theirs_micros)
        for finding in reconcile(requests, VendorBook(lines))
    ]


def test_a_clip_that_both_have_matches() -> None:
    assert told([request(True)], charge(PRICE)) == [("matched", "video_1a", PRICE, PRICE)]


def test_one_line_can_pay_for_several_clips() -> None:
    assert told([request(True, True)], charge(2 * PRICE)) == [
        ("matched", "video_1a", PRICE, PRICE),
        ("matched", "video_1b", PRICE, PRICE),
    ]


def test_a_clip_that_the_vendor_does_not_have_is_ours_alone() -> None:
    assert told([request(True)]) == [("only_ours", "video_1a", PRICE, 0)]
    assert told([request(True)], charge(PRICE), charge(-PRICE)) == [
        ("only_ours", "video_1a", PRICE, 0)
    ]


def test_a_bill_that_we_do_not_have_is_theirs_alone() -> None:
    assert told([], charge(PRICE)) == [("only_theirs", None, 0, PRICE)]


def test_a_failed_clip_that_was_billed_is_named() -> None:
    assert told([request(True, False)], charge(2 * PRICE)) == [
        ("matched", "video_1a", PRICE, PRICE),
        ("only_theirs", "video_1b", 0, PRICE),
    ]


def test_a_failed_clip_that_was_paid_back_is_no_finding() -> None:
    assert told([request(False)], charge(PRICE), charge(-PRICE)) == []


def test_a_bill_for_more_clips_than_were_asked_for_is_theirs_alone() -> None:
    assert told([request(True)], charge(3 * PRICE)) == [
        ("matched", "video_1a", PRICE, PRICE),
        ("only_theirs", None, 0, PRICE),
        ("only_theirs", None, 0, PRICE),
    ]


def test_a_bill_for_fewer_leaves_the_rest_ours_alone() -> None:
    assert told([request(True, True)], charge(PRICE)) == [
        ("matched", "video_1a", PRICE, PRICE),
        ("only_ours", "video_1b", PRICE, 0),
    ]


def test_another_amount_is_shared_out_to_the_micro() -> None:
    assert told([request(True, True)], charge(200_001)) == [
        ("different", "video_1a", PRICE, 100_001),
        ("different", "video_1b", PRICE, 100_000),
    ]


def test_another_amount_for_nothing_is_theirs_alone() -> None:
    assert told([request(False)], charge(1)) == [("only_theirs", None, 0, 1)]


def test_a_clip_for_which_the_vendor_asks_nothing_matches() -> None:
    free = OurRequest("gen_1", ("req-1",), (OurClip("video_1", 0, delivered=True),))
    assert told([free]) == [("matched", "video_1", 0, 0)]


def test_what_an_unfinished_task_took_is_pending() -> None:
    line = VendorLine(("req-1",), PRICE, Meaning.PENDING, Origin.TASK, 1)
    assert told([request(True, False)], line) == [
        ("pending", "video_1a", PRICE, 0),
        ("pending", "video_1b", 0, 0),
    ]
    assert told([request(True)], line, charge(PRICE)) == [("pending", "video_1a", PRICE, PRICE)]
    assert told([], line) == [("pending", None, 0, 0)]


def test_a_finding_says_whether_our_own_clip_is_settled() -> None:
    unknown = OurRequest("gen_1", ("req-1",), (OurClip("video_1", PRICE, False, False),))
    (finding,) = reconcile([unknown], VendorBook([charge(PRICE)]))
    assert (finding.verdict, finding.settled) == (Verdict.ONLY_THEIRS, False)


def test_a_neighbour_explains_a_bill_and_is_not_found_itself() -> None:
    requests = [request(True, neighbour=True), request(True, number=2, neighbour=True)]
    assert told(requests, charge(PRICE)) == []


def test_another_months_bills_are_passed_over() -> None:
    window = (START, START + timedelta(days=30))
    lines = [charge(PRICE, 1, day=-1), charge(PRICE, 2, day=0), charge(PRICE, 3, day=30)]
    found = list(reconcile([], VendorBook(lines), window))
    assert [finding.keys for finding in found] == [("req-2",)]


def test_requests_are_made_of_rows_that_stand_together() -> None:
    rows = [
        clip_row(1, generation_id="gen_1", upstream_id="task_1"),
        failed_row(2, generation_id="gen_1", upstream_request_id="req-1"),
        clip_row(3, generation_id="gen_2", outcome="unknown", completed_at=None),
        replayed_row(4, "video_00000001", generation_id="gen_3", upstream_id="task_1"),
        credit_row(5, 10),
    ]
    first, second = requests_of(rows)
    assert first.keys == ("req-1", "task_1")
    assert [(clip.delivered, clip.settled) for clip in first.clips] == [(True, True), (False, True)]
    assert [(clip.delivered, clip.settled) for clip in second.clips] == [(False, False)]


REQUESTS = st.lists(st.lists(st.booleans(), min_size=1, max_size=4), max_size=6)
LINES = st.lists(
    st.tuples(
        st.integers(0, 7),
        st.sampled_from([PRICE, 2 * PRICE, -PRICE, 100_000, 1, -1, 0]),
        st.sampled_from(Meaning),
        st.sampled_from(Origin),
    ),
    max_size=12,
)


@given(REQUESTS, LINES)
def test_the_findings_add_up_to_both_sides(
    delivered: list[list[bool]], lines: list[tuple[int, int, Meaning, Origin]]
) -> None:
    requests = [request(*clips, number=number) for number, clips in enumerate(delivered)]
    read = [
        VendorLine((f"req-{number}",), micros, meaning, origin, place)
        for place, (number, micros, meaning, origin) in enumerate(lines)
    ]
    theirs = sum(bill.micros for bill in VendorBook(read).left())
    comparison = Comparison()
    names: Counter[str | None] = Counter()
    for finding in reconcile(requests, VendorBook(read)):
        comparison.add(finding)
        names[finding.clip_id] += 1
    ours = sum(PRICE for clips in delivered for there in clips if there)
    assert sum(comparison.ours_micros.values()) == ours
    assert sum(comparison.theirs_micros.values()) == theirs
    assert all(count == 1 for name, count in names.items() if name is not None)
    matched = Verdict.MATCHED
    assert comparison.ours_micros.get(matched, 0) == comparison.theirs_micros.get(matched, 0)
    found = {
        f"video_{number}{letter}"
        for number, clips in enumerate(delivered)
        for letter, there in zip("abcd", clips, strict=False)
        if there
    }
    assert found <= names.keys()


@pytest.mark.parametrize(
    ("findings", "ratio", "agrees"),
    [
        ([], None, True),
        ([(Verdict.MATCHED, 150_000, 150_000)], 1.0, True),
        ([(Verdict.MATCHED, 150_000, 150_000), (Verdict.ONLY_THEIRS, 0, 150_000)], 0.5, False),
        ([(Verdict.ONLY_OURS, 150_000, 0)], None, False),
        ([(Verdict.MATCHED, 150_000, 150_000), (Verdict.PENDING, 150_000, 300_000)], 1.0, False),
    ],
)
def test_the_capture_ratio_is_our_sum_over_theirs(
    findings: list[tuple[Verdict, int, int]], ratio: float | None, agrees: bool
) -> None:
    comparison = Comparison()
    for verdict, ours, theirs in findings:
        comparison.add(Finding(verdict, ours, theirs))
    assert comparison.capture_ratio == ratio
    assert comparison.agrees is agrees
