"""FOCUS files for tests: written by the program, read back as anybody would."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import timedelta

from proxy.core.catalog import Catalog
from proxy.core.export import ExportRow
from proxy.core.focus import Settings, focus_rows, price_details
from proxy.core.focus_columns import Version, View, columns
from proxy.core.prepaid import PrepaidBook, TopUp
from proxy.files.csv_text import csv_chunks
from tests.exports import START

TOP_UPS = (
    TopUp("topup_1", "2026-11", START - timedelta(days=2), 100_000_000, 110_000_000),
    TopUp("topup_2", "2026-11", START + timedelta(hours=2), 50_500_000, 50_500_000),
)
SETTINGS = Settings(
    "Clipmeter Ltd.",
    details=price_details(Catalog.documented()),
    prepaid=PrepaidBook(TOP_UPS),
)
Table = list[dict[str, str]]


def focus_file(
    version: Version,
    view: View,
    rows: Iterable[ExportRow],
    settings: Settings = SETTINGS,
    top_ups: Sequence[TopUp] = TOP_UPS,
) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of the file."""
    charges = focus_rows(version, view, settings, rows, top_ups)
    content = b"".join(csv_chunks(columns(version, sandbox=settings.sandbox), charges))
    header, *lines = csv.reader(io.StringIO(content.decode(), newline=""), strict=True)
    return header, lines


def charges_of(
    view: View,
    rows: Iterable[ExportRow],
    version: Version = Version.V1_4,
    settings: Settings = SETTINGS,
    top_ups: Sequence[TopUp] = (),
) -> Table:
    """The file's rows by column."""
    header, lines = focus_file(version, view, rows, settings, top_ups)
    return [dict(zip(header, line, strict=True)) for line in lines]
