"""A request for a video is read in every spelling of the contract, or refused with a reason."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.catalog import Catalog
from proxy.core.images import ImageLimits
from proxy.core.request import BodyLimits, Malformed
from proxy.core.video_request import (
    Image,
    Part,
    Rules,
    VideoRequest,
    read_video_form,
    read_video_json,
)
from tests.core.test_images import jpeg, png

LIMITS = BodyLimits(
    text_bytes_max=1_000,
    values_max=10_000,
    depth_max=20,
    image=ImageLimits(9_000, 8192, 40_000_000),
)
RULES = Rules(Catalog.documented(), {}, LIMITS)
ALIASED = Rules(
    Catalog.documented(), {"sora-2": "veo-3.1-fast", "sora-2-pro": "veo-3.1-landscape"}, LIMITS
)
START, END = jpeg(720, 1280), png(720, 1280)
FRAMES = (Image(START, "image/jpeg"), Image(END, "image/png"))


def data_url(data: bytes, kind: str = "jpeg") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def fields(**values: str) -> list[Part]:
    return [Part(name, value.encode()) for name, value in values.items()]


def file(data: bytes, name: str = "input_reference", kind: str | None = None) -> Part:
    return Part(name, data, kind, "start.jpg")


def of_json(rules: Rules = RULES, **values: Any) -> VideoRequest | Malformed:
    return read_video_json(json.dumps(values).encode(), rules)


def of_form(*parts: Part, rules: Rules = RULES, **values: str) -> VideoRequest | Malformed:
    return read_video_form([*fields(**values), *parts], rules)


def good(found: VideoRequest | Malformed) -> VideoRequest:
    assert isinstance(found, VideoRequest), found
    return found


def refused(found: VideoRequest | Malformed) -> tuple[str, str | None]:
    assert isinstance(found, Malformed), found
    assert found.message
    return found.code, found.param


@pytest.mark.parametrize("read", [of_json, of_form])
def test_json_and_form_say_the_same(read: Any) -> None:
    request = good(read(model="veo-3.1", prompt="a cat", seconds="8", size="720x1280", n="3"))
    assert (request.model.name, request.asked_model, request.prompt) == (
        "veo-3.1",
        "veo-3.1",
        "a cat",
    )
    assert request.images == ()


@pytest.mark.parametrize("n", [0, 4, 99, "many", None, True, [1]])
def test_n_is_ignored_whatever_it_is(n: object) -> None:
    assert good(of_json(model="veo-3.1", prompt="x", n=n)).model.name == "veo-3.1"


def test_a_null_is_a_field_left_out() -> None:
    nothing: Any = None
    request = good(
        of_json(model="veo-3.1", prompt="x", seconds=nothing, size=nothing, input_reference=nothing)
    )
    assert request.images == ()


@pytest.mark.parametrize(
    ("values", "code", "param"),
    [
        ({"prompt": "x"}, "invalid_request", "model"),
        ({"model": 7, "prompt": "x"}, "invalid_request", "model"),
        ({"model": "", "prompt": "x"}, "model_not_found", "model"),
        ({"model": "sora-2", "prompt": "x"}, "model_not_found", "model"),
        ({"model": "veo-3.1-fl-fast", "prompt": "x"}, "model_not_found", "model"),
        ({"model": "veo-3.1"}, "invalid_request", "prompt"),
        ({"model": "veo-3.1", "prompt": " \n"}, "invalid_request", "prompt"),
        ({"model": "veo-3.1", "prompt": ["x"]}, "invalid_request", "prompt"),
        ({"model": "veo-3.1", "prompt": "a\x00b"}, "invalid_request", "prompt"),
        ({"model": "veo-3.1", "prompt": "\ud83d"}, "invalid_request", "prompt"),
        ({"model": "veo-3.1", "prompt": "é" * 501}, "request_too_large", "prompt"),
        ({"model": "veo-3.1", "prompt": "x", "seconds": "4"}, "invalid_request", "seconds"),
        ({"model": "veo-3.1", "prompt": "x", "size": "1280x720"}, "invalid_request", "size"),
        ({"model": "veo-3.1-fl", "prompt": "x"}, "image_required", "input_reference"),
    ],
    ids=repr,
)
def test_an_unclear_request_is_refused_by_name(
    values: dict[str, Any], code: str, param: str
) -> None:
    assert refused(of_json(**values)) == (code, param)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"model":"veo-3.1","model":"veo-3.1-fast","prompt":"x"}']
)
def test_a_body_that_is_no_clear_object_is_refused(body: bytes) -> None:
    assert refused(read_video_json(body, RULES))[0] == "invalid_request"


def test_a_prompt_may_be_as_long_as_the_limit() -> None:
    assert len(good(of_json(model="veo-3.1", prompt="é" * 500)).prompt) == 500


@pytest.mark.parametrize(
    "reference",
    [
        data_url(START),
        {"image_url": data_url(START)},
        {"image_url": {"url": data_url(START)}},
        [data_url(START)],
        [{"image_url": data_url(START)}],
        [None, data_url(START)],
    ],
    ids=lambda reference: str(reference)[:20],
)
def test_an_image_comes_in_every_spelling_of_json(reference: object) -> None:
    request = good(of_json(model="veo-3.1-fl", prompt="x", input_reference=reference))
    assert request.images == FRAMES[:1]


def test_two_images_of_json_keep_their_order() -> None:
    references = [{"image_url": data_url(START)}, data_url(END, "png")]
    request = good(of_json(model="veo-3.1-fl", prompt="x", input_reference=references))
    assert request.images == FRAMES


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["input_reference"], [0]),
        (["input_reference[]"], [0]),
        (["input_reference[0]"], [0]),
        (["input_reference", "input_reference"], [0, 1]),
        (["input_reference[]", "input_reference[]"], [0, 1]),
        (["input_reference[0]", "input_reference[1]"], [0, 1]),
        (["input_reference[1]", "input_reference[0]"], [1, 0]),
        (["input_reference[10]", "input_reference[9]"], [1, 0]),
        (["input_reference[1]", "input_reference"], [0, 1]),
        (["input_reference[1]", "input_reference[]"], [0, 1]),
        (["input_reference[image_url]"], [0]),
        (["input_reference[][image_url]", "input_reference[][image_url]"], [0, 1]),
    ],
    ids=str,
)
def test_files_come_under_every_name_start_frame_first(names: list[str], order: list[int]) -> None:
    sent = [file(image.data, name) for name, image in zip(names, FRAMES, strict=False)]
    request = good(of_form(*sent, model="veo-3.1-fl", prompt="x"))
    assert request.images == tuple(FRAMES[at] for at in order)


@pytest.mark.parametrize(
    "text", [data_url(START), json.dumps({"image_url": data_url(START)})], ids=["url", "json"]
)
def test_a_form_may_carry_an_image_as_text(text: str) -> None:
    request = good(of_form(model="veo-3.1-fl", prompt="x", input_reference=text))
    assert request.images == FRAMES[:1]


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "image/jpeg",
        "IMAGE/JPEG",
        "image/jpeg; charset=binary",
        "application/octet-stream",
    ],
)
def test_a_file_need_not_say_what_it_is(kind: str | None) -> None:
    request = good(of_form(file(START, kind=kind), model="veo-3.1-fl", prompt="x"))
    assert request.images == FRAMES[:1]


def test_an_image_in_a_part_without_a_file_name_is_an_image() -> None:
    part = Part("input_reference", START, "image/jpeg")
    assert good(of_form(part, model="veo-3.1-fl", prompt="x")).images == FRAMES[:1]


def test_the_empty_file_of_a_browsers_form_is_none() -> None:
    part = Part("input_reference", b"", "application/octet-stream", "")
    assert good(of_form(part, model="veo-3.1", prompt="x")).images == ()


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("https://team.example/start.jpg", "is a link"),
        ({"image_url": "http://10.0.0.1/x.png"}, "is a link"),
        (data_url(b"GIF89a"), "neither a JPEG nor a PNG"),
        (data_url(START, "png"), "was sent as image/png"),
        (data_url(png(9_000, 9), "png"), "pixels a side"),
        (data_url(START + b"x" * 9_000), "larger than"),
        ("data:image/png;base64,%%%", "base64"),
        ("start.jpg", "data URL"),
        ({"file_id": "file_1"}, "data URL"),
        ({}, "data URL"),
        (7, "data URL"),
        ([[data_url(START)]], "data URL"),
    ],
    ids=lambda reference: str(reference)[:30],
)
def test_what_is_no_image_is_refused_in_words(reference: object, words: str) -> None:
    found = of_json(model="veo-3.1-fl", prompt="x", input_reference=reference)
    assert refused(found) == ("invalid_image", "input_reference")
    assert isinstance(found, Malformed)
    assert words in found.message


@pytest.mark.parametrize(
    "part",
    [
        file(b"GIF89a"),
        file(START, kind="image/png"),
        file(b"", name="input_reference"),
        file(START, name="input_reference[file_id]"),
        file(START, name="input_reference2"),
        Part("input_reference", b'{"file_id":"file_1"}'),
        Part("input_reference", b"{broken"),
        Part("input_reference", b"https://team.example/start.jpg"),
    ],
    ids=repr,
)
def test_a_part_that_is_no_image_is_refused(part: Part) -> None:
    found = of_form(part, model="veo-3.1-fl", prompt="x")
    assert refused(found) == ("invalid_image", "input_reference")


def test_the_second_image_is_named_when_it_is_the_wrong_one() -> None:
    found = of_form(file(START), file(b"GIF89a"), model="veo-3.1-fl", prompt="x")
    assert isinstance(found, Malformed)
    assert found.message.startswith("Image 2 ")


@pytest.mark.parametrize(
    ("model", "images", "code"),
    [
        ("veo-3.1", 1, "image_not_allowed"),
        ("veo-3.1-fl", 0, "image_required"),
        ("veo-3.1-fl", 3, "invalid_image"),
    ],
)
def test_the_number_of_images_is_the_models(model: str, images: int, code: str) -> None:
    found = of_form(*[file(START)] * images, model=model, prompt="x")
    assert refused(found) == (code, "input_reference")


def test_too_many_images_are_refused_before_any_is_looked_at() -> None:
    found = of_json(model="veo-3.1-fl", prompt="x", input_reference=["data:nonsense"] * 3)
    assert isinstance(found, Malformed)
    assert "at most 2" in found.message


@pytest.mark.parametrize("name", ["model", "prompt", "seconds", "size"])
def test_a_field_that_stands_twice_is_ambiguous(name: str) -> None:
    whole: dict[str, Any] = {"model": "veo-3.1", "prompt": "x", "seconds": "8", "size": "720x1280"}
    assert refused(of_form(Part(name, b"8"), **whole)) == ("invalid_request", name)


def test_a_field_that_is_not_text_is_refused() -> None:
    found = of_form(Part("prompt", b"\xff"), model="veo-3.1")
    assert refused(found) == ("invalid_request", "prompt")


def test_a_form_field_that_nobody_knows_is_dropped() -> None:
    assert good(of_form(model="veo-3.1", prompt="x", user="u", quality="high")).prompt == "x"


@pytest.mark.parametrize(
    ("values", "bought"),
    [
        ({"model": "sora-2"}, "veo-3.1-fast"),
        ({"model": "sora-2", "seconds": "12", "size": "1280x720"}, "veo-3.1-landscape-fast"),
        ({"model": "sora-2-pro", "seconds": "4", "size": "1024x1792"}, "veo-3.1"),
        ({}, "veo-3.1-fast"),
        ({"model": "veo-3.1"}, "veo-3.1"),
    ],
    ids=repr,
)
def test_code_written_for_openai_works_under_an_alias(values: dict[str, str], bought: str) -> None:
    for found in (
        of_json(ALIASED, prompt="x", **values),
        of_form(rules=ALIASED, prompt="x", **values),
    ):
        request = good(found)
        assert request.model.name == bought
        assert request.asked_model == values.get("model", "sora-2")


def test_an_image_under_an_alias_starts_the_video() -> None:
    request = good(of_form(file(START), rules=ALIASED, model="sora-2", prompt="x"))
    assert (request.model.name, request.images) == ("veo-3.1-fast-fl", FRAMES[:1])


def test_a_models_own_name_is_held_to_its_word_beside_aliases() -> None:
    found = of_json(ALIASED, model="veo-3.1-fast", prompt="x", seconds="4")
    assert refused(found) == ("invalid_request", "seconds")


_NAMES = st.sampled_from(
    ["model", "prompt", "seconds", "size", "input_reference", "input_reference[1]", "n"]
)
_DATA = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"veo-3.1", b"veo-3.1-fl", b"sora-2", b"8", b"720x1280", START, END]),
)
_PARTS = st.builds(
    Part, _NAMES, _DATA, st.none() | st.sampled_from(["image/png", "x"]), st.none() | st.just("f")
)


@given(st.lists(_PARTS, max_size=7))
def test_any_form_is_a_request_or_a_reason(parts: list[Part]) -> None:
    found = read_video_form(parts, ALIASED)
    if isinstance(found, VideoRequest):
        assert found.model.images_min <= len(found.images) <= found.model.images_max
        assert found.prompt.strip()
    else:
        assert found.message.endswith((".", "!"))


@given(st.binary(max_size=80))
def test_any_body_is_a_request_or_a_reason(body: bytes) -> None:
    assert isinstance(read_video_json(body, ALIASED), VideoRequest | Malformed)
