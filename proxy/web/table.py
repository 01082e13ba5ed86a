"""The relay's routes, in one table: the dispatcher, OpenAPI and the tenancy tests read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.core.keys import Role


@dataclass(frozen=True, slots=True)
class Route:
    """One route of the data plane.

    `flow` names the function of the relay that serves it, `roles` are the ones it is open to,
    `request` and `reply` are its media types in the OpenAPI document.
    """

    method: str
    path: str
    flow: str
    roles: tuple[Role, ...]
    summary: str
    request: tuple[str, ...]
    reply: tuple[str, ...]


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/chat/completions",
        flow="chat",
        roles=(Role.TENANT,),
        summary="Render 1 to 4 clips; progress and links are streamed as the vendor sends them.",
        request=("application/json",),
        reply=("text/event-stream", "application/json"),
    ),
)
