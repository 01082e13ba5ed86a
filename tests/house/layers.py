"""Who may import whom: the table of the architecture, and the imports it does not allow."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from tests.house.source import Source, dotted


@dataclass(frozen=True)
class Layer:
    """What one layer may import: parts of the program, and libraries by the name of their root."""

    program: frozenset[str]
    libraries: frozenset[str]


def layer(program: str, libraries: str = "") -> Layer:
    """Read one row of the table; its words are parted by blanks."""
    return Layer(frozenset(program.split()), frozenset(libraries.split()))


EVERYTHING = "app config core errors files flows logs metrics remote sandbox store web"

LAYERS = {
    "__init__": layer(""),
    "core": layer("core", "orjson msgspec"),
    "errors": layer(""),
    "config": layer("config core", "pydantic yaml"),
    "metrics": layer("metrics", "prometheus_client"),
    "logs": layer("", "structlog"),
    "remote": layer("remote core", "aiohttp httpx2 yarl"),
    "store": layer("store core", "sqlmodel sqlalchemy alembic obstore psycopg"),
    "files": layer("files core", "pyarrow xlsxwriter av"),
    "flows": layer(
        "flows core remote store files config metrics logs errors",
        "opentelemetry",
    ),
    "web": layer(
        "web core flows store config errors metrics logs",
        "fastapi starlette pydantic python_multipart",
    ),
    "sandbox": layer("sandbox core.wire", "av"),
    "app": layer(EVERYTHING, "typer rich uvicorn uvloop openai"),
}

# Modules at the top of the program that share the layer of the one they belong to.
LAYER_OF = {
    "__main__": "app",
    "check": "app",
    "cli": "app",
    "commands": "app",
    "config_checks": "config",
    "config_file": "config",
    "config_values": "config",
    "control": "app",
    "demo": "app",
    "door": "app",
    "series": "metrics",
    "serve": "app",
    "terminal": "app",
    "workers": "app",
}

# The command line: `cli`, and what it was split into.
COMMAND = {"proxy/check.py", "proxy/cli.py", "proxy/commands.py", "proxy/demo.py", "proxy/serve.py"}

# What `core` may not even name: it takes time, ids and bytes as arguments.
IMPURE = frozenset(
    {
        "asyncio",
        "logging",
        "os",
        "pathlib",
        "random",
        "secrets",
        "socket",
        "subprocess",
        "threading",
        "time",
        "uuid",
    }
)


def layer_of(path: str) -> str:
    """The layer that a module of the program belongs to."""
    name = path.removeprefix("proxy/").partition("/")[0].removesuffix(".py")
    return LAYER_OF.get(name, name)


def imports(tree: ast.AST) -> Iterator[tuple[ast.stmt, str, str]]:
    """Yield statement, module and imported name (or nothing) for every import in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node, "." * node.level + (node.module or ""), alias.name


def foreign_imports(source: Source) -> Iterator[str]:
    """Imports that the table does not allow."""
    name = layer_of(source.path)
    allowed = LAYERS.get(name)
    if allowed is None:
        yield f"{source.path}:1: stands in no layer of tests/house/layers.py"
        return
    for node, module, imported in imports(source.tree):
        root, _, below = module.partition(".")
        if root == "proxy":
            part = ".".join(filter(None, (below, imported)))
            if not _is_allowed(part, allowed):
                yield source.at(node, f"{name} may not import proxy.{part}")
            elif name in {"flows", "web"} and re.match(r"config(\.(?![A-Z])|$)", part):
                yield source.at(node, f"{name} takes only types from config")
        elif root in sys.stdlib_module_names:
            if name == "core" and root in IMPURE:
                yield source.at(node, f"core is pure; {root} stays outside")
        elif not root:
            yield source.at(node, "a relative import; write the whole name")
        elif root not in allowed.libraries:
            yield source.at(node, f"{name} may not import the library {root}")


def _is_allowed(part: str, allowed: Layer) -> bool:
    top, _, below = part.partition(".")
    room = f"{top}.{below.partition('.')[0]}"
    return bool({room, top, LAYER_OF.get(top, top)} & allowed.program)


def imports_of_app(source: Source) -> Iterator[str]:
    """Imports of the one place that knows everybody, by anybody but the command line."""
    for node, module, imported in imports(source.tree) if source.path not in COMMAND else ():
        if "proxy.app" in {module, f"{module}.{imported}"}:
            yield source.at(node, "nothing but the command line imports proxy.app")


def writes_in_web(source: Source) -> Iterator[str]:
    """Database writes in the layer that only reads."""
    for node in ast.walk(source.tree) if layer_of(source.path) == "web" else ():
        if isinstance(node, ast.Await) and dotted(node.value).endswith("database.write"):
            yield source.at(node, "web reads the store; a write belongs to a flow")
