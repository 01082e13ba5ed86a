"""Effective-dated price book; what a delivered clip costs, in whole micro-dollars.

A price is the line with the latest `valid_from` not after the clip's acceptance. A model without a
line has no price and is refused, never free (contract, "config.yaml").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

MICROS_PER_USD: Final = 1_000_000

_USD: Final = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,6}))?")


@dataclass(frozen=True, slots=True)
class PriceLine:
    """`model` costs `micros` a clip for clips accepted on or after `valid_from` (UTC)."""

    model: str
    micros: int
    valid_from: date
    version: str


@dataclass(frozen=True, slots=True)
class Price:
    """What one clip costs its tenant, the list price beside it, and the line that said so."""

    micros: int
    list_micros: int
    version: str


class PriceBook:
    """Price lines, looked up by model and day."""

    def __init__(self, lines: Iterable[PriceLine]) -> None:
        """Take `lines` in any order; two for one model and day are a `ValueError`."""
        self._lines: dict[str, list[PriceLine]] = {}
        for line in sorted(lines, key=lambda line: (line.model, line.valid_from)):
            of_model = self._lines.setdefault(line.model, [])
            if of_model and of_model[-1].valid_from == line.valid_from:
                message = f"two prices for {line.model} from {line.valid_from}"
                raise ValueError(message)
            of_model.append(line)

    def quote(self, model: str, on: date) -> Price | None:
        """The price of one clip of `model` accepted on the UTC day `on`."""
        for line in reversed(self._lines.get(model, ())):
            if line.valid_from <= on:
                return Price(line.micros, line.micros, line.version)
        return None


def parse_usd(text: str) -> int:
    """Whole micro-dollars of a decimal string such as "0.15".

    Raises `ValueError` for anything but plain digits with at most six decimals.
    """
    match = _USD.fullmatch(text)
    if match is None:
        message = f"{text!r} is not an amount in dollars such as 0.15"
        raise ValueError(message)
    whole, decimals = match.group(1), match.group(2) or ""
    return int(whole) * MICROS_PER_USD + int(decimals.ljust(6, "0"))


def format_usd(micros: int) -> str:
    """`micros` as a plain decimal string: two decimals, or as many of six as it needs."""
    sign = "-" if micros < 0 else ""
    whole, rest = divmod(abs(micros), MICROS_PER_USD)
    decimals = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{decimals}"
