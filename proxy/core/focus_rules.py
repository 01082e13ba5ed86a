"""Does a FOCUS file keep the rules? Columns, formats, and what the columns of a row say together.

The rules are the specification's (their numbers are those of the published model of 1.2, or of 1.4
where they are new there), as far as a file alone can show, and a few of our own where linters are
known to look away: exact products, no fraction in a time, no key twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from proxy.core.focus_columns import Version
from proxy.core.focus_model import ALLOWED, MODEL
from proxy.core.focus_relations import ROW_RULES, Row


@dataclass(frozen=True, slots=True)
class Breach:
    """A rule that a file breaks: in which row (from 1, None for the columns), and where."""

    rule: str
    column: str
    row: int | None = None
    value: str = ""


def breaches(
    version: Version, header: Sequence[str], rows: Iterable[Sequence[str]]
) -> Iterator[Breach]:
    """Every breach of the rules in a file, in the order of its rows.

    Rows are not looked at while columns are missing, or stand twice.
    """
    found = list(_column_breaches(version, header))
    yield from found
    if any(breach.rule in {"column missing", "column twice"} for breach in found):
        return
    rules = [rule for rule in ROW_RULES if version in rule.versions]
    seen = _Seen()
    for number, cells in enumerate(rows, 1):
        row = dict(zip(header, cells, strict=True))
        wrong = False
        for name, value in row.items():
            rule = _cell_breach(name, value)
            if rule is not None:
                wrong = True
                yield Breach(rule, name, number, value)
        if not wrong:  # what columns say together means nothing where one cannot be read
            for each in rules:
                if not each.kept(row):
                    name = each.columns[0]
                    yield Breach(each.rule, name, number, row.get(name, ""))
        for rule, name in seen.contradictions(row):
            yield Breach(rule, name, number, row[name])


def _column_breaches(version: Version, header: Sequence[str]) -> Iterator[Breach]:
    for name, column in MODEL.items():
        if name not in header and column.demanded(version):
            yield Breach("column missing", name)
    own = False
    for at, name in enumerate(header):
        if name in header[:at]:
            yield Breach("column twice", name)
        if name.startswith("x_"):
            own = True
        elif name not in MODEL or MODEL[name].levels[version] == "-":
            yield Breach("column unknown", name)
        elif own:
            yield Breach("FOCUS column after our own", name)


_FORMS: Final[Mapping[str, re.Pattern[str]]] = {
    "decimal": re.compile(r"-?[0-9]+\.[0-9]+"),
    "non-negative": re.compile(r"[0-9]+\.[0-9]+"),
    "currency": re.compile(r"[A-Z]{3}"),
    "unit": re.compile(r"(?:[1-9][0-9]* )?[A-Z][A-Za-z]*(?:[-/][A-Z][A-Za-z]*)?"),
    "time": re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"),
    "text": re.compile(r".*\S.*", re.DOTALL),
}


def _cell_breach(name: str, value: str) -> str | None:
    """The rule that a cell breaks by itself."""
    column = MODEL.get(name)
    if column is None:
        return None
    if not value:
        return None if column.nullable else "null"
    if column.form == "one-of":
        return None if value in ALLOWED[name] else "not an allowed value"
    if column.form in {"flat", "object"}:
        return _json_breach(name, value)
    if _FORMS[column.form].fullmatch(value) is None:
        return f"not a {column.form}"
    if column.form == "time" and _moment(value) is None:
        return "not a time"
    return None


def _json_breach(name: str, value: str) -> str | None:
    pairs: list[tuple[str, Any]]
    try:
        said = orjson.loads(value)
    except orjson.JSONDecodeError:
        return "not JSON"
    if not isinstance(said, dict):
        return "not a JSON object"
    pairs = list(said.items())
    if any(isinstance(inner, dict | list) for _, inner in pairs):
        return "not a flat JSON object"
    if name == "SkuPriceDetails" and not all(key.startswith("x_") for key, _ in pairs):
        return "SkuPriceDetails-C-017-C"
    return None


class _Seen:
    """What must be the same, or must differ, from row to row."""

    _ONE: Final = (
        ("SkuPriceId-C-008-M", "SkuPriceId", ("SkuId",)),
        ("ServiceName-C-005-C", "ServiceName", ("ServiceCategory",)),
        ("InvoiceId-C-007-C", "InvoiceId", ("BillingAccountId", "BillingPeriodStart")),
    )

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._parents: dict[tuple[str, str], tuple[str | None, ...]] = {}

    def contradictions(self, row: Row) -> Iterator[tuple[str, str]]:
        """Rules and columns by which `row` contradicts the rows before it."""
        key = row.get("x_ChargeKey", "")
        if key and key in self._keys:
            yield "charge twice", "x_ChargeKey"
        self._keys.add(key)
        for rule, name, of in self._ONE:
            value = row.get(name, "")
            if value:
                parents = tuple(row.get(parent) for parent in of)
                if self._parents.setdefault((name, value), parents) != parents:
                    yield rule, name


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
