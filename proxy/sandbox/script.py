"""A chat answer, chunk by chunk: what is said when, in which channel and which choice.

Everything here is a function of its arguments: the events of a job and a `Style` go in, the
payloads of the stream or the body of the unary answer come out (wire facts, 3.2 to 3.5).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from proxy.sandbox.errors import dumps
from proxy.sandbox.jobs import Event, Made, Progress, Queued, Spoiled
from proxy.sandbox.orders import Order
from proxy.sandbox.words import Style, echo, error_body, progress, success, trouble, usage, waiting

DONE: Final = "[DONE]"
# The shape of the one broken frame on record: a bracket too many, a brace too few.
_BROKEN: Final = '{"id":"","object":"chat.completion.chunk","created":0,"choices":[{"index":0]]}'
_PIECE_LETTERS: Final = 17


@dataclass(frozen=True, slots=True)
class Script:
    """One answer to `order`; each method gives the payloads of the next frames."""

    order: Order
    style: Style
    answer_id: str
    created: int

    @property
    def indices(self) -> range:
        """The choices of the answer."""
        return range(self.order.clips if self.style.choices else 1)

    def opening(self) -> Iterator[str]:
        """The role, and the prompt echoed in a fenced block."""
        for index in self.indices if not self.style.english else ():
            yield self._chunk({"role": "assistant"}, index)
            if not self.style.reasoning:
                yield from self._say(echo(self.order), index)
        if self.style.broken_frame:
            yield _BROKEN

    def on(self, event: Event) -> Iterator[str]:
        """What is said when `event` happens."""
        style = self.style
        if isinstance(event, Queued):
            for index in self.indices:
                yield from self._say(waiting(style), index, told=True)
        elif isinstance(event, Progress):
            for index in self.indices:
                yield from self._say(progress(event.percent, style), index, told=True)
        elif isinstance(event, Made):
            index = event.clip.number - 1 if style.choices else 0
            yield from self._say(success(event.clip, self.order.clips, style), index)
        elif style.ending == "error-frame":
            if event.number == 1:
                yield self._dumps(error_body(event.code))
        elif style.ending not in {"silent", "bare"}:
            index = event.number - 1 if style.choices else 0
            text = trouble(event, self.order.clips, style)
            yield from self._say(text, index, told=style.ending == "fail-reasoning")

    def closing(self) -> Iterator[str]:
        """The finish, the usage and `[DONE]`, as far as this ending has them."""
        style = self.style
        if style.ending in {"bare", "no-done"}:
            return
        if style.ending not in {"error-frame", "fail-reasoning"} and not style.english:
            for index in self.indices:
                last = index == self.indices[-1] and style.usage == "last"
                yield self._chunk({}, index, "stop", self._usage() if last else {})
        if style.usage == "own" and style.ending != "error-frame":
            yield self._dumps({**self._frame(), "choices": [], **self._usage()})
        yield DONE

    def unary(self, events: Iterable[Event]) -> str:
        """The body of an answer that is not streamed: the same text without progress."""
        texts = {index: ["", ""] for index in self.indices}
        for index in self.indices:
            texts[index][0] += echo(self.order) if not self.style.reasoning else ""
        for event in events:
            if isinstance(event, Made):
                index = event.clip.number - 1 if self.style.choices else 0
                texts[index][0] += success(event.clip, self.order.clips, self.style)
            elif isinstance(event, Spoiled) and self.style.ending not in {"silent", "bare"}:
                index = event.number - 1 if self.style.choices else 0
                channel = 1 if self.style.ending == "fail-reasoning" else 0
                texts[index][channel] += trouble(event, self.order.clips, self.style)
        choices = []
        for index, (content, reasoning) in texts.items():
            message = {"role": "assistant", "content": content}
            message |= {"reasoning_content": reasoning} if reasoning else {}
            choices.append({"index": index, "message": message, "finish_reason": "stop"})
        body = {**self._frame("chat.completion"), "choices": choices}
        return self._dumps(body | ({} if self.style.usage == "none" else self._usage()))

    def _say(self, text: str, index: int, *, told: bool = False) -> Iterator[str]:
        """Chunks with `text`; `told` text goes where the style puts its progress."""
        channel = "reasoning_content" if told and self.style.reasoning else "content"
        step = _PIECE_LETTERS if self.style.split else max(1, len(text))
        for start in range(0, len(text), step):
            yield self._chunk({channel: text[start : start + step]}, index)

    def _chunk(
        self,
        delta: dict[str, str],
        index: int,
        finish: str | None = None,
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> str:
        if self.style.english:
            numbered = {"index": index} if self.style.choices else {}
            return self._dumps({"choices": [{**numbered, "delta": delta}]})
        choice = {"index": index, "delta": delta, "finish_reason": finish}
        return self._dumps({**self._frame(), "choices": [choice], **more})

    def _usage(self) -> dict[str, Any]:
        return {"usage": usage(self.order)}

    def _frame(self, kind: str = "chat.completion.chunk") -> dict[str, Any]:
        model = self.order.product.name
        return {"id": self.answer_id, "object": kind, "created": self.created, "model": model}

    def _dumps(self, data: object) -> str:
        text = dumps(data)
        if self.style.escape == "html":
            for letter in "<>&":
                text = text.replace(letter, f"\\u{ord(letter):04x}")
        elif self.style.escape == "slashes":
            text = text.replace("/", "\\/")
        return text
