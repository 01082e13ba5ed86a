"""The command line as it is typed: what goes to stdout, what to stderr, and the exit code."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from proxy.cli import MISCONFIGURED, REFUSED, app
from proxy.core import keys
from tests.server_process import ROOT, free_port

HIDDEN = ("APIYI_API_KEY", "CLIPMETER_CONFIG")

ENVIRON = {
    **{name: value for name, value in os.environ.items() if name not in HIDDEN},
    "PYTHONPATH": str(ROOT),
}


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def clipmeter(*words: str, folder: Path, **environ: str) -> Ran:
    """Run a command in this process, as if typed in `folder`, where its data goes."""
    absent = dict.fromkeys(HIDDEN)
    with contextlib.chdir(folder):
        ran = CliRunner().invoke(app, words, env={**absent, **environ}, prog_name="clipmeter")
    return Ran(ran.exit_code, ran.stdout, ran.stderr)


def typed(*words: str, folder: Path) -> Ran:
    """Run a command in a process of its own, as an operator does."""
    ran = subprocess.run(
        [sys.executable, "-m", "proxy", *words],
        cwd=folder,
        env=ENVIRON,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def done(*words: str, folder: Path) -> str:
    """The standard output of a command that must succeed."""
    ran = clipmeter(*words, folder=folder)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The URL of a sandbox server on the data of `tmp_path`."""
    port = free_port()
    (tmp_path / "config.yaml").write_text("limits: {drain_listen_seconds: 0}\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy", "serve", "--sandbox", "--port", str(port)],
        cwd=tmp_path,
        env=ENVIRON,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "listens on" in process.stderr.readline()
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


def status_of(url: str, key: str) -> int:
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_help_is_quick_and_names_every_command(tmp_path: Path) -> None:
    said = typed("--help", folder=tmp_path).stdout
    for name in (
        "demo",
        "serve",
        "sandbox",
        "check",
        "migrate",
        "usage",
        "tenant",
        "key",
        "ledger",
    ):
        assert f"\n  {name} " in said
    loaded = subprocess.run(
        [sys.executable, "-c", "import proxy.cli, sys; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"sqlalchemy", "fastapi", "aiohttp", "av"} & set(loaded.stdout.split())


def test_a_key_is_printed_alone(tmp_path: Path) -> None:
    done("tenant", "add", "ads", "--usd-per-month", "12.50", folder=tmp_path)
    made = typed("key", "add", "ads", "--label", "laptop", folder=tmp_path)
    assert made.returncode == 0
    assert keys.well_formed(made.stdout.removesuffix("\n"))
    assert "not shown again" in made.stderr
    assert made.stdout.strip() not in made.stderr


def test_lists_are_tables_or_json(tmp_path: Path) -> None:
    words = ("--clips-per-month", "100", "--models", "veo-3.1-fast*,veo-3.1", "--cost-center", "C7")
    done("tenant", "add", "ads", *words, folder=tmp_path)
    key = done("key", "add", "--role", "finance", folder=tmp_path).strip()
    (tenant,) = json.loads(done("tenant", "list", "--json", folder=tmp_path))
    assert (tenant["clips_per_month"], tenant["cost_center"]) == (100, "C7")
    assert tenant["models"] == ["veo-3.1-fast*", "veo-3.1"]
    header, row = done("tenant", "list", folder=tmp_path).splitlines()
    assert header.split()[0] == "name"
    assert "veo-3.1-fast*,veo-3.1" in row
    (listed,) = json.loads(done("key", "list", "--json", folder=tmp_path))
    assert set(listed) == {
        *("id", "tenant", "role", "label", "prefix"),
        *("created_at", "expires_at", "last_used_at", "revoked_at"),
    }
    assert listed["role"] == "finance"
    assert key not in done("key", "list", folder=tmp_path)


def test_terms_are_changed_and_removed(tmp_path: Path) -> None:
    words = ("--clips-in-flight", "3", "--requests-per-minute", "9", "--usd-per-month", "5")
    done("tenant", "add", "ads", *words, folder=tmp_path)
    done("tenant", "set", "ads", "--clips-in-flight", "none", folder=tmp_path)
    (tenant,) = json.loads(done("tenant", "list", "--json", folder=tmp_path))
    assert tenant["clips_in_flight"] is None
    assert (tenant["requests_per_minute"], tenant["usd_per_month"]) == (9, "5.00")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tenant", "set", "nobody", "--clips-per-month", "1"), "there is no tenant nobody"),
        (("tenant", "add", "Ads"), "a tenant's name is"),
        (("tenant", "add", "ads", "--clips-per-month", "many"), "clips_per_month is a whole"),
        (("tenant", "add", "ads", "--usd-per-month", "-1"), "usd_per_month is an amount"),
        (("key", "add"), "name the tenant"),
        (("key", "revoke", "key_nothing"), "there is no key key_nothing"),
        (("usage", "--month", "2026-13"), "is not a month"),
        (("usage", "--by", "colour"), "'colour' is none of"),
        (("serve",), "there is no vendor key: set APIYI_API_KEY"),
    ],
)
def test_a_refusal_is_one_line_on_stderr(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    ran = clipmeter(*words, folder=tmp_path)
    assert ran.returncode == REFUSED
    assert ran.stdout == ""
    assert ran.stderr.startswith("clipmeter: ")
    assert said in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_every_problem_of_a_configuration_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bent.yaml"
    path.write_text("server: {port: many}\nlimits: {colour: 3}\nprices: []\ndata_dir: ${NO_SUCH}\n")
    ran = clipmeter("--config", str(path), "usage", folder=tmp_path)
    assert ran.returncode == MISCONFIGURED
    assert ran.stdout == ""
    for words in ("server.port", "limits.colour", "NO_SUCH"):
        assert words in ran.stderr
    assert all(line.startswith("clipmeter: ") for line in ran.stderr.splitlines())


def test_the_configuration_is_found_by_option_variable_or_place(tmp_path: Path) -> None:
    for name in ("option", "variable"):
        (tmp_path / f"{name}.yaml").write_text(f"data_dir: {tmp_path / name}\n")
    (tmp_path / "config.yaml").write_text(f"data_dir: {tmp_path / 'place'}\n")
    option, variable = str(tmp_path / "option.yaml"), str(tmp_path / "variable.yaml")
    clipmeter("--config", option, "usage", folder=tmp_path, CLIPMETER_CONFIG=variable)
    assert not (tmp_path / "variable").exists()
    clipmeter("usage", folder=tmp_path, CLIPMETER_CONFIG=variable)
    assert not (tmp_path / "place").exists()
    clipmeter("usage", folder=tmp_path)
    for name in ("option", "variable", "place"):
        assert (tmp_path / name / "clipmeter.db").exists()


def test_commands_work_on_a_running_server_and_a_revoked_key_stops_at_once(
    server: str, tmp_path: Path
) -> None:
    done("tenant", "add", "ads", folder=tmp_path)
    key = typed("key", "add", "ads", folder=tmp_path).stdout.strip()
    assert status_of(f"{server}/v1/models", key) == 200
    (listed,) = json.loads(done("key", "list", "--json", folder=tmp_path))
    done("key", "revoke", listed["id"], folder=tmp_path)
    assert status_of(f"{server}/v1/models", key) == 401
    second = typed("serve", "--sandbox", "--port", "0", folder=tmp_path)
    assert second.returncode == REFUSED
    assert "another server holds" in second.stderr
    refused = clipmeter("tenant", "add", "ads", folder=tmp_path)
    assert (refused.returncode, refused.stderr.count("\n")) == (REFUSED, 1)


def test_usage_is_a_file_on_stdout_and_notes_on_stderr(server: str, tmp_path: Path) -> None:
    assert server
    said = json.loads(done("usage", "--format", "json", folder=tmp_path))
    assert set(said) == {"month", "sandbox", "rows", "totals", "unsettled"}
    ran = clipmeter("usage", "--format", "csv", "--by", "day,key,cost_center", folder=tmp_path)
    assert ran.stdout.startswith("sandbox,month,day,key,cost_center,requested,")
    assert "SANDBOX" in ran.stderr


def test_the_ledger_is_verified_and_a_bad_row_is_named(tmp_path: Path) -> None:
    assert done("ledger", "verify", folder=tmp_path) == "every invariant holds\n"
    bent = (
        "import sqlite3\n"
        "db = sqlite3.connect('data/clipmeter.db')\n"
        "row = \"INSERT INTO tenants (id, name, created_at) VALUES ('t', 't', '2026-01-01')\"\n"
        "db.execute(row)\n"
        "db.commit()\n"
    )
    subprocess.run([sys.executable, "-c", bent], cwd=tmp_path, check=True)
    ran = clipmeter("ledger", "verify", folder=tmp_path)
    assert ran.returncode == REFUSED
    assert ran.stdout.startswith("t: ")


def test_check_tells_problems_by_its_exit_code(tmp_path: Path) -> None:
    ran = clipmeter("check", folder=tmp_path)
    assert ran.returncode == REFUSED
    assert [line.split()[0] for line in ran.stdout.splitlines()] == ["ok"] * 4 + ["problem"]
    assert "APIYI_API_KEY" in ran.stdout


def test_migrate_brings_a_fresh_folder_up_to_date(tmp_path: Path) -> None:
    assert "was brought up to date" in done("migrate", folder=tmp_path)
    assert "is up to date already" in done("migrate", folder=tmp_path)


def test_the_sandbox_runs_alone_and_ends_on_interrupt(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "proxy", "sandbox", "--port", str(free_ports())],
        cwd=tmp_path,
        env=ENVIRON,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = ""
        while "The vendor's bill" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert said.count("http://127.0.0.1:") >= 3


def free_ports() -> int:
    """The first of three free ports in a row."""
    while True:
        port = free_port()
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for offset in range(3):
                stack.enter_context(socket.create_server(("127.0.0.1", port + offset)))
            return port
