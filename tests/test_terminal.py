"""What commands print: columns that line up, and notes that are not part of the file."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy.core.statement import Dimension, Line, Statement, Tally
from proxy.terminal import notes, plain_lines, print_usage, show_rows

ROOT = Path(__file__).parent.parent

STATEMENT = Statement(
    month="2026-11",
    by=(Dimension.TENANT,),
    lines=(Line(("ads",), Tally(3, 2, 0, 1, 0, 0, 300_000)), Line(("film",), Tally(10, 10))),
    unsettled_clips=1,
    unsettled_micros_max=150_000,
    exposure_micros=250_000,
    sandbox=True,
)


def test_columns_line_up_with_numbers_to_the_right() -> None:
    rows = [("name", "clips", "USD"), ("ads", "3", "0.30"), ("a-long-name", "10", "-")]
    assert plain_lines(rows) == [
        "name         clips   USD",
        "ads              3  0.30",
        "a-long-name     10     -",
    ]


def test_a_json_report_is_the_answer_itself(capfd: pytest.CaptureFixture[str]) -> None:
    print_usage(STATEMENT.as_json(), "tenant", "json")
    printed = capfd.readouterr()
    assert json.loads(printed.out) == STATEMENT.as_json()
    assert printed.err == ""


def test_a_csv_report_is_rfc_4180_and_its_notes_go_elsewhere() -> None:
    program = (
        "import json, sys\n"
        "from proxy.terminal import print_usage\n"
        "print_usage(json.loads(sys.argv[1]), 'tenant', 'csv')\n"
    )
    said = json.dumps(STATEMENT.as_json())
    ran = subprocess.run(
        [sys.executable, "-c", program, said], cwd=ROOT, capture_output=True, check=True
    )
    assert ran.stdout == "".join(STATEMENT.as_csv()).encode()
    assert ran.stdout.count(b"\r\n") == ran.stdout.count(b"\n") == 3
    assert ran.stderr.decode().splitlines() == notes(STATEMENT)


def test_the_notes_say_what_the_rows_do_not() -> None:
    assert notes(STATEMENT) == [
        "SANDBOX: these clips were pretended; nothing was paid",
        "unsettled: 1 clips, at most $0.15 more",
        "exposure: the vendor may have billed $0.25 without a clip to show",
    ]
    assert notes(Statement("2026-11", (), (), 0, 0)) == []


def test_a_table_is_plain_text_in_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    print_usage(STATEMENT.as_json(), "tenant", "table")
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].split() == ["tenant", "requested", "delivered", "failed", "unknown", "USD"]
    assert lines[-1].split() == ["total", "13", "12", "0", "1", "0.30"]
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(("columns", "drawn"), [(80, True), (30, False)])
def test_a_table_is_drawn_on_a_terminal_that_is_wide_enough(columns: int, drawn: bool) -> None:
    program = (
        "import json, sys\n"
        "from proxy.terminal import print_usage\n"
        "print_usage(json.loads(sys.argv[1]), 'tenant', 'table')\n"
    )
    outer, inner = pty.openpty()
    said = json.dumps(STATEMENT.as_json())
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns)}
    command = [sys.executable, "-c", program, said]
    subprocess.run(command, cwd=ROOT, stdout=inner, stderr=inner, env=environ, check=True)
    os.close(inner)
    shown = _read_all(outer)
    assert ("───" in shown) is drawn
    assert "0.30" in shown
    assert "…" not in shown


def test_rows_leave_out_what_nobody_has(capfd: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "t1", "name": "ads", "models": ["veo-3.1", "veo-3.1-fast"], "label": ""},
        {"id": "t2", "name": "film", "models": None, "label": ""},
    ]
    show_rows(rows, "tenants", but="id")
    assert capfd.readouterr().out.splitlines() == [
        "name  models",
        "ads   veo-3.1,veo-3.1-fast",
        "film  -",
    ]


def test_moments_are_shown_to_the_minute(capfd: pytest.CaptureFixture[str]) -> None:
    show_rows([{"name": "ads", "created_at": "2026-11-22T20:24:05Z"}], "tenants")
    assert capfd.readouterr().out.splitlines() == [
        "name  created",
        "ads   2026-11-22 20:24",
    ]


def test_no_rows_are_said_to_be_none(capfd: pytest.CaptureFixture[str]) -> None:
    show_rows([], "keys")
    assert capfd.readouterr() == ("", "there are no keys\n")


def _read_all(descriptor: int) -> str:
    said = b""
    try:
        while part := os.read(descriptor, 65_536):
            said += part
    except OSError:  # how a terminal says that nobody holds its other end any more
        pass
    os.close(descriptor)
    return said.decode()
