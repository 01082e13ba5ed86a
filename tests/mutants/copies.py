"""Copies of the program, each with one of its laws switched off, and what the tests say of them."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.house.source import ROOT

AT_ONCE = 2
SECONDS_MAX = 110
"""How long the tests of one copy may take."""

# Stands at the root of a copy: a run that tests any other program ends before its first test.
WITNESS = """
from pathlib import Path

import proxy
import tests

HERE = Path(__file__).parent
assert Path(proxy.__file__) == HERE / "proxy" / "__init__.py", proxy.__file__
assert Path(tests.__file__) == HERE / "tests" / "__init__.py", tests.__file__
"""

# Scratch files of compilers at work vanish while they are copied.
_LEFT_OUT = shutil.ignore_patterns("node", "*.pyc.*")
_RESULT = re.compile(r"^(FAILED|ERROR) (.+?)(?: - (.*))?$", re.MULTILINE)
_PROVES = re.compile(r"assert |AssertionError|Failed: ")


class Unfit(Exception):
    """The program has changed, and a mutant's text no longer stands in it exactly once."""


@dataclass(frozen=True, slots=True)
class Edit:
    """In the file `path`, `old` becomes `new`."""

    path: str
    old: str
    new: str

    def apply(self, text: str) -> str:
        """The file's text with the change; raises `Unfit`, and `SyntaxError` for no program."""
        times = text.count(self.old)
        if times != 1:
            raise Unfit(f"{self.path} has this text {times} times, not once:\n{self.old}")
        changed = text.replace(self.old, self.new)
        ast.parse(changed, self.path)
        return changed


@dataclass(frozen=True, slots=True)
class Mutant:
    """The program without a law: the law's number, the edits, and the tests that must turn red."""

    name: str
    law: int
    edits: tuple[Edit, ...]
    killers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """What pytest said: `red` are the tests whose assertion failed, `broken` those that broke."""

    exit_code: int
    red: frozenset[str]
    broken: frozenset[str]
    output: str


def run(mutant: Mutant) -> Run:
    """Run the killers on a copy of the program with the mutant's edits. Raises `Unfit`."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder) / "copy"
        for name in ("proxy", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=_LEFT_OUT)
        shutil.copy(ROOT / "pyproject.toml", copy)
        (copy / "conftest.py").write_text(WITNESS)
        for edit in mutant.edits:
            file = copy / edit.path
            file.write_text(edit.apply(file.read_text(encoding="utf-8")), encoding="utf-8")
        return _pytest(copy, mutant.killers, Path(folder) / "tmp")


def _pytest(copy: Path, tests: Iterable[str], scratch: Path) -> Run:
    mine = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={scratch}", *tests]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=copy,
        env={**mine, "PYTHONPATH": str(copy), "PYTHONIOENCODING": "utf-8", "COLUMNS": "500"},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=SECONDS_MAX,
        check=False,
    )
    output = done.stdout + done.stderr
    red, broken = set(), set()
    for kind, test, words_ in _RESULT.findall(output):
        proves = kind == "FAILED" and _PROVES.match(words_)
        (red if proves else broken).add(test)
    return Run(done.returncode, frozenset(red), frozenset(broken), output)


class Runs:
    """Runs of mutants, `AT_ONCE` at a time; each is done once, and asked for by its mutant."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._begun: dict[str, Future[Run]] = {}

    def begin(self, mutant: Mutant) -> Future[Run]:
        if mutant.name not in self._begun:
            self._begun[mutant.name] = self._pool.submit(run, mutant)
        return self._begun[mutant.name]

    def of(self, mutant: Mutant) -> Run:
        return self.begin(mutant).result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
