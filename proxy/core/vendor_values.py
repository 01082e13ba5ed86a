"""Single values of the vendor's lists and of invoices: amounts, times, ids, read totally.

What cannot be read is None. An amount is read from its digits, never through a float of ours.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Final

from proxy.core.pricing import MICROS_PER_USD

UNITS_PER_USD: Final = 500_000
"""Of the units that One-API and its kin keep their books in (wire facts, section 7)."""

_NUMBER: Final = re.compile(r"[-+]?(?:[0-9][0-9,]*(?:\.[0-9]*)?|\.[0-9]+)")
_CURRENCY: Final = re.compile(r"USD|US\$|\$", re.IGNORECASE)
_SECONDS_MAX: Final = 10**11
"""Larger times are milliseconds: as seconds they lie in the year 5138 and beyond."""
_DIGITS_MAX: Final = 18


def unit_micros(value: object) -> int | None:
    """Micro-dollars of the vendor's units."""
    number = amount(value)
    return None if number is None else _rounded(number * MICROS_PER_USD / UNITS_PER_USD)


def usd_micros(value: object) -> int | None:
    """Micro-dollars of dollars, with or without the currency's sign."""
    number = amount(value)
    return None if number is None else _rounded(number * MICROS_PER_USD)


def amount(value: object) -> Decimal | None:
    """A number as it is written: 0.15, "-0.15", "$1,234.50", "(0.15)" for a negative one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        bare = _CURRENCY.sub("", value).strip()
        if bare.startswith("(") and bare.endswith(")"):
            bare = f"-{bare[1:-1].strip()}"
        if _NUMBER.fullmatch(bare) is None:
            return None
        written = bare.replace(",", "")
    elif isinstance(value, int):
        written = "NaN" if whole(value) is None else str(value)
    else:
        written = repr(value)
    try:
        number = Decimal(written)
    except InvalidOperation:
        return None
    return number if number.is_finite() and number.adjusted() < _DIGITS_MAX else None


def moment(value: object, offset: timedelta = timedelta()) -> datetime | None:
    """A time in UTC: Unix seconds or milliseconds, or ISO 8601.

    `offset` is how far east of UTC a text without a zone was written.
    """
    number = whole(value)
    try:
        if number is not None:
            seconds = number // 1_000 if number > _SECONDS_MAX else number
            return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None
        if not isinstance(value, str):
            return None
        read = datetime.fromisoformat(value.strip().replace("/", "-"))
        if read.tzinfo is None:
            return (read - offset).replace(tzinfo=UTC)
        return read.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def text(value: object) -> str | None:
    """An id or a name, without blanks around it; numbers are ids too."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    bare = value.strip() if isinstance(value, str) else str(whole(value) or "")
    return bare or None


def whole(value: object) -> int | None:
    """A whole number of up to eighteen digits, or its text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        return value if abs(value) < 10**_DIGITS_MAX else None
    bare = value.strip() if isinstance(value, str) else ""
    return int(bare) if bare.isascii() and bare.isdigit() and len(bare) <= _DIGITS_MAX else None


def _rounded(number: Decimal) -> int:
    return int(number.to_integral_value(ROUND_HALF_EVEN))
