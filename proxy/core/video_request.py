"""A request for a video, JSON or form, as its sender wrote it: read, or refused with a reason.

`seconds` and `size` are checked against the model and dropped, because the vendor sells them as
parts of its name, and `n` is ignored as the vendor ignores it (wire facts, 4.1 and 4.2). Fields
that nobody knows are dropped too.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.core.catalog import Catalog, Model
from proxy.core.images import ImageLimits, data_url_problem, image_problem
from proxy.core.request import BodyLimits, Malformed, read_object
from proxy.core.variants import as_sold, as_translated

OPENAI_MODEL: Final = "sora-2"
"""What OpenAI takes when no model is named; it counts where an alias has this name."""

_FIELDS: Final = ("model", "prompt", "seconds", "size")
_REFERENCE: Final = re.compile(r"input_reference(?:\[(?P<index>[0-9]{0,3})\])?(?:\[image_url\])?")
_UNDECLARED: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})


@dataclass(frozen=True, slots=True)
class Image:
    """A JPEG or PNG image that has been looked at; `type` is its true media type."""

    data: bytes
    type: str


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart form as it came; `filename` is None for a plain field.

    `content_type` is the part's own, None if it had none.
    """

    name: str
    data: bytes
    content_type: str | None = None
    filename: str | None = None


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """A valid request for one video; the first of `images` is the start frame.

    `asked_model` is the caller's word, `model` what is bought.
    """

    model: Model
    asked_model: str
    prompt: str
    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """What a request is held against; `aliases` maps callers' words to names of models."""

    catalog: Catalog
    aliases: Mapping[str, str]
    limits: BodyLimits


def read_video_json(body: bytes, rules: Rules) -> VideoRequest | Malformed:
    """The request in a JSON body, or why it is refused; nothing has been sent then."""
    fields = read_object(body, rules.limits)
    if isinstance(fields, Malformed):
        return fields
    references = fields.get("input_reference")
    links = []
    for reference in references if isinstance(references, list) else [references]:
        if reference is not None:
            link = _link(reference)
            if link is None:
                return _unusable()
            links.append(link)
    return _read({name: fields.get(name) for name in _FIELDS}, links, rules)


def read_video_form(parts: Iterable[Part], rules: Rules) -> VideoRequest | Malformed:
    """The request in the parts of a multipart form, or why it is refused.

    Images come as files or as the JSON body's texts, under `input_reference`, `input_reference[]`
    or `input_reference[0]`; in order of their numbers where all have one.
    """
    fields: dict[str, object] = {}
    found: list[tuple[str | None, str | Part]] = []
    for part in parts:
        if part.name.startswith("input_reference"):
            reference = _REFERENCE.fullmatch(part.name)
            sent = _reference(part, rules.limits)
            if reference is None or sent is None:
                return _unusable()
            if part.data or part.filename:  # a browser's form sends an empty file for none
                found.append((reference["index"], sent))
        elif part.name in _FIELDS:
            text = _field(part, fields)
            if isinstance(text, Malformed):
                return text
            fields[part.name] = text
    if all(index for index, _ in found):
        found.sort(key=lambda each: int(each[0] or 0))
    return _read(fields, [sent for _, sent in found], rules)


def _field(part: Part, before: Mapping[str, object]) -> str | Malformed:
    if part.name in before:
        message = f"The field {part.name} stands twice; send it once."
        return Malformed("invalid_request", message, part.name)
    try:
        return part.data.decode()
    except UnicodeDecodeError:
        return Malformed("invalid_request", f"{part.name} is not UTF-8.", part.name)


def _read(
    fields: Mapping[str, object], sent: Sequence[str | Part], rules: Rules
) -> VideoRequest | Malformed:
    asked = fields.get("model")
    if asked is None and OPENAI_MODEL in rules.aliases:
        asked = OPENAI_MODEL
    if not isinstance(asked, str):
        return Malformed("invalid_request", "Name a model, as a string.", "model")
    model = rules.catalog.find(rules.aliases.get(asked, asked))
    if model is None:
        message = f"There is no model {asked[:80]!r}; GET /v1/models lists them."
        return Malformed("model_not_found", message, "model")
    prompt = _prompt(fields.get("prompt"), rules.limits.text_bytes_max)
    if isinstance(prompt, Malformed):
        return prompt
    seconds, size = fields.get("seconds"), fields.get("size")
    bought = (
        as_sold(model, seconds, size, rules.catalog)
        if asked == model.name
        else as_translated(model, seconds, size, rules.catalog, framed=bool(sent))
    )
    if isinstance(bought, Malformed):
        return bought
    problem = _count_problem(bought, len(sent))
    if problem is not None:
        return problem
    images = []
    for number, each in enumerate(sent, 1):
        image = _image(each, rules.limits.image)
        if isinstance(image, str):
            return Malformed("invalid_image", f"Image {number} {image}.", "input_reference")
        images.append(image)
    return VideoRequest(bought, asked, prompt, tuple(images))


def _prompt(value: object, bytes_max: int) -> str | Malformed:
    if not isinstance(value, str) or not value.strip():
        return Malformed("invalid_request", "Say in prompt what the video shows.", "prompt")
    try:
        size: int | None = len(value.encode())
    except UnicodeEncodeError:
        size = None
    if size is None or "\x00" in value:
        message = "prompt holds what is no text: a NUL, or half a surrogate pair."
        return Malformed("invalid_request", message, "prompt")
    if size > bytes_max:
        return Malformed("request_too_large", f"prompt may have {bytes_max:,} bytes.", "prompt")
    return value


def _count_problem(model: Model, images: int) -> Malformed | None:
    if images < model.images_min:
        message = f"{model.name} starts from an image: send one, or two for start and end."
        return Malformed("image_required", message, "input_reference")
    if images and not model.images_max:
        message = f"{model.name} takes no image; a model ending in -fl does."
        return Malformed("image_not_allowed", message, "input_reference")
    if images > model.images_max:
        message = f"{model.name} takes at most {model.images_max} images; {images} were sent."
        return Malformed("invalid_image", message, "input_reference")
    return None


def _unusable() -> Malformed:
    message = "Send input_reference as a file, or as an object with an image_url that is a data URL"
    return Malformed("invalid_image", f"{message}.", "input_reference")


def _link(reference: object) -> str | None:
    """The link in a JSON reference: a text, `{"image_url": …}`, or chat's `{"url": …}` in that."""
    if isinstance(reference, dict):
        reference = reference.get("image_url")
    if isinstance(reference, dict):
        reference = reference.get("url")
    return reference if isinstance(reference, str) else None


def _reference(part: Part, limits: BodyLimits) -> str | Part | None:
    """A part's link where it is a text, the part itself where it is an image; None for neither."""
    if part.filename is not None or part.data[:1] not in {b"d", b"h", b"{"}:
        return part
    if part.data[:1] != b"{":
        return part.data.decode("utf-8", "replace")
    fields = read_object(part.data, limits)
    return None if isinstance(fields, Malformed) else _link(fields)


def _image(sent: str | Part, limits: ImageLimits) -> Image | str:
    """The image, or what is wrong with it, in words for its sender."""
    if isinstance(sent, str):
        if sent[:8].lower().startswith(("http://", "https://")):
            return "is a link; send the image itself, as a file or a data URL"
        problem = data_url_problem(sent, limits)
        data = b"" if problem else base64.b64decode(sent.partition(",")[2])
    else:
        declared = (sent.content_type or "").partition(";")[0].strip().lower()
        problem = image_problem(sent.data, None if declared in _UNDECLARED else declared, limits)
        data = sent.data
    return problem or Image(data, "image/png" if data.startswith(b"\x89PNG") else "image/jpeg")
