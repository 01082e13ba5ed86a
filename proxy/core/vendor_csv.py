"""An invoice or a list of the vendor's as CSV: which column says what is configurable.

Nobody has shown us the vendor's own layout, so the usual headings, English and Chinese, are known,
and a map of ours → theirs names all others. Commas, semicolons and tabs are understood, a byte
order mark is, and a row that cannot be read is told with its number and never stops the rest.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from itertools import chain
from typing import Final

from proxy.core.vendor_lines import Origin, Unreadable, VendorLine, meaning_of, signed
from proxy.core.vendor_values import moment, unit_micros, usd_micros


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """The headings of a file: which column holds what, None for what it does not say.

    The amount stands in vendor units (`quota`) or in dollars (`usd`). `utc_offset_minutes` says how
    far east of UTC times without a zone were written: 480 for China.
    """

    request_id: str | None = None
    task_id: str | None = None
    quota: str | None = None
    usd: str | None = None
    type: str | None = None
    model: str | None = None
    time: str | None = None
    line_id: str | None = None
    utc_offset_minutes: int = 0


_NAMES: Final = tuple(each.name for each in fields(ColumnMap))[:-1]

_USUAL: Final[Mapping[str, tuple[str, ...]]] = {
    "request_id": ("request_id", "request id", "requestid", "x-shellapi-request-id", "请求id"),
    "task_id": ("task_id", "task id", "taskid", "video_id", "video id", "任务id", "视频id"),
    "quota": ("quota", "units", "used quota", "额度", "消耗额度", "消费额度"),
    "usd": ("usd", "amount", "amount_usd", "amount (usd)", "cost", "cost (usd)", "金额", "费用"),
    "type": ("type", "kind", "类型", "日志类型"),
    "model": ("model_name", "model", "model name", "模型", "模型名称"),
    "time": ("created_at", "time", "date", "created", "timestamp", "时间", "日期", "创建时间"),
    "line_id": ("id", "line_id", "log_id", "日志id"),
}


def read_map(said: Mapping[str, str]) -> ColumnMap:
    """A map of ours → theirs from somebody's words; a `ValueError` names what is wrong."""
    unknown = sorted(said.keys() - {*_NAMES, "utc_offset_minutes"})
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: none of {', '.join(_NAMES)}, utc_offset_minutes")
    offset = said.get("utc_offset_minutes", "0")
    try:
        minutes = int(offset)
    except ValueError:
        raise ValueError(f"utc_offset_minutes: {offset!r} is no whole number") from None
    if abs(minutes) > 24 * 60:
        raise ValueError(f"utc_offset_minutes: {minutes} is more than a day")
    return ColumnMap(**{name: said.get(name) for name in _NAMES}, utc_offset_minutes=minutes)


def read_csv(
    lines: Iterable[str], columns: ColumnMap | None = None
) -> Iterator[VendorLine | Unreadable]:
    """The lines of a CSV file, whose text comes in `lines` with their line ends.

    `columns` is completed with the usual headings. The header is row 0: a file without an amount,
    or without any id, is one unreadable row.
    """
    arriving = iter(lines)
    first = next(arriving, "").lstrip("\ufeff")
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(chain((first,), arriving), delimiter=delimiter)
    header = _next(reader)
    if isinstance(header, str) or not header:
        yield Unreadable(0, header if isinstance(header, str) else "the file is empty")
        return
    places = _places(header, columns or ColumnMap())
    if not places.keys() & {"quota", "usd"} or not places.keys() & {"request_id", "task_id"}:
        yield Unreadable(
            0,
            "the header names no amount, or no id of requests; say which columns they are: "
            f"{', '.join(header)!r:.200}",
        )
        return
    offset = timedelta(minutes=columns.utc_offset_minutes if columns else 0)
    place = 0
    while (row := _next(reader)) is not None:
        place += 1
        if isinstance(row, str):
            yield Unreadable(place, row)
        elif any(cell.strip() for cell in row):
            line = _line(place, row, places, offset)
            if line is not None:
                yield line


def _line(
    place: int, row: list[str], places: Mapping[str, int], offset: timedelta
) -> VendorLine | Unreadable | None:
    """One row, None where it is about no clip: a top-up, say."""
    said = {name: row[at].strip() for name, at in places.items() if at < len(row)}
    name = "quota" if "quota" in places else "usd"
    value = said.get(name, "")
    micros = unit_micros(value) if name == "quota" else usd_micros(value)
    meaning = meaning_of(said.get("type"), micros)
    if meaning is None:
        return None
    if micros is None:
        return Unreadable(place, f"the amount is {value!r:.40}")
    return VendorLine(
        keys=tuple(key for name in ("request_id", "task_id") if (key := said.get(name))),
        micros=signed(micros, meaning),
        meaning=meaning,
        origin=Origin.LOG,
        place=place,
        id=said.get("line_id") or None,
        model=said.get("model") or None,
        at=moment(said.get("time"), offset),
    )


def _places(header: list[str], columns: ColumnMap) -> dict[str, int]:
    """Where each of our names stands: where the map says, else under a usual heading."""
    headings = {heading.strip().casefold(): at for at, heading in reversed([*enumerate(header)])}
    places = {}
    for name in _NAMES:
        mapped = getattr(columns, name)
        wanted = _USUAL[name] if mapped is None else (mapped.strip().casefold(),)
        found = next((headings[heading] for heading in wanted if heading in headings), None)
        if found is not None:
            places[name] = found
    return places


def _next(reader: Iterator[list[str]]) -> list[str] | str | None:
    """The next row, why it cannot be read, or None at the end."""
    try:
        return next(reader, None)
    except csv.Error as error:
        return f"this is no CSV: {error}"
