"""What the vendor takes and what it refuses, before anything is accepted."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from proxy.sandbox import Sandbox
from tests.sandbox.dialling import Answer, ask, chat, running

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
JPEG = b"\xff\xd8\xff\xe0" + bytes(20)


def data_url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def content(*links: object) -> list[dict[str, Any]]:
    images = [{"type": "image_url", "image_url": {"url": link}} for link in links]
    return [{"type": "text", "text": "a prompt"}, *images]


def user(said: object) -> list[dict[str, Any]]:
    return [{"role": "user", "content": said}]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown model": ({"model": "veo-9"}, "model_not_found"),
    "suffixes in another order": ({"model": "veo-3.1-fast-landscape"}, "model_not_found"),
    "no model": ({"model": None}, "parse_request_failed"),
    "no messages": ({"messages": []}, "parse_request_failed"),
    "messages no list": ({"messages": "a"}, "parse_request_failed"),
    "no user": ({"messages": [{"role": "system", "content": "a"}]}, "parse_request_failed"),
    "blank prompt": ({"messages": user(" ")}, "parse_request_failed"),
    "n 0": ({"n": 0}, "parse_request_failed"),
    "n 5": ({"n": 5}, "parse_request_failed"),
    "n text": ({"n": "2"}, "parse_request_failed"),
    "n true": ({"n": True}, "parse_request_failed"),
    "stream text": ({"stream": "yes"}, "parse_request_failed"),
    "-fl without image": ({"model": "veo-3.1-fl"}, "parse_request_failed"),
    "three images": (
        {"model": "veo-3.1-fl", "messages": user(content(*3 * [data_url(PNG)]))},
        "parse_request_failed",
    ),
    "image without -fl": ({"messages": user(content(data_url(PNG)))}, "model_not_support_image"),
    "gif": (
        {"model": "veo-3.1-fl", "messages": user(content(data_url(b"GIF89a", "gif")))},
        "invalid_image_format",
    ),
    "not base64": (
        {"model": "veo-3.1-fl", "messages": user(content("data:image/png;base64,%%%"))},
        "invalid_image_format",
    ),
    "file link": (
        {"model": "veo-3.1-fl", "messages": user(content("file:///etc/passwd"))},
        "image_fetch_failed",
    ),
    "image over 5 MB": (
        {"model": "veo-3.1-fl", "messages": user(content(data_url(PNG + bytes(5 << 20))))},
        "image_too_large",
    ),
    "image link a number": (
        {"model": "veo-3.1-fl", "messages": user(content(7))},
        "parse_request_failed",
    ),
    "misspelt word": ({"messages": user("[[statsu 502]]")}, "sandbox_word"),
    "word without argument": ({"messages": user("[[status]]")}, "sandbox_word"),
    "word with too many": ({"messages": user("[[html 1 2]]")}, "sandbox_word"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_order_is_refused_and_free(case: str) -> None:
    fields, code = REFUSED[case]

    async def story() -> None:
        async with running() as sandbox:
            answer = await chat(sandbox, "a", **fields)
            assert (answer.status, answer.data["error"]["code"]) == (400, code)
            assert answer.headers["x-shellapi-request-id"]
            assert sandbox.bill().jobs == 0

    asyncio.run(story())


BROKEN = {"nothing": b"", "half": b"{", "list": b"[]", "bytes": b"\xff", "deep": b"[" * 100_000}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    async def story() -> Answer:
        async with running() as sandbox:
            return await ask(f"{sandbox.urls['api']}/v1/chat/completions", body, method="POST")

    answer = asyncio.run(story())
    assert answer.status == 400
    assert answer.data["error"]["message"].startswith("parse_request_failed: ")


TAKEN: dict[str, dict[str, Any]] = {
    "one image": {"messages": user(content(data_url(PNG)))},
    "two images": {"messages": user(content(data_url(PNG), data_url(JPEG, "jpeg")))},
    "an image by link": {"messages": user(content("https://example.com/a.png"))},
    "extra fields": {"messages": user(content(data_url(PNG))), "temperature": 1, "max_tokens": 5},
    "a bare image link": {
        "messages": user([*content(), {"type": "image_url", "image_url": data_url(JPEG)}])
    },
}


@pytest.mark.parametrize("case", TAKEN)
def test_orders_with_images_are_taken(case: str) -> None:
    async def story() -> Answer:
        async with running() as sandbox:
            return await chat(sandbox, "", model="veo-3.1-landscape-fast-fl", **TAKEN[case])

    answer = asyncio.run(story())
    assert (answer.status, len(answer.links())) == (200, 1)
    assert "横屏模式" in answer.said()


def test_half_a_surrogate_does_not_stop_the_vendor() -> None:
    async def story() -> Answer:
        async with running() as sandbox:
            url = f"{sandbox.urls['api']}/v1/chat/completions"
            message = b'{"role":"user","content":"\\ud800"}'
            body = b'{"model":"veo-3.1","stream":true,"messages":[' + message + b"]}"
            return await ask(url, body)

    answer = asyncio.run(story())
    assert (answer.status, len(answer.links())) == (200, 1)


def test_the_last_user_message_is_the_prompt() -> None:
    async def story() -> Answer:
        async with running() as sandbox:
            messages = [
                {"role": "system", "content": "[[status 500]]"},
                *user("[[status 501]]"),
                *user([{"type": "text", "text": "first"}, {"type": "text", "text": "second"}]),
            ]
            return await chat(sandbox, "", messages=messages)

    assert '"prompt": "first\\nsecond"' in asyncio.run(story()).said()


def multipart(*parts: tuple[str, bytes]) -> tuple[bytes, dict[str, str]]:
    lines = []
    for head, data in parts:
        lines.append(b"--XX\r\nContent-Disposition: form-data; " + head.encode())
        lines.append(b"\r\n\r\n" + data + b"\r\n")
    return b"".join(lines) + b"--XX--\r\n", {"Content-Type": 'multipart/form-data; boundary="XX"'}


MODEL_FL = ('name="model"', b"veo-3.1-fl")
PROMPT = ('name="prompt"', b"a prompt")
FILE = ('name="input_reference"; filename="a.png"\r\nContent-Type: image/png', PNG)
FORMS: dict[str, tuple[tuple[tuple[str, bytes], ...], int]] = {
    "no file, no -fl": ((('name="model"', b"veo-3.1"), PROMPT), 200),
    "one file": ((MODEL_FL, PROMPT, FILE), 200),
    "two files": ((MODEL_FL, PROMPT, FILE, FILE), 200),
    "brackets": ((MODEL_FL, PROMPT, ('name="input_reference[]"; filename="a"', JPEG)), 200),
    "three files": ((MODEL_FL, PROMPT, FILE, FILE, FILE), 400),
    "no file": ((MODEL_FL, PROMPT), 400),
    "file without -fl": ((('name="model"', b"veo-3.1"), PROMPT, FILE), 400),
    "not an image": ((MODEL_FL, PROMPT, ('name="input_reference"; filename="a"', b"hm")), 400),
    "no prompt": ((('name="model"', b"veo-3.1"),), 400),
    "no name": ((MODEL_FL, PROMPT, ("x", b"")), 400),
}


@pytest.mark.parametrize("case", FORMS)
def test_jobs_are_taken_as_forms(case: str) -> None:
    parts, status = FORMS[case]

    async def story() -> None:
        async with running() as sandbox:
            body, headers = multipart(*parts)
            answer = await ask(f"{sandbox.urls['api']}/v1/videos", body, headers=headers)
            assert answer.status == status
            assert sandbox.bill().jobs == (status == 200)

    asyncio.run(story())


def test_an_image_with_line_ends_inside_survives_the_form() -> None:
    async def story(sandbox: Sandbox) -> Answer:
        tricky = PNG + b"\r\n--X\r\n\r\n" + bytes(range(256))
        file = ('name="input_reference"; filename="a"', tricky)
        body, headers = multipart(MODEL_FL, PROMPT, file)
        return await ask(f"{sandbox.urls['api']}/v1/videos", body, headers=headers)

    async def run() -> Answer:
        async with running() as sandbox:
            return await story(sandbox)

    answer = asyncio.run(run())
    assert answer.data["id"].startswith("video_")


@pytest.mark.parametrize("cut", [b"--XX", b"", b"--XX--\r\n", b"--XX\r\nname"])
def test_a_broken_form_is_refused(cut: bytes) -> None:
    async def run() -> Answer:
        async with running() as sandbox:
            headers = {"Content-Type": "multipart/form-data; boundary=XX"}
            return await ask(f"{sandbox.urls['api']}/v1/videos", cut, headers=headers)

    assert asyncio.run(run()).status == 400
