"""The house stands as the architecture draws it, and each of its rules catches what it forbids."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median

import pytest

from tests.house import hazards, layers, shape
from tests.house.map import misread, read_map
from tests.house.source import ROOT, Source, repository_files, sources
from tests.house.strays import strays

Rule = Callable[[Source], Iterator[str]]

PROGRAM = sources("proxy")
TESTS = sources("tests")

PROGRAM_RULES: list[Rule] = [
    layers.foreign_imports,
    layers.imports_of_app,
    layers.writes_in_web,
    shape.long_modules,
    shape.wide_lines,
    shape.big_functions,
    shape.missing_sentence,
    shape.empty_names,
    hazards.blind_excepts,
    hazards.awaits_in_finally,
    hazards.composed_sql,
    hazards.floats,
]
TEST_RULES: list[Rule] = [shape.wide_lines, shape.empty_names, hazards.toothless_tests]

BREACHES: list[tuple[Rule, str, str]] = [
    (layers.foreign_imports, "proxy/attic/x.py", ""),
    (layers.foreign_imports, "proxy/core/x.py", "import aiohttp"),
    (layers.foreign_imports, "proxy/core/x.py", "import asyncio"),
    (layers.foreign_imports, "proxy/core/x.py", "def f():\n    from os import path"),
    (layers.foreign_imports, "proxy/core/x.py", "from proxy.store import clips"),
    (layers.foreign_imports, "proxy/core/x.py", "from . import clip"),
    (layers.foreign_imports, "proxy/errors.py", "from proxy.core import clip"),
    (layers.foreign_imports, "proxy/flows/x.py", "from proxy.config import load"),
    (layers.foreign_imports, "proxy/flows/x.py", "from proxy import config"),
    (layers.foreign_imports, "proxy/flows/x.py", "from proxy.web import relay"),
    (layers.foreign_imports, "proxy/flows/x.py", "from sqlalchemy import text"),
    (layers.foreign_imports, "proxy/remote/x.py", "from proxy.store import database"),
    (layers.foreign_imports, "proxy/sandbox/x.py", "from proxy.core import meter"),
    (layers.foreign_imports, "proxy/store/x.py", "import proxy.remote.gateway"),
    (layers.foreign_imports, "proxy/store/x.py", "from proxy.config import Config"),
    (layers.foreign_imports, "proxy/web/x.py", "from proxy import remote"),
    (layers.imports_of_app, "proxy/control.py", "from proxy import app"),
    (layers.imports_of_app, "proxy/web/x.py", "from proxy.app import create_app"),
    (layers.writes_in_web, "proxy/web/x.py", "async def f(s):\n    await s.database.write(g)"),
    (shape.long_modules, "proxy/core/x.py", "x = 1\n" * 401),
    (shape.wide_lines, "proxy/core/x.py", "#" * 101),
    (shape.big_functions, "proxy/core/x.py", "def f():\n" + "    g()\n" * 70),
    (shape.big_functions, "proxy/core/x.py", "def f(a, b, c, d, *e, f, g): ..."),
    (shape.missing_sentence, "proxy/core/x.py", "import re"),
    (shape.missing_sentence, "proxy/core/x.py", '"""A title\n"""'),
    (shape.empty_names, "proxy/core/clip_utils.py", ""),
    (shape.empty_names, "proxy/core/x.py", "class ClipManager: ..."),
    (shape.empty_names, "proxy/core/x.py", "def handle_clip(): ..."),
    (hazards.blind_excepts, "proxy/web/x.py", "try: f()\nexcept (KeyError, Exception): g()"),
    (hazards.blind_excepts, "proxy/web/x.py", "try: f()\nexcept: g()"),
    (
        hazards.awaits_in_finally,
        "proxy/flows/x.py",
        "async def f():\n    try: g()\n    finally: await settle()",
    ),
    (hazards.composed_sql, "proxy/store/x.py", 'text(f"SELECT {name}")'),
    (hazards.composed_sql, "proxy/store/x.py", 'sa.text("SELECT " + name)'),
    (hazards.composed_sql, "proxy/store/x.py", 'text("SELECT %s" % name)'),
    (hazards.composed_sql, "proxy/store/x.py", 'text("SELECT {}".format(name))'),
    (hazards.floats, "proxy/core/ledger.py", "share = 0.15"),
    (hazards.floats, "proxy/core/ledger.py", "share = micros / 2"),
    (hazards.floats, "proxy/core/ledger.py", "share = float(micros)"),
    (hazards.toothless_tests, "tests/test_x.py", "def test_it_works():\n    f()"),
]

ALLOWED: list[tuple[Rule, str, str]] = [
    (layers.foreign_imports, "proxy/core/x.py", "import orjson\nfrom proxy.core import clip"),
    (layers.foreign_imports, "proxy/sandbox/x.py", "from proxy.core import wire"),
    (layers.foreign_imports, "proxy/flows/x.py", "from proxy.config import Config"),
    (layers.foreign_imports, "proxy/demo.py", "from proxy.sandbox import vendor\nimport openai"),
    (layers.imports_of_app, "proxy/cli.py", "from proxy.app import create_app"),
    (shape.big_functions, "proxy/core/x.py", "def f(self, a, b, c, *, d, e, f): ..."),
    (shape.big_functions, "proxy/cli.py", "@app.command()\ndef f(a, b, c, d, e, f, g): ..."),
    (
        hazards.blind_excepts,
        "proxy/web/x.py",
        "try: f()\nexcept BaseException:\n    g()\n    raise",
    ),
    (
        hazards.awaits_in_finally,
        "proxy/flows/x.py",
        "async def f():\n    try: g()\n    finally: await answer.close()",
    ),
    (hazards.composed_sql, "proxy/store/x.py", 'text(f"SELECT {COLUMNS} FROM {states(OPEN)}")'),
    (hazards.toothless_tests, "tests/test_x.py", "def test_x():\n    with pytest.raises(E): f()"),
]

# Which test covers a module whose own test file would say nothing of its own.
COVERED_BY = {
    "proxy/__main__.py": "tests/test_cli.py",  # one line that calls it
    "proxy/flows/admit.py": "tests/flows/test_chat.py",  # these are one request's way through
    "proxy/flows/generation.py": "tests/flows/test_chat.py",
    "proxy/flows/house.py": "tests/flows/test_chat.py",
    "proxy/flows/rotate.py": "tests/flows/test_chat.py",
    "proxy/flows/paid.py": "tests/flows/test_submit.py",  # what it shares with chat
    "proxy/flows/reply.py": "tests/flows/test_replay.py",  # what a repeat's caller gets
    "proxy/flows/operator.py": "tests/flows/test_tenants.py",  # what its commands work with
    "proxy/series.py": "tests/test_metrics.py",  # what its series are declared with
    "proxy/store/backend.py": "tests/store/test_sqlite.py",  # a protocol
    "proxy/store/writer.py": "tests/store/test_database.py",  # the database's one writer
    "proxy/web/exchange.py": "tests/web/test_edge.py",  # what the edge writes down
    "proxy/web/shapes.py": "tests/web/test_videos.py",  # real answers are held against them
    "proxy/web/table.py": "tests/web/test_relay.py",
    "proxy/store/migrations/env.py": "tests/store/test_migrations.py",  # Alembic runs it
}


def expect_none(complaints: Iterable[str]) -> None:
    found = list(complaints)
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize("rule", PROGRAM_RULES)
def test_the_program_keeps_the_rule(rule: Rule) -> None:
    expect_none(complaint for source in PROGRAM for complaint in rule(source))


@pytest.mark.parametrize("rule", TEST_RULES)
def test_the_tests_keep_the_rule(rule: Rule) -> None:
    expect_none(complaint for source in TESTS for complaint in rule(source))


@pytest.mark.parametrize(("rule", "path", "text"), BREACHES)
def test_a_breach_is_found(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text))) != []


@pytest.mark.parametrize(("rule", "path", "text"), ALLOWED)
def test_what_is_allowed_passes(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text))) == []


def test_every_rule_has_a_breach_that_shows_it_works() -> None:
    assert {rule for rule, _, _ in BREACHES} == {*PROGRAM_RULES, *TEST_RULES}


def test_remote_and_store_never_meet() -> None:
    assert "store" not in layers.LAYERS["remote"].program
    assert "remote" not in layers.LAYERS["store"].program


def test_the_median_module_is_short() -> None:
    sizes = [len(source.text.splitlines()) for source in PROGRAM if not shape.is_revision(source)]
    assert median(sizes) <= shape.MODULE_LINES_MEDIAN_MAX


def test_the_map_has_one_true_line_for_each_module() -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / "proxy/__init__.py").read_text())) or ""
    expect_none(misread(PROGRAM, docstring))


def test_the_map_is_read_with_its_folders_and_folded_lines() -> None:
    drawn = (
        "cli.py        The command.\n"
        "core/         DECIDE: pure\n"
        "                values.\n"
        "  clip.py       The life of a clip.\n"
        "\n"
        "web/          LISTEN.\n"
    )
    assert read_map(drawn) == {
        "cli.py": "The command.",
        "core/": "DECIDE: pure values.",
        "core/clip.py": "The life of a clip.",
        "web/": "LISTEN.",
    }


def test_a_map_that_lags_behind_is_told_what_it_lacks() -> None:
    modules = [
        Source("proxy/core/__init__.py", '"""DECIDE."""'),
        Source("proxy/core/clip.py", '"""The life of a clip."""'),
        Source("proxy/core/sse.py", '"""Bytes to events."""'),
    ]
    drawn = "core/  DECIDE.\n  clip.py  The death of a clip.\n  gone.py  Was here."
    assert list(misread(modules, drawn)) == [
        "differs: core/clip.py says 'The life of a clip.', the map 'The death of a clip.'",
        "no such module: core/gone.py",
        "missing: core/sse.py  Bytes to events.",
    ]


def test_every_module_has_its_test_file() -> None:
    modules = {source.path for source in PROGRAM if has_code(source)}
    expect_none(
        f"{path}: no {test}"
        for path in sorted(modules)
        if not (ROOT / (test := COVERED_BY.get(path, mirror_of(path)))).is_file()
    )
    assert COVERED_BY.keys() <= modules


def has_code(source: Source) -> bool:
    """Whether there is anything to test: more than the docstring of a package, and no history."""
    return len(source.tree.body) > 1 and not shape.is_revision(source)


def mirror_of(path: str) -> str:
    folder, _, name = path.removesuffix("/__init__.py").rpartition("/")
    return f"{folder.replace('proxy', 'tests', 1)}/test_{name.removesuffix('.py')}.py"


def test_no_file_names_a_machine_or_a_package_index_or_admits_to_be_unfinished() -> None:
    expect_none(
        complaint
        for path in repository_files()
        for complaint in strays(path.relative_to(ROOT).as_posix(), text_of(path))
    )


def text_of(path: Path) -> str:
    """A file's text; nothing for pictures and recorded bytes."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


@pytest.mark.parametrize(
    "line",
    [
        "see /wor" + "k/main/x.py",
        "--inde" + "x-url=x",
        "--fin" + "d-links x",
        "https://files.pythonhoste" + "d.org/x",
        "https://registry.npmj" + "s.org/x",
        "# TO" + "DO: later",
        "raise NotImplemented" + "Error",
        "pytest.ski" + "p()",
        "# good enough for" + " now",
    ],
)
def test_a_stray_line_is_found(line: str) -> None:
    assert list(strays("proxy/x.py", line)) != []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("proxy/flows/x.py", "import asyncio\n\nasyncio.create_task(f())\n"),
        ("proxy/flows/x.py", "from asyncio import ensure_future\n\nensure_future(f())\n"),
        ("proxy/web/x.py", "import time\n\ntime.time()\n"),
        ("proxy/web/x.py", "from time import monotonic\n\nmonotonic()\n"),
        ("proxy/store/x.py", "from datetime import datetime\n\ndatetime.now()\n"),
        ("proxy/store/x.py", "import uuid\n\nuuid.uuid4()\n"),
        ("proxy/remote/x.py", "import random\n\nrandom.random()\n"),
        ("proxy/remote/x.py", "import secrets\n\nsecrets.token_hex()\n"),
    ],
)
def test_clocks_tasks_and_chance_are_refused_outside_their_home(path: str, code: str) -> None:
    assert "TID251" in ruff_on(path, code)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("proxy/app.py", "import time\n\ntime.monotonic()\n"),
        ("proxy/flows/background.py", "import asyncio\n\nasyncio.create_task(f())\n"),
    ],
)
def test_clocks_and_tasks_are_allowed_at_home(path: str, code: str) -> None:
    assert "TID251" not in ruff_on(path, code)


def ruff_on(path: str, code: str) -> str:
    ruff = [sys.executable, "-m", "ruff", "check", "--select=TID251", "--stdin-filename", path, "-"]
    done = subprocess.run(ruff, input=code, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout


def test_heavy_libraries_are_loaded_on_first_use() -> None:
    program = "import sys; import proxy.cli, proxy.app; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"pyarrow", "xlsxwriter", "av", "alembic", "openai", "psycopg"}
