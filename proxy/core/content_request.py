"""What a request for a clip's content asks for: which picture of it, in which form, from where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl

from proxy.core.request import Malformed

_Raw = Iterable[tuple[bytes, bytes]]


class Variant(StrEnum):
    """What of a clip is asked for; the words are the OpenAI SDK's."""

    VIDEO = "video"
    THUMBNAIL = "thumbnail"
    SPRITESHEET = "spritesheet"


@dataclass(frozen=True, slots=True)
class ContentRequest:
    """`as_link` asks for a link in JSON and not for bytes; `direct` refuses to be sent elsewhere.

    `whole` is content with all of it from the beginning, whatever version it is: it names no
    range, but perhaps `bytes=0-`, with which browsers begin, and no condition.
    """

    variant: Variant = Variant.VIDEO
    as_link: bool = False
    direct: bool = False
    whole: bool = True


_VERSIONED: Final = frozenset(
    {b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"}
)
_BYTES: Final = ("*", "application", "audio", "image", "video")


def read_content_request(query: str, headers: _Raw) -> ContentRequest | Malformed:
    """Read the query behind the path and the headers of a GET or HEAD.

    Parameters that are not ours change nothing; the signed link's stand there as well.
    """
    raw = [(name.lower(), value) for name, value in headers]
    asked = parse_qsl(query, keep_blank_values=True)
    variants = {value for name, value in asked if name == "variant"} or {Variant.VIDEO.value}
    redirects = {value for name, value in asked if name == "redirect"} or {"1"}
    if len(variants) > 1 or not variants <= set(Variant):
        words = f"variant must be one of {', '.join(Variant)}."
        return Malformed("invalid_request", words, "variant")
    if len(redirects) > 1 or not redirects <= {"0", "1"}:
        return Malformed("invalid_request", "redirect must be 0 or 1.", "redirect")
    ranges = [value.strip().lower() for name, value in raw if name == b"range"]
    versioned = any(name in _VERSIONED for name, _ in raw)
    return ContentRequest(
        variant=Variant(variants.pop()),
        as_link=_wants_json(raw),
        direct=redirects == {"0"},
        whole=ranges in ([], [b"bytes=0-"]) and not versioned,
    )


def _wants_json(raw: _Raw) -> bool:
    """Whether `Accept` names JSON and nothing that a clip could be.

    Clients that add `*/*` to JSON do so to every request they send, and can save a clip. What
    weighs nothing (`q=0`) is not named.
    """
    accepted = ",".join(value.decode("latin-1") for name, value in raw if name == b"accept")
    named = {
        kind.strip().lower()
        for kind, _, weight in (each.partition(";") for each in accepted.split(","))
        if weight.replace(" ", "").rstrip("0.") != "q="
    }
    others = {kind.partition("/")[0] for kind in named - {"application/json"}}
    return "application/json" in named and others.isdisjoint(_BYTES)
