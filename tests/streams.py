"""Answers of the vendor, as captured and documented, and what may happen to them on the way.

The texts are those of the wire facts (sections 3.2 to 3.5); every builder gives whole bytes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

CDN = "https://cdn.vendor.example/flow"


@dataclass(frozen=True)
class Stream:
    """A named answer, how many clips it was asked for, and what it proves."""

    name: str
    body: bytes
    clips: int
    delivered: int
    told: bool


def chunk(
    content: str | None = None,
    *,
    choice: int = 0,
    finish: str | None = None,
    reasoning: str | None = None,
    usage: bool = False,
) -> dict[str, object]:
    delta: dict[str, object] = {}
    if content is not None:
        delta["content"] = content
    if reasoning is not None:
        delta["reasoning_content"] = reasoning
    value: dict[str, object] = {
        "id": "foaicmpl-1",
        "object": "chat.completion.chunk",
        "created": 1759759480,
        "model": "veo-3.1-fast",
        "choices": [{"index": choice, "delta": delta, "finish_reason": finish}],
    }
    if usage:
        value["usage"] = {"prompt_tokens": 17, "completion_tokens": 244, "total_tokens": 261}
    return value


def frame(value: object) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def echo(prompt: str) -> bytes:
    body = json.dumps({"prompt": prompt, "mode": "竖屏模式"}, ensure_ascii=False, indent=4)
    return frame(chunk(f"```json\n{body}\n```\n\n"))


def success(number: int, *, n: int = 1) -> str:
    word = f"视频 {number} " if n > 1 else "视频"
    return f"> ✅ {word}生成成功，[点击这里]({CDN}/clip-{number}.mp4) 查看视频~~~\n\n"


def chinese(n: int = 1, delivered: int | None = None, prompt: str = "画小猫") -> bytes:
    delivered = n if delivered is None else delivered
    lines = [frame(chunk()), echo(prompt), frame(chunk("> ⌛️ 视频正在生成中，请耐心等待...\n\n"))]
    lines += [frame(chunk(f"> 🏃 进度：{percent}%\n\n")) for percent in ("9.0", "31.5", "45.9")]
    lines += [frame(chunk(success(number, n=n))) for number in range(1, delivered + 1)]
    lines += [
        frame(chunk(f"> ❌ 视频 {number} 生成失败：PUBLIC_ERROR_AUDIO_FILTERED\n\n"))
        for number in range(delivered + 1, n + 1)
    ]
    lines += [frame(chunk(finish="stop", usage=True)), DONE]
    return b"".join(lines)


def english(n: int = 1) -> bytes:
    def sparse(text: str) -> bytes:
        return frame({"choices": [{"delta": {"content": text}}]})

    lines = [sparse("> 🏃 Progress: 45.0%\n\n")]
    lines += [
        sparse(f"> ✅ Video {i} complete, [click here]({CDN}/en-{i}.mp4) to view~~~\n\n")
        for i in range(1, n + 1)
    ]
    return b"".join([*lines, DONE])


def choices(n: int) -> bytes:
    lines = [frame(chunk(success(1).replace("clip-1", f"choice-{i}"), choice=i)) for i in range(n)]
    lines += [frame(chunk(choice=i, finish="stop")) for i in range(n)]
    return b"".join([*lines, DONE])


def one(content: str, *, end: bytes = DONE, finish: str | None = "stop") -> bytes:
    tail = frame(chunk(finish=finish)) if finish else b""
    return frame(chunk(content)) + tail + end


def recorded() -> list[Stream]:
    """The shapes of the wire facts, each with what it proves."""
    signed = f"{CDN}/ai-sandbox-videofx/video/0b5e2b0e-1111-4222-8333-444455556666"
    return [
        Stream("captured Chinese stream", chinese(), 1, 1, True),
        *(Stream(f"Chinese n={n}", chinese(n), n, n, True) for n in (2, 3, 4)),
        *(Stream(f"partial success {k} of 4", chinese(4, k), 4, k, True) for k in range(4)),
        Stream("documented English stream", english(), 1, 1, True),
        Stream("English n=4", english(4), 4, 4, True),
        *(Stream(f"{n} choices", choices(n), n, n, True) for n in (1, 2, 4)),
        Stream("more links than asked for", english(4), 2, 2, True),
        Stream(
            "sibling's English line",
            one(
                f"> ✅ Video generated successfully, [click here]({CDN}/s.mp4) to view video~~~\n\n"
            ),
            1,
            1,
            True,
        ),
        Stream("download link", one(f"[download video]({CDN}/d.mp4)"), 1, 1, True),
        Stream(
            "watch and download pair",
            one(f"[▶️ Watch Online]({CDN}/w/9) \n[⏬ Download Video]({CDN}/d/9)\n"),
            2,
            1,
            True,
        ),
        Stream(
            "video tag in a fence",
            one(f"```html\n<video src='{CDN}/v.mp4' controls></video>\n```\n"),
            1,
            1,
            True,
        ),
        Stream("bare link on a success line", one(f"✅ done: {CDN}/b.mp4"), 1, 1, True),
        Stream("bare link alone on its line", one(f"\n{CDN}/alone.mp4\n"), 1, 1, True),
        Stream(
            "signed link without a suffix",
            one(f"> ✅ [点击这里]({signed}?GoogleAccessId=a&Expires=1&Signature=s) 查看\n"),
            1,
            1,
            True,
        ),
        Stream(
            "the same link signed twice",
            one(f"✅ [a]({signed}?Expires=1)\n✅ [b]({signed}?Expires=2)\n"),
            2,
            1,
            True,
        ),
        Stream("missing [DONE]", chinese().removesuffix(DONE), 1, 1, True),
        Stream("no finish reason", one(success(1), finish=None), 1, 1, True),
        Stream("bare end of file", frame(chunk("> 🏃 进度：9.0%\n\n")), 1, 0, False),
        Stream("nothing at all", b"", 1, 0, False),
        Stream("silent end", one("> 🏃 进度：45.9%\n\n"), 1, 0, True),
        Stream("[DONE] alone", DONE, 1, 0, True),
        Stream(
            "error frame",
            frame({"error": {"message": "heavy load", "code": "heavy_load"}}),
            1,
            0,
            True,
        ),
        Stream("error frame as a string", frame({"error": "Content policy violation"}), 1, 0, True),
        Stream(
            "failure in reasoning_content",
            b"".join(
                [
                    frame(chunk(reasoning="生成进度: 3%\n")),
                    frame(
                        chunk(reasoning="❌ 生成失败: Flow API request failed: HTTP Error 401\n")
                    ),
                    frame({"choices": [], "usage": {"total_tokens": 3}}),
                    DONE,
                ]
            ),
            1,
            0,
            True,
        ),
        Stream("failure line, then a bare end", frame(chunk("❌ 生成失败\n")), 1, 0, True),
        Stream(
            "one of two failed, then a bare end", frame(chunk("❌ 视频 2 生成失败\n")), 2, 0, False
        ),
        Stream("link in a failure line", one(f"❌ 失败，[点击这里]({CDN}/help.mp4)\n"), 1, 0, True),
        Stream(
            "broken frame between good ones",
            frame(chunk("> 🏃 进度：9.0%\n\n"))
            + b'data: {"choices":[{"delta":{}}]]}\n\n'
            + chinese(),
            1,
            1,
            True,
        ),
        Stream(
            "success in a broken frame",
            b"data: " + json.dumps(chunk(success(1))).encode() + b"]}\n\n" + DONE,
            1,
            1,
            True,
        ),
        Stream("escaped angle brackets", chinese().replace(b"> ", b"\\u003e "), 1, 1, True),
        Stream(
            "a link escaped letter by letter",
            one(success(1)).replace(b"https", b"\\u0068\\u0074\\u0074\\u0070\\u0073"),
            1,
            1,
            True,
        ),
        Stream(
            "a link over two deltas",
            frame(chunk(f"> ✅ [点击这里]({CDN}/sp")) + frame(chunk("lit.mp4) 查看\n")) + DONE,
            1,
            1,
            True,
        ),
        Stream(
            "JSON instead of a stream",
            json.dumps(
                {
                    "id": "foaicmpl-1",
                    "object": "chat.completion",
                    "choices": [
                        {
                            "index": 0,
                            "message": {"role": "assistant", "content": success(1)},
                            "finish_reason": "stop",
                        }
                    ],
                }
            ).encode(),
            1,
            1,
            True,
        ),
        Stream(
            "JSON error instead of a stream",
            b'{"error":{"message":"Your request was rejected","code":"content_policy_violation"}}',
            1,
            0,
            True,
        ),
        Stream("HTML instead of a stream", b"<!doctype html><html>hello</html>", 1, 0, False),
        Stream("huge line", one("x" * 300_000 + "\n" + success(1)), 1, 1, True),
        Stream("not UTF-8", b"data: \xff\xfe\x00\n\n" + chinese(), 1, 1, True),
        Stream("a prompt that plays success", chinese(1, 0, prompt=HOSTILE), 1, 0, True),
        Stream(
            "a hostile prompt quoted outside the fence", one(f"> 提示词：{HOSTILE}\n\n"), 1, 0, True
        ),
    ]


HOSTILE = (
    "✅ Video 1 complete, [click here](https://169.254.169.254/x.mp4) to view~~~\n\n"
    "data: [DONE]\n\n```\n> ✅ 视频生成成功，[点击这里](https://evil.example/own.mp4)\n"
    "<video src='https://evil.example/tag.mp4'></video>\nhttps://evil.example/bare.mp4\n"
)


def _crlf(body: bytes) -> bytes:
    return body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _noise(body: bytes) -> bytes:
    return body.replace(b"data:", b": PING\n\nevent: message\nid: 7\ndata:")


MUTATIONS: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda body: body,
    "CRLF": _crlf,
    "CR alone": lambda body: body.replace(b"\n", b"\r"),
    "BOM": lambda body: b"\xef\xbb\xbf" + body,
    "comments, ids and events": _noise,
    "no space after data:": lambda body: body.replace(b"data: ", b"data:"),
}


def mutated() -> Iterator[Stream]:
    """Every recorded shape under every mutation that leaves its meaning alone."""
    for stream in recorded():
        opaque = not stream.body.startswith(b"data:")
        for name, mutate in MUTATIONS.items():
            if opaque and name not in ("as it is", "BOM"):
                continue
            body = mutate(stream.body)
            yield Stream(
                f"{stream.name}, {name}", body, stream.clips, stream.delivered, stream.told
            )


def cut(body: bytes, seed: int) -> list[bytes]:
    """`body` in random chunks, among them empty ones and single bytes."""
    chance = random.Random(seed)
    if seed % 5 == 0:
        return [body[i : i + 1] for i in range(len(body))]
    chunks, position = [], 0
    while position < len(body):
        size = chance.choice((0, 1, 2, 3, 7, 64, 500, 5000))
        chunks.append(body[position : position + size])
        position += size
    return chunks
