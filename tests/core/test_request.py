from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from proxy.core.catalog import Catalog
from proxy.core.images import ImageLimits
from proxy.core.request import BodyLimits, ChatRequest, Malformed, read_chat
from tests.core.test_images import jpeg, png

LIMITS = BodyLimits(
    values_max=150_000,
    text_bytes_max=10_000,
    depth_max=20,
    image=ImageLimits(100_000, 8192, 40_000_000),
)
CATALOG = Catalog.documented()


def read(body: bytes | dict[str, Any], aliases: dict[str, str] | None = None) -> Any:
    raw = json.dumps(body).encode() if isinstance(body, dict) else body
    return read_chat(raw, CATALOG, aliases or {}, LIMITS)


def ask(**fields: Any) -> dict[str, Any]:
    return {"model": "veo-3.1", "messages": [{"role": "user", "content": "a cat"}], **fields}


def image(data: bytes, kind: str = "jpeg") -> dict[str, Any]:
    url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def framed(*parts: Any, model: str = "veo-3.1-fl") -> dict[str, Any]:
    content = [{"type": "text", "text": "move"}, *parts]
    return {"model": model, "messages": [{"role": "user", "content": content}]}


def test_a_plain_request_is_one_clip_and_goes_on_as_it_came() -> None:
    body = b'{ "model":"veo-3.1", "messages":[{"role":"user","content":"a cat"}] , "temperature":1}'
    request = read(body)
    assert isinstance(request, ChatRequest)
    assert (request.clips, request.stream, request.images) == (1, False, 0)
    assert (request.body, request.texts, request.model.name) == (body, ("a cat",), "veo-3.1")


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_one_to_four_clips_may_be_asked_for(n: int) -> None:
    assert read(ask(n=n, stream=True)).clips == n


@pytest.mark.parametrize(
    "n", ["0", "5", "-1", str(2**63), '"4"', "true", "4.0", "1e0", "null", "[1]", str(2**31)]
)
def test_no_other_number_of_clips_passes(n: str) -> None:
    body = f'{{"model":"veo-3.1","messages":[{{"content":"x"}}],"n":{n}}}'.encode()
    assert read(body).code == "n_out_of_range"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"\xff",
        b'{"model":"veo-3.1","model":"veo-3.1","messages":[{"content":"x"}]}',
        b'{"model":"veo-3.1","messages":[{"content":"x","content":"y"}]}',
        b'{"model":"veo-3.1","N":4,"messages":[{"content":"x"}]}',
        b'{"Model":"veo-3.1-fast","model":"veo-3.1","messages":[{"content":"x"}]}',
        '{"model":"veo-3.1","me\u017f\u017fages":[],"messages":[{"content":"x"}]}'.encode(),
        b'{"model":"veo-3.1","x":NaN,"messages":[{"content":"x"}]}',
        b'{"model":"veo-3.1","x":-Infinity,"messages":[{"content":"x"}]}',
        b'{"x":' + b"[" * 100_000 + b"}",
        b'{"model":"veo-3.1","x":' + b"[" * 25 + b"]" * 25 + b',"messages":[{"content":"x"}]}',
        b'{"model":"veo-3.1","x":' + b"9" * 5000 + b',"messages":[{"content":"x"}]}',
        b'{"model":7,"messages":[{"content":"x"}]}',
        b'{"messages":[{"content":"x"}]}',
        b'{"model":"veo-3.1"}',
        b'{"model":"veo-3.1","messages":[]}',
        b'{"model":"veo-3.1","messages":"x"}',
        b'{"model":"veo-3.1","messages":["x"]}',
        b'{"model":"veo-3.1","messages":[{"content":7}]}',
        b'{"model":"veo-3.1","messages":[{"content":[7]}]}',
        b'{"model":"veo-3.1","messages":[{"role":"user","content":"x","Content":[]}]}',
        b'{"model":"veo-3.1","messages":[{"content":[{"type":"text","text":"x","TEXT":"y"}]}]}',
        b'{"model":"veo-3.1","x":1e400,"messages":[{"content":"x"}]}',
        b'{"model":"veo-3.1","stream":"yes","messages":[{"content":"x"}]}',
        b'{"model":"veo-3.1","stream":1,"messages":[{"content":"x"}]}',
    ],
    ids=lambda body: repr(body[:60]),
)
def test_a_request_that_two_readers_could_read_differently_is_refused(body: bytes) -> None:
    problem = read(body)
    assert isinstance(problem, Malformed)
    assert problem.code == "invalid_request"
    assert problem.message


@pytest.mark.parametrize(
    "name", ["veo-3.1 ", "VEO-3.1", "veo-3.1-fl-fast", "sora-2", "", "x" * 999]
)
def test_a_model_is_known_by_its_exact_name(name: str) -> None:
    assert read(ask(model=name)).code == "model_not_found"


def test_an_alias_changes_the_model_and_nothing_else() -> None:
    request = read(
        ask(model="sora-2", n=2, seed=3, messages=[{"role": "user", "content": "é"}]),
        {"sora-2": "veo-3.1-fast"},
    )
    assert (request.model.name, request.asked_model) == ("veo-3.1-fast", "sora-2")
    sent = json.loads(request.body)
    assert sent == ask(
        model="veo-3.1-fast", n=2, seed=3, messages=[{"role": "user", "content": "é"}]
    )


def test_one_or_two_images_start_a_frame_model() -> None:
    assert read(framed(image(jpeg(720, 1280)))).images == 1
    assert read(framed(image(jpeg(720, 1280)), image(png(720, 1280), "png"))).images == 2


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": "https://team.example/start.jpg"},
        {"type": "input_image", "image_url": "https://team.example/start.jpg"},
        {"image_url": {"url": "https://team.example/start.jpg"}},
    ],
    ids=repr,
)
def test_every_spelling_of_an_image_counts_and_its_link_is_known(part: dict[str, Any]) -> None:
    request = read(framed(part))
    assert request.images == 1
    assert "https://team.example/start.jpg" in request.texts


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (framed(), "image_required"),
        (framed(image(jpeg(9, 9)), image(jpeg(9, 9)), image(jpeg(9, 9))), "invalid_image"),
        (framed(image(jpeg(9, 9)), model="veo-3.1"), "image_not_allowed"),
        (framed(image(b"GIF89a" + b"x" * 50)), "invalid_image"),
        (framed(image(b"<svg/>")), "invalid_image"),
        (framed(image(png(9, 9), "jpeg")), "invalid_image"),
        (framed(image(jpeg(9, 9), "png")), "invalid_image"),
        (framed(image(png(100_000, 100_000), "png")), "invalid_image"),
        (framed(image(jpeg(9, 9) + b"x" * 200_000)), "invalid_image"),
        (
            framed({"type": "image_url", "image_url": {"url": "data:image/png;base64,%%%"}}),
            "invalid_image",
        ),
        (
            framed({"type": "image_url", "image_url": {"url": "data:image/png,abc"}}),
            "invalid_image",
        ),
        (
            framed({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}),
            "invalid_image",
        ),
        (framed({"type": "image_url", "image_url": {}}), "invalid_image"),
        (framed({"type": "image_url"}), "invalid_image"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_images_that_do_not_fit_the_model_are_refused(body: dict[str, Any], code: str) -> None:
    assert read(body).code == code


def test_a_body_without_images_may_not_be_as_large_as_one_with_them() -> None:
    assert read(ask(x="y" * 20_000)).code == "request_too_large"
    assert isinstance(read(framed(image(jpeg(9, 9) + b"x" * 20_000))), ChatRequest)


@pytest.mark.parametrize(
    "body",
    [b"[" + b"{}," * 100_000 + b"{}]", b'{"model":"veo-3.1-fl","x":[' + b"1," * 160_000 + b"1]}"],
    ids=["objects", "numbers"],
)
def test_a_body_that_would_unfold_is_refused_before_it_is_parsed(body: bytes) -> None:
    assert read(body).code == "request_too_large"


def test_text_is_bounded_where_images_are_allowed_too() -> None:
    long = {"type": "text", "text": "y" * 20_000}
    assert read(framed(image(jpeg(9, 9)), long)).code == "request_too_large"


@pytest.mark.parametrize("kind", ["[]", "{}", "7", "null"])
def test_a_part_of_an_odd_type_is_read_as_text(kind: str) -> None:
    content = f'[{{"type":{kind},"text":"x"}}]'
    body = f'{{"model":"veo-3.1","messages":[{{"role":"user","content":{content}}}]}}'
    assert read(body.encode()).texts == ("x",)


def test_half_a_character_survives_an_alias() -> None:
    body = b'{"model":"sora-2","messages":[{"role":"user","content":"\\ud83d"}]}'
    request = read(body, {"sora-2": "veo-3.1-fast"})
    assert json.loads(request.body)["messages"][0]["content"] == "\ud83d"
