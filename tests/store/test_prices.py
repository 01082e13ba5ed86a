"""The price book only grows, and never behind a clip that was accepted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from sqlalchemy.exc import IntegrityError

from proxy.core.pricing import PriceLine
from proxy.store.database import Database
from proxy.store.prices import PriceChanged, PriceTooLate, import_lines, load_book
from tests.store.asks import LINE, MODEL, NOW, count_of, everything, let_in, read, rows_of, write


def import_(database: Database, *lines: PriceLine) -> int:
    return write(database, lambda tx: import_lines(tx, lines, NOW, "config"))


def line(micros: int, day: date) -> PriceLine:
    return PriceLine(MODEL, micros, day, f"{MODEL}@{day}")


def test_the_book_quotes_what_was_imported(database: Database) -> None:
    assert import_(database, line(300_000, date(2027, 1, 1))) == 1
    book = read(database, load_book)
    before, after = book.quote(MODEL, date(2026, 12, 31)), book.quote(MODEL, date(2027, 1, 1))
    assert before is not None
    assert after is not None
    assert (before.micros, after.micros) == (250_000, 300_000)
    assert rows_of(database, "SELECT origin FROM prices ORDER BY valid_from") == [
        ("test",),
        ("config",),
    ]


def test_the_same_lines_again_add_nothing(database: Database) -> None:
    before = everything(database)
    assert import_(database, LINE, LINE) == 0
    assert everything(database) == before


def test_another_amount_for_a_model_and_day_is_refused_and_nothing_is_kept(
    database: Database,
) -> None:
    changed = replace(LINE, micros=1)
    with pytest.raises(PriceChanged, match=r"veo-3\.1 from 2025-01-01 costs 0\.25 .* not 0\.00"):
        import_(database, line(300_000, date(2027, 1, 1)), changed)
    assert count_of(database, "prices") == 1


@pytest.mark.parametrize("day", [date(2024, 1, 1), date(2026, 11, 21), date(2026, 11, 22)])
def test_a_line_at_or_before_an_accepted_clip_names_both(database: Database, day: date) -> None:
    let_in(database, 1)
    with pytest.raises(PriceTooLate, match=rf"{MODEL} from {day} .* 2026-11-22 12:00 UTC"):
        import_(database, line(300_000, day))
    assert count_of(database, "prices") == 1


def test_a_line_from_the_day_after_the_last_clip_is_added(database: Database) -> None:
    let_in(database, 1, now=datetime(2026, 11, 22, 23, 59, 59, 999_999, UTC))
    assert import_(database, line(300_000, date(2026, 11, 23))) == 1


def test_clips_of_other_models_hold_nothing_up(database: Database) -> None:
    let_in(database, 1)
    other = PriceLine("veo-3.1-fast", 150_000, date(2025, 1, 1), "veo-3.1-fast@2025-01-01")
    assert import_(database, other) == 1


def test_one_version_names_one_line(database: Database) -> None:
    with pytest.raises(IntegrityError):
        import_(database, replace(line(300_000, date(2027, 1, 1)), version=LINE.version))
