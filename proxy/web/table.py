"""The relay's routes, in one table: the dispatcher, OpenAPI and the tenancy tests read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from proxy.core.keys import Role

ID: Final = "{id}"
"""Where a template has an object's id: one segment of a path, whatever stands in it."""


@dataclass(frozen=True, slots=True)
class Media:
    """A media type of a request or a reply; `shape` names what stands in it, in `web.shapes`."""

    type: str
    shape: str = ""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter or a header that a route knows, in the words of a JSON Schema."""

    name: str
    about: str
    schema: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Route:
    """One route of the data plane.

    `path` is a template, in which `{id}` stands for an object's id. `flow` names the function of
    the relay that serves it, `roles` are the ones it is open to. A route with a door of its own
    finds out itself who asks, because a key is not all that opens it.
    """

    method: str
    path: str
    flow: str
    roles: tuple[Role, ...]
    summary: str
    request: tuple[Media, ...] = ()
    reply: tuple[Media, ...] = ()
    query: tuple[Parameter, ...] = ()
    headers: tuple[Parameter, ...] = ()
    own_door: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path leads: the routes there by their methods, and the id that stands in it."""

    path: str
    routes: Mapping[str, Route]
    id: str = ""


_JSON: Final = "application/json"
_CONTENT: Final = "/v1/videos/{id}/content"
_CONTENT_QUERY: Final = (
    Parameter(
        "variant",
        "The clip itself, or a picture made from it.",
        {"type": "string", "enum": ["video", "thumbnail", "spritesheet"], "default": "video"},
    ),
    Parameter(
        "redirect",
        "0 has the bytes come from here, also where callers are sent on to the bucket.",
        {"type": "string", "enum": ["0", "1"], "default": "1"},
    ),
)
_CONTENT_REPLY: Final = (
    Media("video/mp4", "Bytes"),
    Media("image/webp", "Bytes"),
    Media("image/jpeg", "Bytes"),
    Media(_JSON, "Link"),
)

_REPEATS: Final = (
    Parameter(
        "Idempotency-Key",
        "A name for this purchase: the same name and body get the same answer, and nothing is "
        "bought twice.",
        {"type": "string", "minLength": 1, "maxLength": 255},
    ),
    Parameter(
        "x-clipmeter-reuse",
        "on: an identical earlier request of the team will do, where the operator allows it.",
        {"type": "string", "enum": ["on", "off"], "default": "off"},
    ),
)

ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/chat/completions",
        flow="chat",
        roles=(Role.TENANT,),
        summary="Render 1 to 4 clips; progress and links are streamed as the vendor sends them.",
        request=(Media(_JSON),),
        reply=(Media("text/event-stream"), Media(_JSON)),
        headers=_REPEATS,
    ),
    Route(
        method="POST",
        path="/v1/videos",
        flow="create_video",
        roles=(Role.TENANT,),
        summary="Order a clip, and come back for it.",
        request=(Media("multipart/form-data", "VideoForm"), Media(_JSON, "VideoOrder")),
        reply=(Media(_JSON, "Video"),),
        headers=_REPEATS,
    ),
    Route(
        method="GET",
        path="/v1/videos",
        flow="list_videos",
        roles=(Role.TENANT,),
        summary="The team's clips, whichever way they were made, a page at a time.",
        reply=(Media(_JSON, "VideoList"),),
        query=(
            Parameter("after", "The last id of the page before.", {"type": "string"}),
            Parameter(
                "limit",
                "How many; limits.videos_listed_max at most.",
                {"type": "integer", "minimum": 1, "default": 20},
            ),
            Parameter(
                "order",
                "By the time of their acceptance.",
                {"type": "string", "enum": ["asc", "desc"], "default": "desc"},
            ),
        ),
    ),
    Route(
        method="GET",
        path="/v1/videos/{id}",
        flow="retrieve_video",
        roles=(Role.TENANT,),
        summary="How far a clip is, and what became of it.",
        reply=(Media(_JSON, "Video"),),
    ),
    Route(
        method="DELETE",
        path="/v1/videos/{id}",
        flow="delete_video",
        roles=(Role.TENANT,),
        summary="Forget a finished clip's bytes and prompt; its charge stays.",
        reply=(Media(_JSON, "VideoDeleted"),),
    ),
    Route(
        method="GET",
        path=_CONTENT,
        flow="content",
        roles=(Role.TENANT,),
        summary="A clip's bytes, by a key or by a signed link; ranges and conditions are obeyed.",
        reply=_CONTENT_REPLY,
        query=_CONTENT_QUERY,
        own_door=True,
    ),
    Route(
        method="HEAD",
        path=_CONTENT,
        flow="content",
        roles=(Role.TENANT,),
        summary="What GET would answer, without the bytes.",
        reply=_CONTENT_REPLY,
        query=_CONTENT_QUERY,
        own_door=True,
    ),
)


def find_place(path: str) -> Place | None:
    """Where `path`, as the request line gave it, leads; None if the table has no such place."""
    fixed = _FIXED.get(path)
    if fixed is not None:
        return fixed
    for before, after, place in _TEMPLATES:
        if path.startswith(before) and path.endswith(after):
            found = path[len(before) : len(path) - len(after)]
            if found and "/" not in found:
                return Place(place.path, place.routes, found)
    return None


def _places() -> dict[str, Place]:
    routes: dict[str, dict[str, Route]] = {}
    for route in ROUTES:
        routes.setdefault(route.path, {})[route.method] = route
    return {path: Place(path, MappingProxyType(methods)) for path, methods in routes.items()}


def _template(place: Place) -> tuple[str, str, Place]:
    before, _, after = place.path.partition(ID)
    return before, after, place


_PLACES: Final = _places()
_FIXED: Final = {path: place for path, place in _PLACES.items() if ID not in path}
_TEMPLATES: Final = tuple(_template(place) for path, place in _PLACES.items() if ID in path)
