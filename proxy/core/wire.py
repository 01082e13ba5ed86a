"""The shapes we read, and the few we write: stream frames, completions, error frames.

Every reader is total: any bytes give a value, never an exception. A frame whose JSON is broken is
read as far as its texts can be made out, because its bytes reach the caller all the same (a broken
frame was captured between good ones: wire facts, section 3.2).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

DONE: Final = b"[DONE]"

_CHOICES_MAX: Final = 16
_BROKEN_TEXT: Final = re.compile(
    r'"(?P<name>(?:reasoning_)?content)"\s*:\s*"(?P<text>(?:[^"\\]++|\\.)*+)'
)
_BROKEN_ERROR: Final = re.compile(r'"error"\s*:\s*[{"]')
_BROKEN_ESCAPE: Final = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?$")


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of one choice's text; `reasoning` when it came as `reasoning_content`."""

    choice: int
    text: str
    reasoning: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """What one event, or one unary body, says.

    `choices` were seen in it, `finished` of them with a finish reason; `error` holds the vendor's
    words when it is an error; `done` marks the `[DONE]` event.
    """

    pieces: tuple[Piece, ...] = ()
    choices: frozenset[int] = frozenset()
    finished: frozenset[int] = frozenset()
    error: str | None = None
    done: bool = False


def read_frame(data: bytes) -> Frame:
    """The meaning of one event's data."""
    if data.strip() == DONE:
        return Frame(done=True)
    value = _loads(data)
    if isinstance(value, dict):
        return _frame(value)
    return _broken_frame(data)


def read_completion(body: bytes) -> Frame | None:
    """The meaning of a complete unary JSON body; None when it is not a JSON object."""
    value = _loads(body.removeprefix(b"\xef\xbb\xbf"))
    return _frame(value) if isinstance(value, dict) else None


def error_words(value: object, depth: int = 3) -> str:
    """The words of an error in any of the vendor's envelopes; may be empty.

    `value` is what stands under "error", or the whole body; a message that is itself JSON is
    unwrapped up to `depth` times (wire facts, section 6.1).
    """
    if isinstance(value, str):
        inner = _loads(value.encode("utf-8", "replace")) if depth and "{" in value else None
        return error_words(inner, depth - 1) if isinstance(inner, dict) else value
    if not isinstance(value, dict):
        return ""
    if depth and value.get("error"):
        return error_words(value["error"], depth - 1)
    texts = (value.get(name) for name in ("code", "message", "detail", "fail_reason"))
    words = [error_words(text, depth - 1) for text in texts if isinstance(text, str) and text]
    return " ".join(dict.fromkeys(words))


def sound(text: str) -> str:
    """`text` as every database takes it: no NUL, no half of a surrogate pair."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _loads(data: bytes) -> object:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:  # bytes that are not UTF-8 are still a frame to a lenient reader
        return orjson.loads(data.decode("utf-8", "replace"))
    except orjson.JSONDecodeError:
        return None


def _frame(value: dict[str, object]) -> Frame:
    pieces: list[Piece] = []
    choices: set[int] = set()
    finished: set[int] = set()
    listed = value.get("choices")
    for position, choice in enumerate(listed if isinstance(listed, list) else ()):
        if not isinstance(choice, dict) or position >= _CHOICES_MAX:
            continue
        index = choice.get("index")
        known = isinstance(index, int) and 0 <= index < _CHOICES_MAX
        index = int(index) if known and isinstance(index, int) else position
        choices.add(index)
        if choice.get("finish_reason"):
            finished.add(index)
        pieces.extend(_pieces(index, choice))
    failed = value.get("error") or ("choices" not in value and _is_refusal(value))
    return Frame(
        tuple(pieces),
        frozenset(choices),
        frozenset(finished),
        (sound(error_words(value)) or "error") if failed else None,
    )


def _is_refusal(value: dict[str, object]) -> bool:
    """Whether an object without choices is one of the flat envelopes of section 6.1."""
    return any(isinstance(value.get(name), str) for name in ("detail", "message", "fail_reason"))


def _pieces(index: int, choice: dict[str, object]) -> Iterator[Piece]:
    for holder in (choice.get("delta"), choice.get("message")):
        if not isinstance(holder, dict):
            continue
        for name in ("reasoning_content", "content"):
            for text in _texts(holder.get(name)):
                yield Piece(index, sound(text), reasoning=name == "reasoning_content")


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        if content:
            yield content
    elif isinstance(content, list):
        for part in content:
            text = part.get("text") if isinstance(part, dict) else part
            if isinstance(text, str) and text:
                yield text


def _broken_frame(data: bytes) -> Frame:
    text = data.decode("utf-8", "replace")
    pieces = []
    for match in _BROKEN_TEXT.finditer(text):
        piece = _unescape(match["text"])
        if piece:
            pieces.append(Piece(0, sound(piece), reasoning=match["name"] != "content"))
    failed = not pieces and _BROKEN_ERROR.search(text) is not None
    choices = frozenset({0} if pieces else ())
    return Frame(tuple(pieces), choices, error=text[:500] if failed else None)


def _unescape(text: str) -> str:
    """The text of a JSON string that may end in the middle of an escape."""
    whole = _BROKEN_ESCAPE.sub("", text)
    try:
        value = json.loads(f'"{whole}"', strict=False)
    except ValueError:
        return whole
    return value if isinstance(value, str) else whole
