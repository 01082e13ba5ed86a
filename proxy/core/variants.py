"""Which model a caller's words come to: by its own name exactly, under an alias as near as can be.

The vendor sells orientation and start frames as parts of a model's name, where OpenAI has fields
for them. Under a model's own name those fields must agree with it; under an alias they choose.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.core.catalog import Catalog, Model
from proxy.core.request import Malformed

_SECONDS: Final = re.compile(r"[1-9][0-9]?")
_SIZE: Final = re.compile(r"(?P<width>[1-9][0-9]{1,4})x(?P<height>[1-9][0-9]{1,4})")


def as_sold(model: Model, seconds: object, size: object, catalog: Catalog) -> Model | Malformed:
    """`model`, if `seconds` and `size` (as they were sent, None for neither) are what it makes."""
    if seconds is not None and _number(seconds) != str(model.seconds):
        message = f"{model.name} makes {model.seconds} seconds; send that, or leave seconds out."
        return Malformed("invalid_request", message, "seconds")
    if size is not None and size != model.size:
        other = _turned(model, size, catalog) if isinstance(size, str) else None
        fits = other is not None and other.size == size
        hint = f"ask for {other.name}" if other and fits else "send that, or leave size out"
        return Malformed("invalid_request", f"{model.name} makes {model.size}; {hint}.", "size")
    return model


def as_translated(
    model: Model, seconds: object, size: object, catalog: Catalog, *, framed: bool
) -> Model | Malformed:
    """The variant of an alias's `model` that comes nearest to what OpenAI's fields ask for.

    Any number of seconds is taken. `size` picks the orientation. An image (`framed`), which
    OpenAI's models take or leave, picks the variant that starts from one.
    """
    if seconds is not None and not _SECONDS.fullmatch(_number(seconds)):
        return Malformed("invalid_request", "seconds must be a number such as 8.", "seconds")
    bought = model
    if size is not None:
        if not isinstance(size, str) or not _SIZE.fullmatch(size):
            return Malformed("invalid_request", "size must be such as 720x1280.", "size")
        turned = _turned(model, size, catalog)
        if turned is None:
            message = f"There is no {model.name} in the orientation of {size}."
            return Malformed("invalid_request", message, "size")
        bought = turned
    if framed and not bought.images_max:
        return catalog.find(f"{bought.name}-fl") or bought
    return bought


def _turned(model: Model, size: str, catalog: Catalog) -> Model | None:
    """The variant of `model` with the orientation of `size`; itself where `size` has none."""
    wanted = _is_landscape(size)
    if wanted is None or _is_landscape(model.size) is wanted:
        return model
    plain = _unturned(model)
    siblings = (each for each in catalog if _unturned(each) == plain)
    return next((each for each in siblings if _is_landscape(each.size) is wanted), None)


def _unturned(model: Model) -> str:
    return model.name.replace("-landscape", "")


def _is_landscape(size: str) -> bool | None:
    """Whether a size is wider than tall; None for a square and for what is no size."""
    match = _SIZE.fullmatch(size)
    if match is None or match["width"] == match["height"]:
        return None
    return int(match["width"]) > int(match["height"])


def _number(value: object) -> str:
    """A whole number, sent as one or as text; SDKs differ."""
    if type(value) is int:
        return str(value) if 0 <= value < 1_000 else ""
    return value if isinstance(value, str) else ""
