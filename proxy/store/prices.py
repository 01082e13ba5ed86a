"""The price book on disk: lines are added, never changed, and never behind an accepted clip."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, time
from typing import Final

from sqlalchemy import Connection, func, insert, select

from proxy.core.pricing import PriceBook, PriceLine, format_usd
from proxy.store.tables import CLIPS, PRICES


class PriceChanged(Exception):
    """The book has another amount for this model and day."""


class PriceTooLate(Exception):
    """A clip was accepted already on or after the day the line begins."""


_LINES: Final = select(PRICES.c.model, PRICES.c.micros, PRICES.c.valid_from, PRICES.c.version)


def import_lines(tx: Connection, lines: Iterable[PriceLine], now: datetime, origin: str) -> int:
    """Append what the book does not have yet; how many lines that was.

    `origin` says who added them, "config" say. Raises `PriceChanged` for a line that the book has
    with another amount, and `PriceTooLate` for one that clips were accepted without.
    """
    known = {(line.model, line.valid_from): line for line in _read(tx)}
    added = 0
    for line in lines:
        there = known.get((line.model, line.valid_from))
        if there is None:
            _refuse_late(tx, line)
            _insert(tx, line, now, origin)
            known[line.model, line.valid_from] = line
            added += 1
        elif there.micros != line.micros:
            message = (
                f"{line.model} from {line.valid_from} costs {format_usd(there.micros)} in the "
                f"price book, not {format_usd(line.micros)}; prices are never changed, give the "
                "new amount a later day"
            )
            raise PriceChanged(message)
    return added


def load_book(tx: Connection) -> PriceBook:
    """Every line, as the book that quotes."""
    return PriceBook(_read(tx))


def _read(tx: Connection) -> list[PriceLine]:
    return [PriceLine(*row) for row in tx.execute(_LINES)]


def _insert(tx: Connection, line: PriceLine, now: datetime, origin: str) -> None:
    row = {
        "version": line.version,
        "model": line.model,
        "micros": line.micros,
        "valid_from": line.valid_from,
        "added_at": now,
        "origin": origin,
    }
    tx.execute(insert(PRICES).values(row))


def _refuse_late(tx: Connection, line: PriceLine) -> None:
    midnight = datetime.combine(line.valid_from, time(), UTC)
    latest: datetime | None = tx.execute(
        select(func.max(CLIPS.c.accepted_at, type_=CLIPS.c.accepted_at.type)).where(
            CLIPS.c.model == line.model, CLIPS.c.accepted_at >= midnight
        )
    ).scalar()
    if latest is not None:
        message = (
            f"a price of {line.model} from {line.valid_from} comes too late: a clip of it was "
            f"accepted at {latest:%Y-%m-%d %H:%M} UTC; give the new amount a later day"
        )
        raise PriceTooLate(message)
