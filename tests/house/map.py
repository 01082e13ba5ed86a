"""The map in `proxy/__init__.py`, read and compared with the modules that exist."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tests.house.shape import is_revision
from tests.house.source import Source

ENTRY = re.compile(r"( *)([a-z_0-9]+(?:\.py|/)) +(\S.*)")


def sentences(modules: Iterable[Source]) -> dict[str, str]:
    """What the map must say: each path under proxy/ with its sentence, a folder for its package.

    Alembic's revisions are a history, not rooms, and stand for themselves.
    """
    return {
        source.path.removeprefix("proxy/").removesuffix("__init__.py"): source.sentence
        for source in modules
        if source.path != "proxy/__init__.py" and not is_revision(source)
    }


def read_map(docstring: str) -> dict[str, str]:
    """What the map does say.

    What lies in a folder stands indented below it, and a sentence may go on in the next line,
    further in than any name.
    """
    entries: dict[str, str] = {}
    folders: list[tuple[int, str]] = []
    path = ""
    for line in docstring.splitlines():
        found = ENTRY.fullmatch(line)
        if found:
            depth = len(found[1])
            while folders and folders[-1][0] >= depth:
                folders.pop()
            path = (folders[-1][1] if folders else "") + found[2]
            entries[path] = found[3]
            if path.endswith("/"):
                folders.append((depth, path))
        elif path and line.startswith(" " * 12):
            entries[path] += " " + line.strip()
        else:
            path = ""
    return entries


def misread(modules: Iterable[Source], docstring: str) -> Iterator[str]:
    """Each line that the map lacks, says otherwise or has too many."""
    there, said = sentences(modules), read_map(docstring)
    for path in sorted(there.keys() | said.keys()):
        if path not in said:
            yield f"missing: {path}  {there[path]}"
        elif path not in there:
            yield f"no such module: {path}"
        elif said[path] != there[path]:
            yield f"differs: {path} says {there[path]!r}, the map {said[path]!r}"
