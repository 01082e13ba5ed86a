"""What commands print: tables drawn on a terminal, plain aligned columns anywhere else."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, Literal

from proxy.core.pricing import format_usd
from proxy.core.statement import SANDBOX, Statement, parse_by, read_statement

_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z")
_NUMBER = re.compile(r"-?[0-9][0-9.,]*|-|")

Row = Sequence[str]


def print_usage(said: Mapping[str, Any], by: str, form: str) -> None:
    """Print what the command `usage` answered as "json", "csv" or "table".

    Beside a CSV or a table, what is unsettled goes to stderr, so that stdout is the file.
    """
    if form == "json":
        sys.stdout.write(json.dumps(said, indent=2, ensure_ascii=False) + "\n")
        return
    statement = read_statement(said, parse_by(by))
    if form == "csv":
        sys.stdout.reconfigure(newline="")  # type: ignore[union-attr]  # CRLF as RFC 4180 has it
        sys.stdout.writelines(statement.as_csv())
    else:
        show_table(list(statement.as_table()), totals=True)
    sys.stdout.flush()
    for words in notes(statement):
        sys.stderr.write(f"{words}\n")


def notes(statement: Statement) -> list[str]:
    """What must be known beside the rows of a statement."""
    said = []
    if statement.sandbox:
        said.append(f"{SANDBOX}: these clips were pretended; nothing was paid")
    if statement.unsettled_clips:
        most = format_usd(statement.unsettled_micros_max)
        said.append(f"unsettled: {statement.unsettled_clips} clips, at most ${most} more")
    if statement.exposure_micros:
        exposed = format_usd(statement.exposure_micros)
        said.append(f"exposure: the vendor may have billed ${exposed} without a clip to show")
    return said


def show_rows(rows: Sequence[Mapping[str, Any]], what: str, *, but: str = "") -> None:
    """Print `rows`, each a mapping of the same names; `what` says what there are none of.

    The column `but`, and those in which nobody has anything, are left out.
    """
    if not rows:
        sys.stderr.write(f"there are no {what}\n")
        return
    filled = [name for name in rows[0] if any(row[name] not in (None, "") for row in rows)]
    shown = [name for name in filled if name != but]
    header = [name.removesuffix("_at").replace("_", " ") for name in shown]
    show_table([header, *([_cell(row[name]) for name in shown] for row in rows)])


def show_table(rows: Sequence[Row], *, totals: bool = False, indent: int = 0) -> None:
    """Print `rows`, the first of them the header; with `totals` the last one is set apart."""
    if not sys.stdout.isatty() or not _draw(rows, totals=totals, indent=indent):
        sys.stdout.writelines(" " * indent + line + "\n" for line in plain_lines(rows))


def plain_lines(rows: Sequence[Row]) -> list[str]:
    """`rows` with every column as wide as its longest cell, and numbers to the right."""
    columns = list(zip_longest(*rows, fillvalue=""))
    widths = [max(map(len, column)) for column in columns]
    right = [_is_numeric(column) for column in columns]
    return [
        "  ".join(
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]


def _draw(rows: Sequence[Row], *, totals: bool, indent: int) -> bool:
    """Draw `rows`, unless the terminal is too narrow."""
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    columns = list(zip_longest(*rows, fillvalue=""))
    table = Table(box=box.SIMPLE_HEAD, show_footer=totals, pad_edge=False, header_style="bold")
    last = rows[-1] if totals else [""] * len(columns)
    for column, total in zip(columns, last, strict=True):
        justify: Literal["right", "left"] = "right" if _is_numeric(column) else "left"
        table.add_column(column[0], total, justify=justify, footer_style="bold")
    for row in rows[1:-1] if totals else rows[1:]:
        table.add_row(*map(Text, row))
    console = Console(highlight=False)
    unbounded = console.options.update(max_width=sum(map(len, map("".join, rows))) + 1_000)
    if Measurement.get(console, unbounded, table).maximum + indent > console.width:
        return False  # cut cells are worse than lines that wrap: ids are there to be copied
    console.print(Padding(table, (0, 0, 0, indent), expand=False))
    return True


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        return value[:16].replace("T", " ")
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _is_numeric(column: Sequence[str]) -> bool:
    return all(_NUMBER.fullmatch(cell) for cell in column[1:])
