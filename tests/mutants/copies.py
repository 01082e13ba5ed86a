"""Copies of the program, each with one of its laws switched off, and what the tests say of them."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from tests.house.source import ROOT

AT_ONCE = 2
SECONDS_MAX = 110
"""How long the tests of one mutant may take."""

# Stands at the root of a copy: a run that would test any other program ends before its first test.
WITNESS = """
from pathlib import Path

import proxy
import tests

HERE = Path(__file__).parent
assert Path(proxy.__file__) == HERE / "proxy" / "__init__.py", proxy.__file__
assert Path(tests.__file__) == HERE / "tests" / "__init__.py", tests.__file__
"""

_RESULT = re.compile(r"^(FAILED|ERROR) (tests/.+?)(?: - (.*))?$", re.MULTILINE)
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


class Copy:
    """A copy of the program and its tests in a folder of its own, changed by one mutant a time."""

    def __init__(self, folder: Path, compiled: Path) -> None:
        """Copy into `folder`; copies share the `compiled` modules of libraries."""
        self._root = folder / "copy"
        self._scratch = folder / "scratch"
        self._compiled = compiled
        for name in ("proxy", "tests"):
            left_out = shutil.ignore_patterns("node", "__pycache__")
            shutil.copytree(ROOT / name, self._root / name, ignore=left_out)
        shutil.copy(ROOT / "pyproject.toml", self._root)
        (self._root / "conftest.py").write_text(WITNESS)

    def run(self, mutant: Mutant) -> Run:
        """Run the killers with the mutant's edits. Raises `Unfit`."""
        try:
            for edit in mutant.edits:
                file = self._root / edit.path
                file.write_text(edit.apply(file.read_text(encoding="utf-8")), encoding="utf-8")
            return self._pytest(mutant.killers)
        finally:
            for edit in mutant.edits:
                shutil.copy2(ROOT / edit.path, self._root / edit.path)

    def _pytest(self, tests: tuple[str, ...]) -> Run:
        left_out = ("PYTEST_", "PYTHONDONTWRITEBYTECODE")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(left_out)
        } | {
            "PYTHONPATH": str(self._root),
            "PYTHONPYCACHEPREFIX": str(self._compiled),
            "PYTHONIOENCODING": "utf-8",
            "COLUMNS": "500",  # so that no failure's reason is cut
        }
        options = ["-q", "-p", "no:cacheprovider", f"--basetemp={self._scratch}"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *tests],
            cwd=self._root,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS_MAX,
            check=False,
        )
        output = done.stdout + done.stderr
        results = _RESULT.findall(output)
        red = {test for kind, test, why in results if kind == "FAILED" and _PROVES.match(why)}
        broken = {test for _, test, _ in results} - red
        return Run(done.returncode, frozenset(red), frozenset(broken), output)


class Runs:
    """Runs of mutants, `AT_ONCE` at a time; each is done once, and asked for by its mutant."""

    def __init__(self, folder: Path) -> None:
        """Make the copies in `folder`."""
        self._copies: SimpleQueue[Copy] = SimpleQueue()
        for number in range(AT_ONCE):
            self._copies.put(Copy(folder / str(number), folder / "compiled"))
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._begun: dict[str, Future[Run]] = {}

    def begin(self, mutant: Mutant) -> Future[Run]:
        """Run `mutant` as soon as a copy is free."""
        if mutant.name not in self._begun:
            self._begun[mutant.name] = self._pool.submit(self._run, mutant)
        return self._begun[mutant.name]

    def of(self, mutant: Mutant) -> Run:
        """The run of `mutant`; raises what went wrong with it."""
        return self.begin(mutant).result()

    def close(self) -> None:
        """Begin nothing more, and wait for what runs."""
        self._pool.shutdown(cancel_futures=True)

    def _run(self, mutant: Mutant) -> Run:
        copy = self._copies.get()
        try:
            return copy.run(mutant)
        finally:
            self._copies.put(copy)
