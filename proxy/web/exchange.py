"""One HTTP exchange: what was asked, by whom, and what the log line and the metrics say of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from proxy.core.caller import Caller
from proxy.core.headers import valid_request_id, value_of
from proxy.flows.generation import Generation


@dataclass(slots=True)
class Exchange:
    """A request and its reply, as far as they are known; `started` is monotonic seconds."""

    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    request_id: str
    started: float
    route: str = "other"
    status: int = 0
    caller: Caller | None = None
    generation: Generation | None = None
    ended_well: bool = True
    noted: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, scope: Any, mint: Any, started: float) -> Exchange:
        """The exchange of an ASGI scope; a caller's own request id is taken if it is fit."""
        headers = list(scope["headers"])
        asked = value_of(headers, b"x-request-id")
        request_id = asked if asked is not None and valid_request_id(asked) else mint("req")
        return cls(scope["method"], scope["path"], headers, request_id, started)

    @property
    def known_caller(self) -> Caller:
        """The caller, once its key was accepted."""
        assert self.caller is not None
        return self.caller

    def note(self, **fields: Any) -> None:
        """Have the log line say so; empty values say nothing."""
        self.noted.update({name: value for name, value in fields.items() if value})

    def own_headers(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """`headers`, and ours: the generation's, if there is one. The request id comes last."""
        if self.generation is None:
            return headers
        ours = [(name.encode(), value.encode()) for name, value in self.generation.headers()]
        return headers + ours
