"""What goes wrong without a sound: swallowed errors, interrupted awaits, SQL from parts, floats."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.house.layers import layer_of
from tests.house.source import Source, dotted, last_word

MAY_CATCH_EVERYTHING = {
    "proxy/flows/background.py",  # where tasks end: a bug is logged and counted there, never lost
    "proxy/web/relay.py",  # where requests end: a bug is logged, and is OpenAI's error to a caller
    "proxy/store/writer.py",  # where threads meet: whatever went wrong goes to the one who waits
}
CLOSES = {"aclose", "close", "wait_closed"}
DECIDES_ABOUT_MONEY = {"proxy/core/budget.py", "proxy/core/ledger.py", "proxy/core/pricing.py"}


def blind_excepts(source: Source) -> Iterator[str]:
    """Handlers that swallow everything; one that ends with a bare `raise` swallows nothing."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ExceptHandler) or source.path in MAY_CATCH_EVERYTHING:
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        everything = any(last_word(kind) in {"", "Exception", "BaseException"} for kind in caught)
        last = node.body[-1]
        if everything and not (isinstance(last, ast.Raise) and last.exc is None):
            yield source.at(node, "catches everything; name what is expected")


def awaits_in_finally(source: Source) -> Iterator[str]:
    """Awaits that a caller's leaving interrupts: settlement would be lost there."""
    if layer_of(source.path) not in {"flows", "web"}:
        return
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Try | ast.TryStar):
            continue
        for inner in (inner for statement in node.finalbody for inner in ast.walk(statement)):
            if isinstance(inner, ast.AsyncFor | ast.AsyncWith):
                yield source.at(inner, "waits inside finally, where it may be interrupted")
            elif isinstance(inner, ast.Await) and last_word(inner.value) not in CLOSES:
                name = dotted(inner.value)
                yield source.at(inner, f"awaits {name} inside finally, where it may be interrupted")


def composed_sql(source: Source) -> Iterator[str]:
    """SQL put together from anything but literals and module constants."""
    for node in ast.walk(source.tree) if layer_of(source.path) == "store" else ():
        if isinstance(node, ast.Call) and last_word(node) in {"text", "exec_driver_sql"}:
            for argument in node.args[:1]:
                if not _is_constant(argument):
                    yield source.at(node, "SQL from parts; a value is a bound parameter")


def _is_constant(node: ast.expr) -> bool:
    """Whether an expression is the same in every run, as far as its names tell."""
    match node:
        case ast.Constant():
            return True
        case ast.Name(id=name):
            return name.isupper()
        case ast.Attribute(value=value):
            return _is_constant(value)
        case ast.JoinedStr(values=parts):
            return all(map(_is_constant, parts))
        case ast.FormattedValue(value=value):
            return _is_constant(value)
        case ast.Call(args=arguments, keywords=[]) if arguments:
            return all(map(_is_constant, arguments))
    return False


def floats(source: Source) -> Iterator[str]:
    """Numbers that cannot hold a micro-dollar, where amounts are decided."""
    for node in ast.walk(source.tree) if source.path in DECIDES_ABOUT_MONEY else ():
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            yield source.at(node, f"{node.value} is no whole number")
        elif isinstance(node, ast.Name) and node.id == "float":
            yield source.at(node, "float cannot hold money")
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            yield source.at(node, "/ makes a float; whole micros are divided with // or divmod")


def toothless_tests(source: Source) -> Iterator[str]:
    """Tests that cannot fail, because nothing in them asserts."""
    for node in source.functions:
        if node.name.startswith("test_") and not any(map(_asserts, ast.walk(node))):
            yield source.at(node, f"{node.name} asserts nothing")


def _asserts(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return isinstance(node, ast.Assert)
    return dotted(node) in {"pytest.raises", "pytest.warns"} or last_word(node).startswith(
        ("assert_", "expect_")
    )
