"""Forms read while they come: in any pieces the same, each part bounded, nothing odd believed."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import Limits
from proxy.core.video_request import Part
from proxy.errors import ProxyError
from proxy.flows.reply import CallerGone
from proxy.web.exchange import Exchange
from proxy.web.upload import IDLE_BYTES_MAX, media_type, read_form

BOUNDARY = b"a-boundary"
IMAGE = "input_reference"
LIMITS = Limits(
    request_bytes_max=20_000, request_text_bytes_max=2_000, image_bytes_max=5_000, form_parts_max=6
)


def part(name: str, data: bytes, *more: str, filename: str | None = None) -> bytes:
    said = f'Content-Disposition: form-data; name="{name}"'
    said += f'; filename="{filename}"' if filename is not None else ""
    head = "\r\n".join([said, *more]).encode()
    return b"--" + BOUNDARY + b"\r\n" + head + b"\r\n\r\n" + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


def sent(pieces: Iterable[bytes], *, leaves: bool = False) -> Any:
    """ASGI's `receive` for a body in `pieces`; `leaves` hangs up before the last."""
    rest = list(pieces) or [b""]
    said = itertools.count()

    async def receive() -> dict[str, Any]:
        at = next(said)
        if at >= len(rest):
            if leaves:
                return {"type": "http.disconnect"}
            raise AssertionError("read behind the end of the body")
        return {"type": "http.request", "body": rest[at], "more_body": leaves or at + 1 < len(rest)}

    return receive


def exchange(*headers: tuple[bytes, bytes]) -> Exchange:
    return Exchange("POST", "/v1/videos", list(headers), "req_1", 0.0)


def read(
    raw: bytes, size: int = 4_096, limits: Limits = LIMITS, boundary: bytes = BOUNDARY
) -> list[Part]:
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    return asyncio.run(read_form(exchange(), sent(pieces), limits, boundary))


def refused(raw: bytes, **more: Any) -> ProxyError:
    with pytest.raises(ProxyError) as caught:
        read(raw, **more)
    return caught.value


JPEG = b"\xff\xd8\xff\r\n\r\n--"
ORDER = form(
    part("model", b"veo-3.1-fl"),
    part("prompt", "a café\r\n--a-bound\r\n".encode()),
    part(
        "input_reference", b"\xff\xd8\xff\r\n\r\n--", "Content-Type: image/jpeg", filename="a.jpg"
    ),
    part("input_reference[]", b"", filename=""),
)
ORDERED = [
    Part("model", b"veo-3.1-fl"),
    Part("prompt", "a café\r\n--a-bound\r\n".encode()),
    Part("input_reference", JPEG, "image/jpeg", "a.jpg"),
    Part("input_reference[]", b"", None, ""),
]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40))
def test_a_form_is_the_same_in_whatever_pieces_it_comes(sizes: list[int]) -> None:
    pieces, at = [], 0
    for size in itertools.cycle(sizes):
        pieces.append(ORDER[at : at + size])
        at += size
        if at >= len(ORDER):
            break
    assert asyncio.run(read_form(exchange(), sent(pieces), LIMITS, BOUNDARY)) == ORDERED


@given(st.lists(st.binary(max_size=200), max_size=6))
def test_bytes_come_out_as_they_went_in(contents: list[bytes]) -> None:
    raw = form(*(part("input_reference", data, filename="x") for data in contents))
    assert [each.data for each in read(raw, size=37)] == contents


@pytest.mark.parametrize(
    ("header", "kind", "boundary"),
    [
        (b"multipart/form-data; boundary=abc", "multipart/form-data", b"abc"),
        (b'Multipart/Form-Data;charset=utf-8; boundary="a b;c"', "multipart/form-data", b"a b;c"),
        (b"multipart/form-data", "multipart/form-data", b""),
        (b"application/json; charset=utf-8", "application/json", b""),
        (b"APPLICATION/JSON", "application/json", b""),
        (b"", "", b""),
    ],
)
def test_the_media_type_is_read_with_its_boundary(
    header: bytes, kind: str, boundary: bytes
) -> None:
    assert media_type(exchange((b"content-type", header))) == (kind, boundary)


def test_a_body_without_a_media_type_has_none() -> None:
    assert media_type(exchange()) == ("", b"")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"model=veo-3.1&prompt=x",
        b"--another\r\n\r\n",
        ORDER[:-30],
        ORDER.removesuffix(b"--\r\n"),
        form(b"--a-boundary\r\n\r\nno head\r\n"),
        form(part("", b"x")),
        form(part("a", b"x").replace(b"form-data", b"attachment")),
        form(part("a", b"x", "Content-Disposition: form-data; name=b")),
        form(part("a", b"eA==", "Content-Transfer-Encoding: base64")),
        form(part("a", b"x", "No colon here")),
        form(part("a", b"x", ": no name")),
        form(part("a", b"x").replace(b"\r\n\r\n", b"\n\n")),
        form(part("a", b"x", *(f"X-{number}: y" for number in range(8)))),
        form(part("a" * 5_000, b"x")),
        form(part("a", b"x", "X-Long: " + "y" * 5_000)),
        b"\r\n" * IDLE_BYTES_MAX + ORDER,
        form(part("a", b"x")).removesuffix(b"--\r\n") + b" " * (IDLE_BYTES_MAX + 99),
    ],
    ids=itertools.count(),
)
@pytest.mark.parametrize("size", [1, 4_096])
def test_a_form_that_is_none_is_refused(raw: bytes, size: int) -> None:
    refusal = refused(raw, size=size)
    assert (refusal.status, refusal.code) == (400, "invalid_request")
    assert "form" in refusal.message


@pytest.mark.parametrize("boundary", [b"", b"x" * 71], ids=["none", "long"])
def test_a_boundary_that_cannot_be_one_is_refused(boundary: bytes) -> None:
    assert "boundary" in refused(ORDER, boundary=boundary).message


@pytest.mark.parametrize(
    ("raw", "code", "param"),
    [
        (
            part("input_reference", b"x" * 5_001, filename="a.png"),
            "invalid_image",
            "input_reference",
        ),
        (part("input_reference[]", b"d" * 11_000), "invalid_image", "input_reference"),
        (part("prompt", b"x" * 2_001), "request_too_large", "prompt"),
        (part("other", b"x" * 5_001, filename="a.bin"), "request_too_large", "other"),
        (b"".join(part("a", b"") for _ in range(7)), "request_too_large", None),
        (b"what is this", "invalid_request", None),
        (part("a", b"\r\n--a-boundaryx" * 9), "request_too_large", None),
    ],
    ids=["image", "image as text", "field", "file", "parts", "no start", "false boundaries"],
)
def test_what_is_too_large_is_refused_before_it_is_all_there(
    raw: bytes, code: str, param: str | None
) -> None:
    """The body never ends: whoever waited for its end would wait for ever."""

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": next(pieces), "more_body": True}

    pieces = itertools.chain([raw], itertools.repeat(b"x" * 10_000))
    with pytest.raises(ProxyError) as caught:
        asyncio.run(read_form(exchange(), receive, LIMITS, BOUNDARY))
    assert (caught.value.code, caught.value.param) == (code, param)


def test_an_image_as_text_may_be_as_large_as_its_base64() -> None:
    text = b"data:image/png;base64," + b"A" * (5_000 * 4 // 3)
    assert read(form(part("input_reference", text))) == [Part("input_reference", text)]


def test_what_stands_behind_the_last_boundary_is_nothing_and_still_counts() -> None:
    assert read(ORDER + b"an epilogue\r\n") == ORDERED
    assert refused(ORDER + b"x" * 20_000).code == "request_too_large"


def test_a_caller_who_leaves_in_the_middle_is_gone() -> None:
    async def story() -> None:
        await read_form(exchange(), sent([ORDER[:50]], leaves=True), LIMITS, BOUNDARY)

    with pytest.raises(CallerGone):
        asyncio.run(story())


@pytest.mark.parametrize(
    "raw",
    [
        form(part("a", b"x")).removesuffix(b"--\r\n") + b" " * 16_000_000,
        part("input_reference", b"\r\n--a-boundaryx" * 1_000_000, filename="x"),
        part("input_reference", b"\r\n--" * 1_300_000, filename="x"),
        b"\r\n" * 8_000_000,
        ORDER + b"--" * 8_000_000,
    ],
    ids=["blanks", "false boundaries", "half boundaries", "no start", "epilogue"],
)
def test_megabytes_made_to_be_slow_are_not(raw: bytes) -> None:
    began = time.process_time()
    with suppress(ProxyError):
        read(raw, size=65_536, limits=Limits())
    assert time.process_time() - began < 1
