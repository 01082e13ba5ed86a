"""The files of the repository, and what the rules ask of a syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One Python file: its path relative to the repository, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def sentence(self) -> str:
        """The first line of the module's docstring."""
        return (ast.get_docstring(self.tree) or "").partition("\n")[0]

    @property
    def functions(self) -> Iterator[FunctionNode]:
        """Every function and method, wherever it stands."""
        return (node for node in ast.walk(self.tree) if isinstance(node, FunctionNode))

    def at(self, node: ast.AST, complaint: str) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}: {complaint}"


def sources(folder: str) -> list[Source]:
    """Every Python file under a folder of the repository."""
    return [
        Source(path.relative_to(ROOT).as_posix(), path.read_text())
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "node_modules" not in path.parts
    ]


def repository_files() -> Iterator[Path]:
    """Every file that belongs to the repository: all but what .gitignore names."""
    ignored = {ROOT / ".git"}
    patterns = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split()]
    folders = [ROOT]
    while folders:
        folder = folders.pop()
        for pattern in patterns:  # one that begins with / stands for itself at the top
            ignored.update((ROOT if pattern[0] == "/" else folder).glob(pattern.lstrip("/")))
        for path in sorted(folder.iterdir()):
            if path in ignored:
                continue
            if path.is_dir():
                folders.append(path)
            else:
                yield path


def dotted(node: ast.expr | None) -> str:
    """The dotted name of an expression, or of what it calls: `op.execute` for `op.execute(x)`."""
    match node:
        case ast.Call(func=called):
            return dotted(called)
        case ast.Attribute(value=value, attr=name):
            return f"{dotted(value)}.{name}"
        case ast.Name(id=name):
            return name
    return ""


def last_word(node: ast.expr | None) -> str:
    """The last part of the dotted name."""
    return dotted(node).rpartition(".")[2]
