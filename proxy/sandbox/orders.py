"""What a caller asks of the vendor, read and checked the way the vendor does."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any, Final

from proxy.sandbox.errors import ERRORS, failure
from proxy.sandbox.http import Reply, Request

CLIPS_MAX: Final = 4
IMAGES_MAX: Final = 2
IMAGE_BYTES_MAX: Final = 5 << 20
_MAGIC: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_BOUNDARY: Final = re.compile(r'boundary="?([^";]{1,70})"?')
_FIELD: Final = re.compile(rb'\bname="([^"]*)"')
_FILE: Final = re.compile(rb'\bfilename="')


@dataclass(frozen=True, slots=True)
class Product:
    """A model the vendor sells: price in micro-dollars a clip, size in pixels, images taken."""

    name: str
    micros: int
    width: int
    height: int
    images_min: int = 0
    images_max: int = 0

    @property
    def fast(self) -> bool:
        """The quicker, cheaper tier."""
        return "-fast" in self.name


@dataclass(frozen=True, slots=True)
class Order:
    """One checked request: `clips` is the vendor's `n`, `images` how many came along."""

    product: Product
    prompt: str
    clips: int
    images: int
    stream: bool


class Refused(Exception):
    """The vendor does not take the order; `reply` says why. Nothing is accepted."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def documented_products() -> Mapping[str, Product]:
    """The eight models and prices of the vendor's page."""
    products = {}
    for landscape, fast, frames in product((False, True), repeat=3):
        name = "veo-3.1" + "-landscape" * landscape + "-fast" * fast + "-fl" * frames
        width, height = (1280, 720) if landscape else (720, 1280)
        micros = 150_000 if fast else 250_000
        images = (1, IMAGES_MAX) if frames else (0, 0)
        products[name] = Product(name, micros, width, height, *images)
    return MappingProxyType(products)


def prompt_of(request: Request) -> str:
    """The prompt of a paid request, or "" when the request cannot be read."""
    try:
        fields, _ = _fields(request)
    except Refused:
        return ""
    if request.path == "/v1/videos":
        prompt = fields.get("prompt")
        return whole_letters(prompt) if isinstance(prompt, str) else ""
    return whole_letters("\n".join(_texts(fields)))


def read_chat(request: Request, products: Mapping[str, Product]) -> Order:
    """The order in a chat request; raises Refused."""
    fields, _ = _fields(request)
    bought = _product(fields, products)
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _unreadable("field messages is required")
    prompt = "\n".join(_texts(fields))
    if not prompt.strip():
        raise _unreadable("the last user message has no text")
    images = 0
    for link in _image_links(messages):
        images += 1
        if not link.startswith(("http://", "https://")):
            _check_data_url(link, bought)
    _check_images(images, bought)
    clips = fields.get("n", 1)
    if type(clips) is not int or not 1 <= clips <= CLIPS_MAX:
        raise _unreadable(f"field n must be between 1 and {CLIPS_MAX}")
    stream = fields.get("stream", False)
    if not isinstance(stream, bool):
        raise _unreadable("field stream must be a boolean")
    return Order(bought, whole_letters(prompt), clips, images, stream)


def read_video(request: Request, products: Mapping[str, Product]) -> Order:
    """The order in `POST /v1/videos`, JSON or multipart; raises Refused."""
    fields, files = _fields(request)
    bought = _product(fields, products)
    prompt = fields.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise _unreadable("field prompt is required")
    for data in files:
        _check_image(data, bought)
    if bought.images_min and not files and "input_reference" in fields:
        raise _unreadable("images must be sent as multipart/form-data")
    _check_images(len(files), bought)
    return Order(bought, whole_letters(prompt), 1, len(files), stream=False)


def whole_letters(text: str) -> str:
    """`text` with half surrogates, which JSON can spell, replaced as other languages do."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unreadable(why: str) -> Refused:
    return Refused(failure(400, f"parse_request_failed: {why}", "parse_request_failed"))


def _refused(name: str, model: str) -> Refused:
    return Refused(ERRORS[name].reply(model, ""))


def _fields(request: Request) -> tuple[dict[str, Any], list[bytes]]:
    """The named fields of the body, and the files of a multipart one in order."""
    kind = request.headers.get("content-type", "")
    if kind.lower().startswith("multipart/form-data"):
        return _multipart(request.body, kind)
    try:
        fields = json.loads(request.body)
    except (ValueError, RecursionError) as wrong:
        raise _unreadable(f"invalid JSON: {wrong}") from None
    if not isinstance(fields, dict):
        raise _unreadable("the body must be an object")
    return fields, []


def _multipart(body: bytes, kind: str) -> tuple[dict[str, Any], list[bytes]]:
    boundary = _BOUNDARY.search(kind)
    if boundary is None:
        raise _unreadable("no multipart boundary")
    marker = b"\r\n--" + boundary.group(1).encode()
    parts = (b"\r\n" + body).split(marker)
    if len(parts) < 3 or not parts[-1].startswith(b"--"):
        raise _unreadable("multipart: unexpected EOF")
    fields: dict[str, Any] = {}
    files = []
    for part in parts[1:-1]:
        head, _, data = part.partition(b"\r\n\r\n")
        name = _FIELD.search(head)
        if name is None:
            raise _unreadable("multipart: a part has no name")
        if _FILE.search(head) or name.group(1) in {b"input_reference", b"input_reference[]"}:
            files.append(data)
        else:
            fields[name.group(1).decode("utf-8", "replace")] = data.decode("utf-8", "replace")
    return fields, files


def _product(fields: Mapping[str, Any], products: Mapping[str, Product]) -> Product:
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise _unreadable("field model is required")
    bought = products.get(model)
    if bought is None:
        raise _refused("model-not-found", whole_letters(model))
    return bought


def _texts(fields: Mapping[str, Any]) -> Iterator[str]:
    """The text of the last user message, whole or in parts."""
    messages = fields.get("messages")
    asked = [m for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []
    users = [m for m in asked if m.get("role") == "user"]
    content = users[-1].get("content") if users else None
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                yield part["text"]


def _image_links(messages: list[Any]) -> Iterator[str]:
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            if not isinstance(part, dict) or "image_url" not in part:
                continue
            link = part["image_url"]
            link = link.get("url") if isinstance(link, dict) else link
            if not isinstance(link, str):
                raise _unreadable("image_url must be a link")
            yield link


def _check_data_url(link: str, bought: Product) -> None:
    head, comma, data = link.partition(",")
    if not (head.startswith("data:") and comma and head.endswith(";base64")):
        raise _refused("image-fetch", bought.name)
    try:
        _check_image(base64.b64decode(data, validate=True), bought)
    except binascii.Error:
        raise _refused("image-format", bought.name) from None


def _check_image(data: bytes, bought: Product) -> None:
    if not data.startswith(_MAGIC):
        raise _refused("image-format", bought.name)
    if len(data) > IMAGE_BYTES_MAX:
        raise _refused("image-large", bought.name)


def _check_images(images: int, bought: Product) -> None:
    if images and not bought.images_max:
        raise _refused("image-model", bought.name)
    if images > bought.images_max:
        raise _unreadable(f"at most {bought.images_max} images")
    if images < bought.images_min:
        raise _unreadable(f"model {bought.name} needs an image")
