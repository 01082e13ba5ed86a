"""A paid request as its sender wrote it: read, and refused where it is not clear what it buys.

The body of a chat request goes to the vendor as it came (decision 19), so whatever we read must be
what the vendor reads. JSON that two readers may understand differently is refused: duplicate keys,
keys that differ from ours in case alone (Go's decoder, which the vendor's gateway uses, matches
them), `NaN`, numbers where a count is meant to be.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.core.catalog import CLIPS_MAX
from proxy.core.images import ImageLimits, data_url_problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from proxy.core.catalog import Catalog, Model

_OURS: Final = frozenset({"model", "messages", "n", "stream"})
_OURS_IN_MESSAGES: Final = frozenset(
    {"role", "content", "type", "text", "image_url", "image", "url"}
)
_IMAGE_PARTS: Final = frozenset({"image_url", "input_image", "image"})


@dataclass(frozen=True, slots=True)
class Malformed:
    """Why a request is refused: an error code of the contract, words for a person, the field."""

    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How large and how deep a JSON body may be.

    `text_bytes_max` is for all the text in a request, and for its whole body where no image is
    allowed; `values_max` bounds what parsing it can unfold to.
    """

    text_bytes_max: int
    values_max: int
    depth_max: int
    image: ImageLimits


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A valid chat request.

    `body` is what is sent on: the bytes that came, unless an alias changed the model. `texts` are
    the words and links in the messages, by which the meter knows an echo.
    """

    model: Model
    asked_model: str
    clips: int
    stream: bool
    images: int
    texts: tuple[str, ...]
    body: bytes


class _AmbiguousError(ValueError):
    """JSON that two readers may understand differently."""


def read_chat(
    body: bytes, catalog: Catalog, aliases: Mapping[str, str], limits: BodyLimits
) -> ChatRequest | Malformed:
    """The chat request in `body`, or why it is refused; nothing has been sent then."""
    fields = read_object(body, limits)
    if isinstance(fields, Malformed):
        return fields
    asked_model = fields.get("model")
    if not isinstance(asked_model, str):
        return Malformed("invalid_request", "Name a model, as a string.", "model")
    model = catalog.find(aliases.get(asked_model, asked_model))
    if model is None:
        return Malformed("model_not_found", _no_model(asked_model), "model")
    if not model.images_max and len(body) > limits.text_bytes_max:
        message = f"A request for {model.name} may have {limits.text_bytes_max:,} bytes."
        return Malformed("request_too_large", message)
    messages = _plain_fields(fields)
    if isinstance(messages, Malformed):
        return messages
    parts = _read_parts(messages, limits)
    if isinstance(parts, Malformed):
        return parts
    problem = images_problem(model, [part.text for part in parts if part.is_image], limits.image)
    if problem is not None:
        return problem
    if asked_model != model.name:
        body = json.dumps({**fields, "model": model.name}, allow_nan=False).encode()
    return ChatRequest(
        model=model,
        asked_model=asked_model,
        clips=int(str(fields.get("n", 1))),
        stream=fields.get("stream") is True,
        images=sum(part.is_image for part in parts),
        texts=tuple(part.text for part in parts if not part.text.startswith("data:")),
        body=body,
    )


def _plain_fields(fields: Mapping[str, object]) -> list[object] | Malformed:
    """The messages, if they and the plain fields beside them are of the right kind."""
    clips, stream, messages = fields.get("n", 1), fields.get("stream"), fields.get("messages")
    if type(clips) is not int or not 1 <= clips <= CLIPS_MAX:
        return Malformed("n_out_of_range", f"n must be a number from 1 to {CLIPS_MAX}.", "n")
    if stream is not None and not isinstance(stream, bool):
        return Malformed("invalid_request", "stream must be true or false.", "stream")
    if not isinstance(messages, list) or not messages:
        return Malformed("invalid_request", "Send at least one message.", "messages")
    return messages


def read_object(body: bytes, limits: BodyLimits) -> dict[str, object] | Malformed:
    """The JSON object in `body`, or why it is refused."""
    depth_max = limits.depth_max
    # Counted before it is parsed: a body of nothing but brackets unfolds to thirty times its size.
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > limits.values_max:
        words = f"The body has more than {limits.values_max:,} values."
        return Malformed("request_too_large", words)
    try:
        value = json.loads(
            body.decode(),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except UnicodeDecodeError:
        return Malformed("invalid_request", "The body is not UTF-8.")
    except _AmbiguousError as problem:
        return Malformed("invalid_request", f"The body is ambiguous: {problem}.")
    except RecursionError:
        return Malformed("invalid_request", f"The body is nested deeper than {depth_max}.")
    except ValueError:
        return Malformed("invalid_request", "The body is not valid JSON.")
    if not isinstance(value, dict):
        return Malformed("invalid_request", "The body must be a JSON object.")
    if _depth(value, depth_max) > depth_max:
        return Malformed("invalid_request", f"The body is nested deeper than {depth_max}.")
    return _odd_key(value, _OURS) or value


def images_problem(model: Model, urls: list[str], limits: ImageLimits) -> Malformed | None:
    """Whether `model` takes these images: links, or data URLs whose bytes are looked at."""
    if len(urls) < model.images_min:
        message = f"{model.name} starts from an image: send one, or two for start and end."
        return Malformed("image_required", message, "messages")
    if urls and not model.images_max:
        message = f"{model.name} takes no image; a model ending in -fl does."
        return Malformed("image_not_allowed", message, "messages")
    if len(urls) > model.images_max:
        message = f"{model.name} takes at most {model.images_max} images; {len(urls)} were sent."
        return Malformed("invalid_image", message, "messages")
    for number, url in enumerate(urls, 1):
        if url.startswith("data:"):
            problem = data_url_problem(url, limits)
        elif url.startswith(("https://", "http://")):
            problem = None
        else:
            problem = "is neither a link nor a data URL"
        if problem is not None:
            return Malformed("invalid_image", f"Image {number} {problem}.", "messages")
    return None


def _no_model(name: str) -> str:
    return f"There is no model {name[:80]!r}; GET /v1/models lists them."


class _Part(NamedTuple):
    """A text, or an image's link."""

    is_image: bool
    text: str


def _read_parts(messages: list[object], limits: BodyLimits) -> list[_Part] | Malformed:
    """Every text and image of the messages, in order, unless there is too much text."""
    parts: list[_Part] = []
    chars = 0
    for part in _parts(messages):
        if isinstance(part, Malformed):
            return part
        parts.append(part)
        chars += 0 if part.text.startswith("data:") else len(part.text)
    if chars > limits.text_bytes_max:
        return Malformed("request_too_large", f"At most {limits.text_bytes_max:,} bytes of text.")
    return parts


def _parts(messages: list[object]) -> Iterator[_Part | Malformed]:
    """Each text and image of the messages, in order."""
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if not isinstance(message, dict):
            yield Malformed("invalid_request", f"{where} must be an object.", "messages")
            return
        odd = _odd_key(message, _OURS_IN_MESSAGES)
        if odd is not None:
            yield odd
            return
        content = message.get("content")
        if isinstance(content, str):
            yield _Part(False, content)
        elif isinstance(content, list):
            for part in content:
                yield _part(part, where)
        elif content is not None:
            wanted = "a string or a list of parts"
            yield Malformed("invalid_request", f"{where}.content must be {wanted}.", "messages")
            return


def _part(part: object, where: str) -> _Part | Malformed:
    if isinstance(part, str):
        return _Part(False, part)
    if not isinstance(part, dict):
        return Malformed("invalid_request", f"A part of {where} must be an object.", "messages")
    image = part.get("image_url", part.get("image"))
    odd = _odd_key(part, _OURS_IN_MESSAGES)
    if odd is None and isinstance(image, dict):
        odd = _odd_key(image, _OURS_IN_MESSAGES)
    if odd is not None:
        return odd
    kind = part.get("type")
    if (isinstance(kind, str) and kind in _IMAGE_PARTS) or "image_url" in part:
        url = image.get("url") if isinstance(image, dict) else image
        if not isinstance(url, str):
            message = f"An image of {where} needs an image_url with a url."
            return Malformed("invalid_image", message, "messages")
        return _Part(True, url)
    text = part.get("text")
    return _Part(False, text if isinstance(text, str) else "")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _AmbiguousError(f"the key {key[:80]!r} stands twice")
            seen.add(key)
    return value


def _finite(number: str) -> float:
    value = float(number)
    if value in (float("inf"), float("-inf")):
        raise _AmbiguousError(f"{number[:20]} is no number that can be kept")
    return value


def _no_constant(name: str) -> object:
    raise _AmbiguousError(f"{name} is not JSON")


def _odd_key(value: dict[str, object], names: frozenset[str]) -> Malformed | None:
    """A key that Go's encoding/json takes for one of `names`: it folds case, Unicode's way."""
    for key in value:
        if key not in names and (ours := key.casefold()) in names:
            return Malformed("invalid_request", f"Write {key[:80]!r} as {ours!r}.", ours)
    return None


def _depth(value: object, limit: int) -> int:
    """How deep lists and objects are nested, counted no further than just beyond `limit`."""
    level, depth = [value], 0
    while depth <= limit:
        level = [
            child
            for node in level
            if isinstance(node, (dict, list))
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        depth += 1
        if not level:
            return depth
    return depth
