"""What the vendor gets is what its gateways are known to read, and the same each time."""

from __future__ import annotations

import io
import json
from typing import Any

import python_multipart
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.catalog import Catalog
from proxy.core.submission import submission
from proxy.core.video_request import Image, VideoRequest
from tests.core.test_images import jpeg, png

MODELS = Catalog.documented().models
FRAMES = (Image(jpeg(720, 1280), "image/jpeg"), Image(png(720, 1280), "image/png"))


def parted(content_type: str, body: bytes) -> list[tuple[str, bytes, str | None]]:
    """The form's parts in order, as somebody else's parser reads them: name, data, file name."""
    found: list[tuple[str, bytes, str | None]] = []

    def field(part: Any) -> None:
        found.append(((part.field_name or b"").decode(), part.value or b"", None))

    def file(part: Any) -> None:
        part.file_object.seek(0)
        name = (part.file_name or b"").decode()
        found.append(((part.field_name or b"").decode(), part.file_object.read(), name))

    headers = {"Content-Type": content_type.encode(), "Content-Length": str(len(body)).encode()}
    python_multipart.parse_form(headers, io.BytesIO(body), field, file)
    return found


def test_without_images_it_is_the_documented_json() -> None:
    request = VideoRequest(MODELS["veo-3.1-fast"], "sora-2", "a cat, “purring”")
    content_type, body = submission(request)
    assert content_type == "application/json"
    assert json.loads(body) == {"model": "veo-3.1-fast", "prompt": "a cat, “purring”"}


def test_images_go_as_repeated_files_start_frame_first() -> None:
    request = VideoRequest(MODELS["veo-3.1-fl"], "veo-3.1-fl", "turn", FRAMES)
    content_type, body = submission(request)
    assert parted(content_type, body) == [
        ("model", b"veo-3.1-fl", None),
        ("prompt", b"turn", None),
        ("input_reference", FRAMES[0].data, "frame1.jpeg"),
        ("input_reference", FRAMES[1].data, "frame2.png"),
    ]
    assert b"\r\nContent-Type: image/jpeg\r\n\r\n" in body
    assert b"\r\nContent-Type: image/png\r\n\r\n" in body


@given(st.text(min_size=1), st.binary(), st.binary())
def test_whatever_is_asked_arrives_as_it_was_and_twice_the_same(
    prompt: str, first: bytes, second: bytes
) -> None:
    images = (Image(first, "image/png"), Image(second, "image/jpeg"))
    request = VideoRequest(MODELS["veo-3.1-fl"], "x", prompt, images)
    content_type, body = submission(request)
    assert submission(request) == (content_type, body)
    assert [data for _, data, _ in parted(content_type, body)] == [
        b"veo-3.1-fl",
        prompt.encode(),
        first,
        second,
    ]


def test_a_prompt_cannot_close_its_part() -> None:
    request = VideoRequest(MODELS["veo-3.1-fl"], "x", "a", FRAMES[:1])
    boundary = submission(request)[0].partition("boundary=")[2]
    prompt = f'a\r\n--{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\nfree'
    again = VideoRequest(MODELS["veo-3.1-fl"], "x", prompt, FRAMES[:1])
    names = [name for name, _, _ in parted(*submission(again))]
    assert names == ["model", "prompt", "input_reference"]
