"""config.yaml as plain values: where it is looked for, what is filled in, what is refused.

Every function reports all it finds, each with the key's path, so that an operator mends a file
once. Values themselves are never repeated in a problem: one of them may be a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KeyPath = tuple[str | int, ...]
"""Where a value stands: names of keys and positions in lists."""

_REFERENCE: Final = re.compile(r"\$\{([^}]*)(\}?)")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FILE: Final = "file:"
_BYTES_MAX: Final = 2**20
"""A configuration, or a secret in a file of its own, that is larger is a mistake."""


class ConfigError(Exception):
    """What is wrong with a configuration: `problems`, each with its key's path, never empty."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file to read: `path`, else $CLIPMETER_CONFIG, else ./config.yaml; None when none is."""
    if path is not None:
        return path
    named = environ.get("CLIPMETER_CONFIG")
    if named:
        return Path(named)
    usual = Path("config.yaml")
    return usual if usual.is_file() else None


def read(path: Path) -> dict[str, Any]:
    """The mapping that the file at `path` holds.

    Raises `ConfigError` for a file that cannot be read or is not YAML, for duplicate keys, and
    for anything but a mapping.
    """
    try:
        loader = _Loader(_text(path))
        node = loader.get_single_node()
        problems = list(_node_problems(node, (), ()))
        if problems:
            raise ConfigError([f"{path}, {problem}" for problem in problems])
        value = {} if node is None else loader.construct_document(node)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read ({error.strerror})"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 text"]) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError([f"{path}{line}: is not valid YAML ({error.problem})"]) from error
    except yaml.YAMLError as error:
        raise ConfigError([f"{path}: is not valid YAML"]) from error
    except ValueError as error:
        raise ConfigError([f"{path}: {error}"]) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError([f"{path}: must be a mapping of keys such as server: and limits:"])
    return value


@dataclass(slots=True)
class Filled:
    """Values with each `${…}` replaced, and what could not be, by its path."""

    values: dict[str, Any]
    problems: dict[KeyPath, str] = field(default_factory=dict)


def fill(values: Mapping[str, Any], environ: Mapping[str, str]) -> Filled:
    """`values` with `${NAME}` taken from `environ` and `${file:/path}` from that file.

    What was filled in is not searched again, and a line end at the end of a file is dropped.
    """
    filled = Filled({})

    def walk(value: Any, path: KeyPath) -> Any:
        if isinstance(value, dict):
            return {key: walk(inner, (*path, str(key))) for key, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner, (*path, number)) for number, inner in enumerate(value)]
        if isinstance(value, str) and "${" in value:
            try:
                return _REFERENCE.sub(lambda match: _replacement(match, environ), value)
            except ValueError as problem:
                filled.problems[path] = str(problem)
        return value

    filled.values = {key: walk(value, (str(key),)) for key, value in values.items()}
    return filled


def dotted(path: KeyPath) -> str:
    """A path as an operator reads it: `upstream.gateways[1].url`."""
    words = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return words.removeprefix(".")


def _replacement(match: re.Match[str], environ: Mapping[str, str]) -> str:
    inside, closing = match.groups()
    if closing and inside.startswith(_FILE):
        path = inside.removeprefix(_FILE)
        try:
            return _text(Path(path)).rstrip("\r\n")
        except OSError as error:
            raise ValueError(f"the file {path} cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"the file {path} is not UTF-8 text") from error
    if not closing or not _VARIABLE.fullmatch(inside):
        raise ValueError("a reference is written ${NAME} or ${file:/path}")
    if inside not in environ:
        raise ValueError(f"the environment variable {inside} is not set")
    return environ[inside]


def _text(path: Path) -> str:
    with path.open("rb") as opened:
        data = opened.read(_BYTES_MAX + 1)
    if len(data) > _BYTES_MAX:
        raise ValueError(f"the file {path} is larger than {_BYTES_MAX:,} bytes")
    return data.decode("utf-8-sig")


class _Loader(yaml.SafeLoader):
    """YAML's plain types without its dates: a day is checked where its key is known."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, words) for tag, words in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _node_problems(
    node: yaml.Node | None, path: KeyPath, above: tuple[yaml.Node, ...]
) -> Iterator[str]:
    """Keys that stand twice, which YAML's own reader lets pass, and nodes within themselves."""
    if node in above:
        yield f"{dotted(path)}: contains itself"
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                where = dotted((*path, name))
                yield f"line {line}: {where} stands already in line {lines[name]}"
            lines.setdefault(name, line)
            yield from _node_problems(value, (*path, name), (*above, node))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _node_problems(value, (*path, number), (*above, node))
