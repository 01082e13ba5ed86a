"""One JSON line a request; an allow-list of fields.

What is not on the list is not printed, and what is printed is cleaned: no control characters, no
key beyond its shown prefix, no query of a link, nothing endless. Lines of libraries come out the
same way, as the words their authors wrote and without the values they would fill in, because those
hold prompts and signed links (facts R95).

Until `configure` is called nothing is printed at all.
"""

from __future__ import annotations

import contextlib
import logging
import re
import traceback
from collections.abc import Mapping
from json import JSONEncoder
from typing import Any, Final, TextIO, cast

import structlog

FIELDS: Final = frozenset(
    {
        # the request
        *("request_id", "trace_id", "span_id", "method", "route", "status", "origin", "code"),
        *("duration_ms", "overhead_ms", "upstream_ms", "bytes_in", "bytes_out", "stream"),
        *("caller_left", "retry_count"),
        # who asks, and for what
        *("tenant", "key_id", "key_prefix", "role", "model", "asked_model", "clips_asked"),
        # what became of it
        *("generation", "clip", "clips", "state", "outcome", "reason", "words", "delivered"),
        *("failed", "unknown", "replayed", "amount_micros", "exposure_micros"),
        # the gateways
        *("gateway", "from_gateway", "to_gateway", "attempts", "operation", "upstream_status"),
        *("upstream_request_id", "upstream_origin_request_id", "upstream_id"),
        # operations
        *("error", "where", "task", "count", "limit", "allowed", "seconds"),
        *("retry_after_seconds", "version", "process_id", "workers", "host", "port"),
        *("database", "schema", "vault", "sandbox", "signal", "problem", "path"),
        # every line
        *("logger", "level", "event", "timestamp"),
    }
)
"""Every field that a line may have; amounts in micro-dollars, units last in the name."""

CHARS_MAX: Final = 300
"""The longest value that is printed."""

ITEMS_MAX: Final = 20
"""The most entries of a list that are printed."""

_ENCODER: Final = JSONEncoder(separators=(",", ":"), ensure_ascii=True)
_FRAMES_MAX: Final = 8
_FIRST: Final = ("timestamp", "level", "event")

_EVENT: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
# Ours show at most `sk-` and seven characters more; a vendor's key is treated alike.
_KEY: Final = re.compile(r"(?<![A-Za-z])(sk-[A-Za-z0-9_-]{7})[A-Za-z0-9_-]+")
_CREDENTIAL: Final = re.compile(r"(?i)\b(bearer|basic)(\s+)\S+")
_QUERY: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,15}://[^\s?#\"'<>]*)[?#][^\s\"'<>)]*")
_USERINFO: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,15}://)[^\s/@]+@")
# Most values are ids and numbers, in which there is nothing to look for.
_PLAIN: Final = re.compile(rf"[A-Za-z0-9_./,:+=-]{{0,{CHARS_MAX}}}")

# Their arguments are addresses, signals and revisions of ours, never a caller's.
_TRUSTED: Final = ("uvicorn.error", "alembic.runtime.migration")
_SILENT: Final = ("uvicorn.access", "aiohttp.access")
_LOUD: Final = ("uvicorn.error",)
_QUIET: Final = (
    *("aiohttp", "alembic", "asyncio", "botocore", "httpcore", "httpcore2", "httpx", "httpx2"),
    *("openai", "psycopg", "python_multipart", "sqlalchemy", "uvicorn", "urllib3"),
)

# How uvicorn sees an answer that broke off upstream and is passed on as broken; its own line says
# so, with the gateway and the generation.
_EXPECTED: Final = frozenset({"ASGI callable returned without completing response."})

_lines = structlog.get_logger()


def configure(stream: TextIO, *, json: bool | None = None, strict: bool = False) -> None:
    """Print to `stream`: JSON, or words for people; None chooses by whether it is a terminal.

    `strict` makes a field outside the list an `AssertionError`, for tests; otherwise it is left
    out. Lines of libraries are routed to the same place.
    """
    terminal = stream.isatty()
    as_json = not terminal if json is None else json
    renderer: Any = (
        structlog.processors.JSONRenderer(serializer=_json)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=terminal, sort_keys=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _Allowed(strict=strict),
            renderer,
        ],
        wrapper_class=structlog.BoundLogger,
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Sink(stream))),
        cache_logger_on_first_use=False,
    )
    _route_libraries()


def request_line(**fields: object) -> None:
    """Print the one line of a request that has been answered."""
    status = fields.get("status")
    level = "warning" if isinstance(status, int) and status >= 500 else "info"
    _emit(level, "request", fields)


def event(name: str, *, level: str = "info", **fields: object) -> None:
    """Print what an operator should know: `name` is snake_case, `fields` are on the list."""
    assert _EVENT.fullmatch(name), name
    _emit(level, name, fields)


def crash(task: str, error: BaseException) -> None:
    """Print that `task` ended by a bug: the type of `error` and where it rose, not its message."""
    _emit("error", "crashed", {"task": task, **_crash_fields(error)})


def clean(text: str) -> str:
    """`text` fit for a line: one line, printable, bounded, without keys and queries."""
    if _PLAIN.fullmatch(text) and "sk-" not in text:
        return text
    short = text[: 4 * CHARS_MAX]
    short = _KEY.sub(r"\1…", short)
    short = _CREDENTIAL.sub(r"\1\2…", short)
    short = _USERINFO.sub(r"\1…@", _QUERY.sub(r"\1?…", short))
    if not short.isprintable():
        short = "".join(map(_visible, short))
    return short if len(short) <= CHARS_MAX else f"{short[: CHARS_MAX - 1]}…"


def _visible(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")


def _emit(level: str, name: str, fields: Mapping[str, object]) -> None:
    if structlog.is_configured():
        getattr(_lines, level)(**{**fields, "level": level, "event": name})


class _Sink:
    """A stream whose end (a closed pipe, a full disk) is no reason to fail a request."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class _Allowed:
    """Keeps the fields on the list and cleans their values."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict

    def __call__(self, _logger: Any, _method: str, line: Mapping[str, Any]) -> dict[str, Any]:
        unknown = line.keys() - FIELDS
        assert not (unknown and self._strict), f"not on the list of fields: {sorted(unknown)}"
        kept = [name for name in line if name in FIELDS and name not in _FIRST]
        return {name: _value(line[name]) for name in (*_FIRST, *kept)}


def _value(value: object) -> object:
    """What is printed of `value`; of anything but plain values only its type."""
    if isinstance(value, str):
        return clean(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_value(one) for one in list(value)[:ITEMS_MAX]]
    return type(value).__name__


def _json(line: Mapping[str, Any], **_options: Any) -> str:
    return _ENCODER.encode(line)


def _crash_fields(error: BaseException) -> dict[str, object]:
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES_MAX:]
    kinds = [type(error).__name__]
    cause = error.__cause__ or error.__context__
    while cause is not None and len(kinds) < _FRAMES_MAX:
        kinds.append(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    where = [f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": " from ".join(kinds), "where": where}


def _short(filename: str) -> str:
    """A path's last three parts: enough to find the file, nothing of the machine."""
    return "/".join(filename.replace("\\", "/").split("/")[-3:])


class _Library(logging.Handler):
    """Prints a library's record the way we print our own lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the words of `record`; its values only where they are known to be harmless."""
        try:
            words = record.getMessage() if record.name in _TRUSTED else str(record.msg)
        except (TypeError, ValueError):
            words = str(record.msg)
        fields: dict[str, object] = {"logger": record.name, "words": words.partition("\n")[0]}
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            fields |= _crash_fields(error)
        level = "error" if record.levelno >= logging.ERROR else "warning"
        _emit("info" if record.levelno < logging.WARNING else level, "library", fields)


def _is_news(record: logging.LogRecord) -> bool:
    return record.msg not in _EXPECTED


def _route_libraries() -> None:
    logging.raiseExceptions = False  # a broken record would print its values
    root = logging.getLogger()
    root.handlers = [_Library()]
    root.setLevel(logging.WARNING)
    for name in (*_QUIET, *_SILENT, *_LOUD):
        library = logging.getLogger(name)
        library.handlers = []
        library.propagate = name not in _SILENT
        library.disabled = name in _SILENT
        library.setLevel(logging.INFO if name in _LOUD else logging.WARNING)
        library.filters = [_is_news]
