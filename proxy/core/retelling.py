"""An answer made afresh, in the vendor's documented form, of clips that are kept.

Of what a first answer said only its clips are told again: their new links, each in a success line
as the vendor's page has it, and a line for each clip that was not made (wire facts, 3.2 to 3.4).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Retelling:
    """A fresh answer to a request for so many clips as there are `links`.

    A link is None for a clip that was not made. `created` are the seconds of the epoch at which the
    first answer was asked for, `id` is what this one calls itself.
    """

    id: str
    model: str
    created: int
    links: Sequence[str | None]

    def stream(self) -> bytes:
        """As server-sent events, `[DONE]` the last of them."""
        deltas = [{"role": "assistant"}, *({"content": line} for line in self._lines())]
        chunks = [self._chunk(delta, None) for delta in deltas]
        events = [_dumps(chunk) for chunk in (*chunks, self._chunk({}, "stop"))]
        return b"".join(b"data: %b\n\n" % event for event in (*events, b"[DONE]"))

    def completion(self) -> bytes:
        """As one JSON body."""
        message = {"role": "assistant", "content": "".join(self._lines())}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return _dumps({**self._named("chat.completion"), "choices": [choice]})

    def _lines(self) -> list[str]:
        return [
            f"> ❌ Video {number} failed\n\n"
            if link is None
            else f"> ✅ Video {number} complete, [click here]({link}) to view~~~\n\n"
            for number, link in enumerate(self.links, 1)
        ]

    def _chunk(self, delta: dict[str, str], finish: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {**self._named("chat.completion.chunk"), "choices": [choice]}

    def _named(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def _dumps(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
