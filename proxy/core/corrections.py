"""Late facts about closed months become lines of an open one: a reversal, and a new line.

This is the accounting style of the FOCUS attribute Correction Handling: what was closed stays as it
is; its line is taken back with the opposite signs, and what is right now stands beside it. Both
keep the time the cost was incurred. Whatever order facts come in, a clip's lines add up to the
latest of them.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from proxy.core.export import ExportRow, LineKind

# What money or a count hangs on. Names and labels may change later without changing the past.
_FACTS: Final = (
    "tenant",
    "model",
    "outcome",
    "reason",
    "unit_price_micros",
    "amount_micros",
    "list_price_micros",
    "replay_of",
)
_NUMBERED: Final = re.compile(r"(?P<first>.+)/(?P<revision>[0-9]+)(?:/reversed)?")


def corrections(
    last: ExportRow | None, known: ExportRow | None, month: str
) -> tuple[ExportRow, ...]:
    """The lines of the open `month` after which a clip's lines say what is `known`.

    `last` is the clip's last line before `month`, a reversal if it was taken back for good, and
    None when it has none; `known` is what its line would be today, None when there should be none.
    Nothing to say is an empty tuple.
    """
    if last is None:
        return () if known is None else (replace(known, month=month),)
    if last.line_kind is LineKind.REVERSAL:
        return () if known is None else (_replacement(last, known, month),)
    if known is None:
        return (_reversal(last, month),)
    if all(getattr(last, name) == getattr(known, name) for name in _FACTS):
        return ()
    return _reversal(last, month), _replacement(last, known, month)


def _reversal(line: ExportRow, month: str) -> ExportRow:
    """What takes `line` back: the same line with the opposite signs."""
    first, revision = _place(line)
    return replace(
        line,
        month=month,
        amount_micros=-line.amount_micros,
        correction_of=line.line_id,
        line_id=f"{first}/{revision}/reversed",
        line_kind=LineKind.REVERSAL,
    )


def _replacement(line: ExportRow, known: ExportRow, month: str) -> ExportRow:
    """What stands instead of `line`, which is taken back in `month` or was before it."""
    first, revision = _place(line)
    return replace(
        known,
        month=month,
        completed_at=line.completed_at,
        accepted_at=line.accepted_at,
        correction_of=line.correction_of if line.sign < 0 else line.line_id,
        line_id=f"{first}/{revision + 1}",
        line_kind=LineKind.REPLACEMENT,
    )


def _place(line: ExportRow) -> tuple[str, int]:
    """The id of a clip's first line, and how often it was replaced up to `line`."""
    if line.line_kind in {LineKind.REPLACEMENT, LineKind.REVERSAL}:
        numbered = _NUMBERED.fullmatch(line.line_id)
        if numbered is not None:
            return numbered["first"], int(numbered["revision"])
    return line.line_id, 0
