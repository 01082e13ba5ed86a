"""Every word of the table, rehearsed over a socket: what its row says is what a caller sees."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from proxy.sandbox import DIRECTIVES, Sandbox, markdown
from proxy.sandbox.directives import GROUPS
from proxy.sandbox.errors import ERRORS
from tests.sandbox.dialling import ask, chat, finished_video, make_video, running

Rehearsal = Callable[[Sandbox], Awaitable[None]]
REHEARSALS: dict[str, Rehearsal] = {}
MICROS = 150_000


def rehearses(name: str) -> Callable[[Rehearsal], Rehearsal]:
    def enter(rehearsal: Rehearsal) -> Rehearsal:
        REHEARSALS[name] = rehearsal
        return rehearsal

    return enter


@pytest.mark.parametrize("name", DIRECTIVES)
def test_a_word_does_what_its_row_says(name: str) -> None:
    assert name in REHEARSALS, f"{name} has no rehearsal"

    async def story() -> None:
        async with running() as sandbox:
            await REHEARSALS[name](sandbox)

    asyncio.run(story())


def test_the_table_shows_every_word_and_error_once() -> None:
    table = markdown()
    assert set(REHEARSALS) == set(DIRECTIVES)
    for directive in DIRECTIVES.values():
        rows = (f"| `[[{directive.usage}]]` |", f"| `{directive.usage}` (control route only) |")
        assert sum(map(table.count, rows)) == 1
    assert all(f"| `{name}` |" in table for name in ERRORS)


def billed(sandbox: Sandbox) -> int:
    return sandbox.bill().micros


# --- Instead of an answer -------------------------------------------------------------------------


@rehearses("status")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[status 502]]")
    assert answer.status == 502
    assert answer.data["error"]["type"] == "shell_api_error"
    assert answer.headers["x-shellapi-request-id"]
    assert sandbox.bill().jobs == 0


@rehearses("error")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[error balance]]")
    assert answer.status == 403
    assert answer.data["error"]["code"] == "insufficient_user_quota"
    assert sandbox.bill().jobs == 0


@rehearses("policy")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[policy PUBLIC_ERROR_DANGER_FILTER]]")
    assert answer.status == 403
    assert answer.data["error"]["code"] == "content_policy_violation"
    assert "PUBLIC_ERROR_DANGER_FILTER" in answer.data["error"]["message"]


@rehearses("html")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[html]]")
    assert (answer.status, answer.headers["content-type"][:9]) == (200, "text/html")
    assert sandbox.bill().jobs == 0


@rehearses("json-error")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[json-error]]")
    assert answer.status == 200
    assert answer.data["error"]["message"]
    assert sandbox.bill().jobs == 0


@rehearses("redirect")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[redirect]]")
    assert answer.status == 307
    assert answer.headers["location"] == f"{sandbox.urls['vip']}/v1/chat/completions"
    assert sandbox.tally("[[redirect]]").accepted == 0


@rehearses("junk")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[junk]]")
    assert answer.status == 0
    assert not answer.body.startswith(b"HTTP/")
    assert sandbox.bill().jobs == 0


@rehearses("reset")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[reset]]")
    assert (answer.status, answer.body, answer.end) == (0, b"", "reset")
    assert sandbox.tally("[[reset]]").received == 1
    assert sandbox.bill().jobs == 0


@rehearses("reset-after")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[reset-after]]")
    assert (answer.status, answer.body, answer.end) == (0, b"", "reset")
    await sandbox.idle()
    assert billed(sandbox) == MICROS


@rehearses("accept-then")
async def _(sandbox: Sandbox) -> None:
    assert (await chat(sandbox, "[[accept-then]]")).status == 504
    assert (await chat(sandbox, "[[accept-then 500]]")).status == 500
    await sandbox.idle()
    assert billed(sandbox) == 2 * MICROS


# --- On the wire ----------------------------------------------------------------------------------


async def seconds_of(asked: Awaitable[object]) -> float:
    begun = asyncio.get_running_loop().time()
    await asked
    return asyncio.get_running_loop().time() - begun


@rehearses("stall")
async def _(sandbox: Sandbox) -> None:
    for prompt in ("[[stall 0.2]]", "[[stall 0.2 100]]"):
        assert await seconds_of(chat(sandbox, prompt)) >= 0.2
    answer = await chat(sandbox, "[[stall 0.01 100]]")
    assert (answer.end, len(answer.links())) == ("whole", 1)
    # Cut where the stall would be: the silence begins after exactly so many bytes.
    assert len((await chat(sandbox, "[[stall 0.01 100]] [[cut 100]]")).body) == 100


@rehearses("cut")
async def _(sandbox: Sandbox) -> None:
    for place in (0, 1, 300):
        answer = await chat(sandbox, f"[[cut {place}]]")
        assert (answer.status, answer.end, len(answer.body)) == (200, "cut", place)
    await sandbox.idle()
    assert billed(sandbox) == 3 * MICROS


@rehearses("reset-at")
async def _(sandbox: Sandbox) -> None:
    for place in (0, 300):
        answer = await chat(sandbox, f"[[reset-at {place}]]")
        assert (answer.status, answer.end, len(answer.body)) == (200, "reset", place)
    await sandbox.idle()
    assert billed(sandbox) == 2 * MICROS


@rehearses("slow")
async def _(sandbox: Sandbox) -> None:
    assert await seconds_of(chat(sandbox, "[[slow 0.03]]")) >= 8 * 0.03


@rehearses("one-byte")
async def _(sandbox: Sandbox) -> None:
    await sandbox.put(fault="one-byte", on="link")
    url = (await chat(sandbox, "plain")).links()[0]
    answer = await chat(sandbox, "[[one-byte]]")
    assert (answer.end, len(answer.links())) == ("whole", 1)
    assert (await ask(url, headers={"Range": "bytes=4-7"})).body == b"ftyp"


@rehearses("close-delimited")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[close-delimited]] [[cut 200]]")
    assert not {"content-length", "transfer-encoding"} & set(answer.headers)
    assert (answer.end, len(answer.body)) == ("whole", 200)


@rehearses("gzip")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[gzip]]")
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(answer.body).endswith(b"data: [DONE]\n\n")


@rehearses("refuse")
async def _(sandbox: Sandbox) -> None:
    await sandbox.put(gateway="api", fault="refuse")
    with pytest.raises(ConnectionRefusedError):
        await chat(sandbox, "x")
    assert (await chat(sandbox, "x", "vip")).status == 200
    await sandbox.clear()
    assert (await chat(sandbox, "x")).status == 200


@rehearses("black-hole")
async def _(sandbox: Sandbox) -> None:
    await sandbox.put(gateway="api", fault="black-hole")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await chat(sandbox, "x")
    await sandbox.clear("api")
    assert (await chat(sandbox, "x")).status == 200


@rehearses("reset-before")
async def _(sandbox: Sandbox) -> None:
    await sandbox.put(gateway="api", fault="reset-before", times=1)
    answer = await chat(sandbox, "x")
    assert (answer.status, answer.body, answer.end) == (0, b"", "reset")
    assert sandbox.tally("x").received == 0
    assert (await chat(sandbox, "x")).status == 200


# --- How it ends ----------------------------------------------------------------------------------


@rehearses("deliver")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[deliver 2]]", n=3)
    assert len(answer.links()) == 2
    assert answer.said().count("❌ 视频 3 生成失败") == 1
    assert billed(sandbox) == 2 * MICROS


@rehearses("fail")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[fail PUBLIC_ERROR_AUDIO_FILTERED]]")
    assert "❌ 视频生成失败：PUBLIC_ERROR_AUDIO_FILTERED" in answer.said()
    assert answer.chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert (answer.payloads[-1], billed(sandbox)) == ("[DONE]", 0)


@rehearses("fail-reasoning")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[fail-reasoning]]")
    assert answer.said() == ""
    assert "❌" in answer.said("reasoning_content")
    assert answer.chunks[-1]["choices"] == []
    assert answer.chunks[-1]["usage"]
    assert '"finish_reason":"stop"' not in answer.text
    assert (answer.payloads[-1], billed(sandbox)) == ("[DONE]", 0)


@rehearses("error-frame")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[error-frame]]", n=2)
    assert answer.chunks[-1]["error"]["code"] == "generation_failed"
    assert (answer.payloads[-1], answer.text.count('"error"')) == ("[DONE]", 1)
    whole = await chat(sandbox, "[[error-frame]]", stream=False)
    assert (whole.status, billed(sandbox)) == (500, 0)


@rehearses("silent")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[silent]]")
    assert (answer.payloads[-1], answer.links(), "❌" in answer.text) == ("[DONE]", [], False)
    assert answer.chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert billed(sandbox) == 0


@rehearses("bare")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[bare]]")
    assert (answer.end, answer.links(), billed(sandbox)) == ("whole", [], 0)
    assert "[DONE]" not in answer.text
    assert '"finish_reason":"stop"' not in answer.text


@rehearses("no-done")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[no-done]]")
    assert (answer.end, len(answer.links())) == ("whole", 1)
    assert "[DONE]" not in answer.text
    assert '"finish_reason":"stop"' not in answer.text


@rehearses("json")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[json]]")
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.data["object"] == "chat.completion"
    assert "✅" in answer.data["choices"][0]["message"]["content"]
    assert billed(sandbox) == MICROS


# --- How a stream is written ----------------------------------------------------------------------


@rehearses("english")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[english]]", n=2)
    assert all(set(chunk) == {"choices"} for chunk in answer.chunks)
    assert "> 🏃 Progress: " in answer.said()
    assert "> ✅ Video 2 complete, [click here](http://" in answer.said()
    assert "[[english]]" not in answer.text


@rehearses("reasoning")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[reasoning]]")
    assert "生成进度: " in answer.said("reasoning_content")
    assert answer.said().startswith("```html\n<video src='http://")
    assert len(answer.links()) == 1


@rehearses("choices")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[choices]]", n=3)
    for index in range(3):
        assert answer.said(index=index).count("✅ 视频生成成功") == 1
    whole = await chat(sandbox, "[[choices]]", n=3, stream=False)
    assert [choice["index"] for choice in whole.data["choices"]] == [0, 1, 2]


@rehearses("unnumbered")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[unnumbered]]", n=2)
    assert answer.said().count("> ✅ 视频生成成功，") == 2


@rehearses("link")
async def _(sandbox: Sandbox) -> None:
    marks = {
        "click": "[点击这里](http",
        "generated": "> ✅ Video generated successfully, [click here](http",
        "download": "[download video](http",
        "watch": "[⏬ Download Video](http",
        "video": "<video src='http",
        "signed": "/ai-sandbox-videofx/video/",
        "bare": "\n\nhttp",
    }
    assert set(marks) == set(DIRECTIVES["link"].parameters[0].choices)
    for form, mark in marks.items():
        answer = await chat(sandbox, f"[[link {form}]]")
        assert mark in answer.said(), form
        assert len(set(answer.links())) == 1, form
        assert (await ask(answer.links()[0], headers={"Range": "bytes=4-7"})).body == b"ftyp"


@rehearses("usage")
async def _(sandbox: Sandbox) -> None:
    last = (await chat(sandbox, "[[usage last]]")).chunks[-1]
    assert (last["choices"][0]["finish_reason"], "usage" in last) == ("stop", True)
    own = (await chat(sandbox, "[[usage own]]")).chunks[-1]
    assert (own["choices"], "usage" in own) == ([], True)
    assert '"usage":' not in (await chat(sandbox, "[[usage none]]")).text


@rehearses("escape")
async def _(sandbox: Sandbox) -> None:
    html = await chat(sandbox, "[[escape]]")
    assert ("\\u003e" in html.text, ">" in html.text, len(html.links())) == (True, False, 1)
    slashes = await chat(sandbox, "[[escape slashes]]")
    assert (":\\/\\/127.0.0.1" in slashes.text, len(slashes.links())) == (True, 1)


@rehearses("split")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[split]]")
    assert len(answer.links()) == 1
    assert not any(answer.links()[0] in payload for payload in answer.payloads)


@rehearses("broken-frame")
async def _(sandbox: Sandbox) -> None:
    answer = await chat(sandbox, "[[broken-frame]]")
    assert len(answer.payloads) - len(answer.chunks) == 2  # the broken one and [DONE]
    assert len(answer.links()) == 1


@rehearses("ping")
async def _(sandbox: Sandbox) -> None:
    assert (await chat(sandbox, "[[ping]]")).text.startswith(": PING\n\ndata: {")


@rehearses("ids")
async def _(sandbox: Sandbox) -> None:
    assert (await chat(sandbox, "[[ids]]")).text.startswith("id: 1\ndata: {")


@rehearses("crlf")
async def _(sandbox: Sandbox) -> None:
    text = (await chat(sandbox, "[[crlf]]")).text
    assert text.count("\n") == text.count("\r\n") > 10


@rehearses("bom")
async def _(sandbox: Sandbox) -> None:
    assert (await chat(sandbox, "[[bom]]")).body.startswith(b"\xef\xbb\xbfdata: {")


@rehearses("no-space")
async def _(sandbox: Sandbox) -> None:
    text = (await chat(sandbox, "[[no-space]]")).text
    assert text.startswith("data:{")
    assert text.endswith("data:[DONE]\n\n")


# --- In general and jobs --------------------------------------------------------------------------


@rehearses("seconds")
async def _(sandbox: Sandbox) -> None:
    assert await seconds_of(chat(sandbox, "[[seconds 0.3]]")) >= 0.3


@rehearses("gateway")
async def _(sandbox: Sandbox) -> None:
    prompt = "[[english]] [[gateway api]] [[status 502]] [[gateway vip]] [[status 503]]"
    answers = [await chat(sandbox, prompt, name) for name in sandbox.urls]
    assert [answer.status for answer in answers] == [502, 503, 200]
    assert "Video 1 complete" in answers[2].said()


@rehearses("created")
async def _(sandbox: Sandbox) -> None:
    shapes = {}
    for shape in "abcde":
        body = (await make_video(sandbox, f"[[created {shape}]]")).data
        shapes[shape] = (body["status"], set(body) & {"created", "created_at", "task_id"})
    assert shapes == {
        "a": ("queued", {"created"}),
        "b": ("submitted", {"created_at"}),
        "c": ("submitted", {"created_at"}),
        "d": ("queued", {"created_at", "task_id"}),
        "e": ("queued", {"created_at", "task_id"}),
    }


@rehearses("polled")
async def _(sandbox: Sandbox) -> None:
    async def polled(prompt: str) -> Any:
        job = await finished_video(sandbox, prompt)
        return (await ask(f"{sandbox.urls['api']}/v1/videos/{job}")).data

    documented = await polled("[[polled documented]]")
    assert (documented["status"], "url" in documented) == ("completed", False)
    captured = await polled("[[polled captured]]")
    assert captured["url"] == captured["video_url"] == captured["result_url"]
    task = await polled("[[polled task]]")
    assert (task["object"], "id" in task, task["progress"]) == ("task", False, "100%")
    newapi = await polled("[[polled newapi]]")
    assert (newapi["code"], newapi["data"]["status"]) == ("success", "SUCCESS")
    failed = await polled("[[fail PUBLIC_ERROR_AUDIO_FILTERED]]")
    assert failed["fail_reason"] == "PUBLIC_ERROR_AUDIO_FILTERED"
    assert failed["progress"] == "100%"


@rehearses("content")
async def _(sandbox: Sandbox) -> None:
    async def content(form: str) -> tuple[int, str, bytes]:
        job = await finished_video(sandbox, f"[[content {form}]]")
        answer = await ask(f"{sandbox.urls['api']}/v1/videos/{job}/content")
        return answer.status, answer.headers.get("content-type", ""), answer.body

    assert b'"url":"http://' in (await content("json"))[2]
    assert (await content("video-url"))[2].startswith(b'{"video_url":"http://')
    status, kind, film = await content("bytes")
    assert (status, kind, film[4:8]) == (200, "video/mp4", b"ftyp")
    assert (await content("redirect"))[0] == 302


@rehearses("not-ready")
async def _(sandbox: Sandbox) -> None:
    job = await finished_video(sandbox, "[[not-ready 2]]")
    url = f"{sandbox.urls['api']}/v1/videos/{job}/content"
    assert [(await ask(url)).status for _ in range(3)] == [400, 400, 200]


@rehearses("unshared")
async def _(sandbox: Sandbox) -> None:
    job = await finished_video(sandbox, "[[unshared]]")
    shared = await finished_video(sandbox, "shared")
    for gateway, url in sandbox.urls.items():
        assert (await ask(f"{url}/v1/videos/{shared}")).status == 200
        assert (await ask(f"{url}/v1/videos/{job}")).status == (200 if gateway == "api" else 404)


def test_no_word_stands_in_two_groups() -> None:
    assert sum(len(group) for group in GROUPS.values()) == len(DIRECTIVES)
    assert all(name == directive.name for name, directive in DIRECTIVES.items())
