"""Times in the database: aware UTC, to the microsecond, alike on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, String, TypeDecorator
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

_TEXT_LENGTH = len("2026-11-22 19:33:00.123456")


class Moment(TypeDecorator[datetime]):
    """An instant: `timestamptz` on PostgreSQL, text that sorts by time on SQLite.

    Binding a time without a zone is a `ValueError`; what is read back is always aware and UTC.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text where the database has no type for an instant."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(_TEXT_LENGTH))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | str | None:
        """What the driver is given for `value`."""
        if value is None:
            return None
        if value.tzinfo is None:
            message = f"{value!r} has no time zone"
            raise ValueError(message)
        moment = value.astimezone(UTC)
        if dialect.name == "sqlite":
            return moment.isoformat(" ", "microseconds")[:_TEXT_LENGTH]
        return moment

    def process_result_value(
        self,
        value: Any | None,
        dialect: Dialect,
    ) -> datetime | None:
        """The aware UTC time of what the driver gave."""
        if value is None:
            return None
        if dialect.name == "sqlite":
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        moment: datetime = value
        return moment.astimezone(UTC)


class utc_day(FunctionElement[str]):  # noqa: N801 - it reads as the SQL function it is
    """The UTC day of a moment, as the text "YYYY-MM-DD"."""

    type = String()
    inherit_cache = True


class utc_month(FunctionElement[str]):  # noqa: N801
    """The UTC month of a moment, as the text "YYYY-MM"."""

    type = String()
    inherit_cache = True


_PATTERNS = {utc_day: "YYYY-MM-DD", utc_month: "YYYY-MM"}


@compiles(utc_day)
@compiles(utc_month)
def _as_text(
    element: FunctionElement[str],
    compiler: SQLCompiler,
    **options: Any,
) -> str:
    pattern = _PATTERNS[type(element)]
    moment = compiler.process(element.clauses, **options)
    if compiler.dialect.name == "sqlite":
        return f"substr({moment}, 1, {len(pattern)})"
    return f"to_char({moment} AT TIME ZONE 'UTC', '{pattern}')"
