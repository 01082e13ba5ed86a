"""Sizes, names and sentences: what makes a module easy to find and to read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.house.source import FunctionNode, Source, last_word

MODULE_LINES_MAX = 400
MODULE_LINES_MEDIAN_MAX = 150
FUNCTION_LINES_MAX = 70
PARAMETERS_MAX = 6
COLUMNS_MAX = 100

EMPTY_WORDS = frozenset({"common", "helper", "helpers", "manager", "service", "util", "utils"})
EMPTY_VERBS = ("handle_", "process_")
GIVEN_NAMES = {"process_bind_param", "process_result_value"}  # SQLAlchemy calls them by these names


def is_revision(source: Source) -> bool:
    """Whether a file is one step of the schema's history, which is as long as the step is."""
    return source.path.startswith("proxy/store/migrations/versions/")


def long_modules(source: Source) -> Iterator[str]:
    """Modules that should be two."""
    lines = len(source.text.splitlines())
    if lines > MODULE_LINES_MAX and not is_revision(source):
        yield f"{source.path}:1: {lines} lines; {MODULE_LINES_MAX} is the limit"


def wide_lines(source: Source) -> Iterator[str]:
    """Lines beyond the right margin."""
    for number, line in enumerate(source.text.splitlines(), 1):
        if len(line) > COLUMNS_MAX:
            yield f"{source.path}:{number}: {len(line)} columns; {COLUMNS_MAX} is the limit"


def big_functions(source: Source) -> Iterator[str]:
    """Functions with too many lines or parameters; `self` and `cls` are not counted."""
    for node in source.functions if not is_revision(source) else ():
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > FUNCTION_LINES_MAX:
            yield source.at(node, f"{node.name} has {lines} lines; {FUNCTION_LINES_MAX} at most")
        parameters = len(parameters_of(node))
        if parameters > PARAMETERS_MAX and not _is_command(node):
            yield source.at(
                node, f"{node.name} has {parameters} parameters; {PARAMETERS_MAX} at most"
            )


def parameters_of(node: FunctionNode) -> list[str]:
    """The names of what a function takes, without `self` and `cls`."""
    every = node.args
    named = [*every.posonlyargs, *every.args, every.vararg, *every.kwonlyargs, every.kwarg]
    return [each.arg for each in named if each and each.arg not in {"self", "cls"}]


def _is_command(node: FunctionNode) -> bool:
    """Whether typer reads the parameters: then they are the command's own, one an option."""
    return any(last_word(decorator) == "command" for decorator in node.decorator_list)


def missing_sentence(source: Source) -> Iterator[str]:
    """Modules whose docstring does not begin with one whole sentence."""
    if not source.sentence.endswith((".", "?", "!")):
        yield f"{source.path}:1: the docstring's first line must be a sentence that fits the map"


def empty_names(source: Source) -> Iterator[str]:
    """Names that say nothing about what they name."""
    if EMPTY_WORDS & set(Path(source.path).stem.split("_")):
        yield f"{source.path}:1: name the module after what it is about"
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ClassDef | FunctionNode):
            continue
        words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", node.name)}
        verb = node.name.startswith(EMPTY_VERBS) and isinstance(node, FunctionNode)
        if EMPTY_WORDS & words or (verb and node.name not in GIVEN_NAMES):
            yield source.at(node, f"{node.name} does not say what it is or does")
