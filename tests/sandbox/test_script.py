"""The words of the streams against those on record."""

from __future__ import annotations

from proxy.sandbox.frames import Framing, transcript
from proxy.sandbox.jobs import Clip, Event, Made, Progress, Queued, Spoiled
from proxy.sandbox.orders import Order, documented_products
from proxy.sandbox.script import Script
from proxy.sandbox.words import Style
from tests.sandbox.dialling import Answer

PRODUCTS = documented_products()


def clip(number: int) -> Clip:
    return Clip(f"id-{number}", number, f"http://127.0.0.1:1/flow/{number}.mp4", 0.0, 1.0)


def told(prompt: str, style: Style, events: list[Event], clips: int = 1) -> Answer:
    order = Order(PRODUCTS["veo-3.1-fast"], prompt, clips, 0, stream=True)
    script = Script(order, style, "foaicmpl-xxx", 1759759480)
    return Answer(200, {}, b"".join(transcript(script, events, Framing())), "whole")


def test_the_chinese_stream_is_the_captured_one() -> None:
    events: list[Event] = [Queued(), Progress(9.0), Progress(45.9), Made(clip(1))]
    answer = told("画小猫", Style(), events)
    contents = [chunk["choices"][0]["delta"].get("content") for chunk in answer.chunks]
    assert contents == [
        None,
        '```json\n{\n    "prompt": "画小猫",\n    "mode": "竖屏模式"\n}\n```\n\n',
        "> ⌛️ 视频正在生成中，请耐心等待...\n\n",
        "> 🏃 进度：9.0%\n\n",
        "> 🏃 进度：45.9%\n\n",
        "> ✅ 视频生成成功，[点击这里](http://127.0.0.1:1/flow/1.mp4) 查看视频~~~\n\n",
        None,
    ]
    assert answer.text.startswith(
        'data: {"id":"foaicmpl-xxx","object":"chat.completion.chunk","created":1759759480,'
        '"model":"veo-3.1-fast","choices":[{"index":0,"delta":{"role":"assistant"},'
        '"finish_reason":null}]}\n\n'
    )
    last = answer.chunks[-1]
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert set(last["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    assert answer.payloads[-1] == "[DONE]"


def test_the_english_stream_is_the_documented_one() -> None:
    answer = told("a", Style(english=True, usage="none"), [Progress(45.0), Made(clip(1))])
    url = clip(1).url
    assert answer.text == (
        'data: {"choices":[{"delta":{"content":"> 🏃 Progress: 45.0%\\n\\n"}}]}\n\n'
        f'data: {{"choices":[{{"delta":{{"content":"> ✅ Video 1 complete, [click here]({url}) '
        'to view~~~\\n\\n"}}]}\n\n'
        "data: [DONE]\n\n"
    )


def test_several_clips_are_numbered_lines_of_one_choice() -> None:
    events: list[Event] = [Made(clip(1)), Spoiled(2, "PUBLIC_ERROR_X"), Made(clip(3))]
    said = told("a", Style(), events, clips=3).said(index=0)
    assert "> ✅ 视频 1 生成成功，" in said
    assert "> ❌ 视频 2 生成失败：PUBLIC_ERROR_X" in said
    assert "> ✅ 视频 3 生成成功，" in said
