"""Lines by request: ids that belong together, refunds, overlapping pages."""

from __future__ import annotations

from itertools import permutations

import pytest

from proxy.core.vendor_book import Bill, VendorBook
from proxy.core.vendor_lines import Meaning, Origin, Unreadable, VendorLine


def log(*keys: str, micros: int = 150_000, id_: str | None = None) -> VendorLine:
    meaning = Meaning.REFUND if micros < 0 else Meaning.CHARGE
    return VendorLine(keys, micros, meaning, Origin.LOG, 1, id_)


def task(*keys: str, micros: int = 150_000, meaning: Meaning = Meaning.CHARGE) -> VendorLine:
    return VendorLine(keys, micros, meaning, Origin.TASK, 1)


def taken(book: VendorBook, *keys: str) -> Bill:
    bill = book.take(keys)
    assert bill is not None
    return bill


def test_a_request_costs_what_its_lines_add_up_to() -> None:
    book = VendorBook([log("req-1"), log("req-1"), log("req-1", micros=-150_000)])
    assert taken(book, "req-1").micros == 150_000


def test_a_request_is_found_by_any_of_its_ids_and_once() -> None:
    book = VendorBook([log("req-1", "task_1")])
    assert taken(book, "nothing", "task_1").lines == 1
    assert book.take(["req-1", "task_1"]) is None
    assert list(book.left()) == []


@pytest.mark.parametrize("order", [*permutations(range(3))], ids=str)
def test_lines_that_share_ids_are_one_request_in_any_order(order: tuple[int, ...]) -> None:
    lines = [log("req-1"), log("task_1"), log("req-1", "task_1")]
    book = VendorBook(lines[number] for number in order)
    (bill,) = book.left()
    assert (bill.micros, bill.lines) == (450_000, 3)
    assert set(bill.keys) == {"req-1", "task_1"}
    assert taken(book, "task_1") is bill


def test_our_own_ids_join_what_the_vendors_lists_keep_apart() -> None:
    book = VendorBook([log("req-1"), task("task_1")])
    bill = taken(book, "req-1", "task_1")
    assert (bill.micros, bill.lines) == (150_000, 2)
    assert list(book.left()) == []


def test_logs_have_the_sum_where_a_task_tells_of_the_same_request() -> None:
    lines = [task("task_1", micros=250_000), log("task_1", micros=200_000)]
    assert taken(VendorBook(lines), "task_1").micros == 200_000
    assert taken(VendorBook(lines[:1]), "task_1").micros == 250_000


def test_a_failed_task_whose_charge_was_paid_back_cost_nothing() -> None:
    failed = task("task_1", micros=0, meaning=Meaning.FAILED)
    book = VendorBook([log("task_1"), failed, log("task_1", micros=-150_000)])
    bill = taken(book, "task_1")
    assert (bill.micros, bill.pending) == (0, False)


def test_an_unfinished_task_is_pending_until_it_ends() -> None:
    running = task("task_1", meaning=Meaning.PENDING)
    assert taken(VendorBook([running]), "task_1").pending
    ended = taken(VendorBook([running, task("task_1")]), "task_1")
    assert not ended.pending
    assert ended.micros == 150_000


def test_a_line_that_two_pages_have_counts_once() -> None:
    book = VendorBook([log("req-1", id_="7"), log("req-1", id_="7"), log("req-1", id_="8")])
    assert taken(book, "req-1").micros == 300_000


def test_lines_without_an_id_of_a_request_stay_apart() -> None:
    book = VendorBook([log(), log()])
    assert [bill.micros for bill in book.left()] == [150_000, 150_000]


def test_what_could_not_be_read_is_kept_to_be_told() -> None:
    told = Unreadable(3, "the amount is ''")
    book = VendorBook([told, log("req-1")])
    assert book.unreadable == [told]
    assert len(list(book.left())) == 1
