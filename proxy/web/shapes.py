"""What stands in the relay's requests and replies, for the OpenAPI document and for nobody else.

The relay neither reads nor writes through these: `core.video` does. A test holds them against what
it really answers.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

_Binary = Annotated[str, Field(json_schema_extra={"format": "binary"})]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class VideoError(_Shape):
    """Why there is no clip: a reason from a closed list, and what to do."""

    code: str
    message: str


class Made(_Shape):
    """What this proxy knows beyond OpenAI's fields; `cost_usd` is null while that is open."""

    generation: str
    gateway: str | None
    attempts: int
    outcome: str
    cost_usd: str | None


class Video(_Shape):
    """OpenAI's `Video`: one clip, whichever way it was made; times are seconds since 1970.

    `size` and `seconds` are those really made, whatever an alias was called. `url` plays the clip
    for a while without a key, once it is kept.
    """

    id: str
    object: Literal["video"]
    model: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    progress: Annotated[int, Field(ge=0, le=100)]
    created_at: int
    completed_at: int | None
    expires_at: int | None
    prompt: str | None
    seconds: str
    size: str
    quality: Literal["standard"]
    remixed_from_video_id: None
    error: VideoError | None
    url: str | None
    clipmeter: Made


class VideoList(_Shape):
    """A page of videos; the next one is asked for with `after` set to `last_id`."""

    object: Literal["list"]
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VideoDeleted(_Shape):
    """The clip's bytes and prompt are forgotten; its charge stays."""

    id: str
    object: Literal["video.deleted"]
    deleted: Literal[True]


class Link(_Shape):
    """A link that plays the clip until `expires_at`, in seconds since 1970, without a key."""

    id: str
    object: Literal["video.content"]
    url: str
    expires_at: int


class ImageUrl(_Shape):
    """An image as a `data:` URL; links elsewhere are not followed."""

    image_url: str


_Reference = str | ImageUrl


class VideoOrder(BaseModel):
    """An order in JSON. What is not named here is ignored."""

    model: str
    prompt: str
    seconds: Annotated[str | int | None, Field(description="Checked against the model.")] = None
    size: Annotated[str | None, Field(description="Checked; picks an alias's orientation.")] = None
    input_reference: Annotated[
        _Reference | list[_Reference] | None,
        Field(description="The start frame, or the start and the end frame."),
    ] = None


class VideoForm(BaseModel):
    """An order as a form; `input_reference` stands once for the start frame, twice for an end too.

    `input_reference[]` is taken as well.
    """

    model: str
    prompt: str
    seconds: str | None = None
    size: str | None = None
    input_reference: Annotated[list[_Binary] | None, Field(description="JPEG or PNG.")] = None


SHAPES: Final = (Video, VideoList, VideoDeleted, Link, VideoOrder, VideoForm)

BYTES: Final = "Bytes"
"""The shape of what is no JSON."""


def components() -> dict[str, Any]:
    """The schemas of all shapes by name, as they stand under `components` in the document."""
    _, definitions = models_json_schema(
        [(shape, "validation") for shape in SHAPES],
        ref_template="#/components/schemas/{model}",
    )
    schemas: dict[str, Any] = definitions["$defs"]
    return schemas


def schema_of(shape: str) -> dict[str, Any]:
    """How a body of this shape is described; anything may stand in one without a shape."""
    if not shape:
        return {}
    if shape == BYTES:
        return {"type": "string", "format": "binary"}
    return {"$ref": f"#/components/schemas/{shape}"}
