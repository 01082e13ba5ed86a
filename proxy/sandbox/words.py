"""The sentences of a chat answer: the captured Chinese ones, the documented English, and kin.

Wire facts, sections 3.2 to 3.5, give the wording; a `Style` says which one a request gets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from proxy.sandbox.errors import dumps
from proxy.sandbox.faults import Faults
from proxy.sandbox.jobs import Clip, Spoiled
from proxy.sandbox.orders import Order


@dataclass(frozen=True, slots=True)
class Style:
    """How an answer is worded and framed; see the table of words for what each field does."""

    english: bool = False
    choices: bool = False
    numbered: bool = True
    reasoning: bool = False
    link: str = "click"
    usage: str = "last"
    escape: str = ""
    split: bool = False
    broken_frame: bool = False
    ending: str = ""

    @classmethod
    def of(cls, faults: Faults) -> Style:
        """The style that a request's faults ask for."""
        endings = ("fail-reasoning", "error-frame", "silent", "bare", "no-done")
        ending = next((name for name in endings if name in faults), "")
        reasoning = "reasoning" in faults or ending == "fail-reasoning"
        usage = "own" if ending == "fail-reasoning" else "none" if "english" in faults else "last"
        return cls(
            english="english" in faults,
            choices="choices" in faults,
            numbered="unnumbered" not in faults,
            reasoning=reasoning,
            link=faults.word("link", "form", "video" if reasoning else "click"),
            usage=faults.word("usage", "where", usage),
            escape=faults.word("escape", "kind"),
            split="split" in faults,
            broken_frame="broken-frame" in faults,
            ending=ending,
        )


def echo(order: Order) -> str:
    """The prompt as the vendor repeats it, in a fenced block with the orientation."""
    mode = "横屏模式" if order.product.width > order.product.height else "竖屏模式"
    return f'```json\n{{\n    "prompt": {dumps(order.prompt)},\n    "mode": "{mode}"\n}}\n```\n\n'


def waiting(style: Style) -> str:
    """The line before the first progress."""
    if style.english:
        return "> ⌛️ Task is in queue, please wait patiently...\n\n"
    return "> ⌛️ 视频正在生成中，请耐心等待...\n\n"


def progress(percent: float, style: Style) -> str:
    """A progress line; one decimal."""
    if style.english:
        return f"> 🏃 Progress: {percent:.1f}%\n\n"
    if style.reasoning:
        return f"生成进度: {percent:.0f}%\n"
    return f"> 🏃 进度：{percent:.1f}%\n\n"


def success(clip: Clip, clips: int, style: Style) -> str:
    """The line that announces a clip; several clips in one text are numbered."""
    url = clip.url
    done = f"> ✅ {_subject(clip.number, clips, style)}"
    if style.link == "generated":
        return f"> ✅ Video generated successfully, [click here]({url}) to view video~~~\n\n"
    if style.link == "download":
        return f"{done}，[download video]({url})\n\n"
    if style.link == "watch":
        return f"{done}\n\n[▶️ Watch Online]({url}) | [⏬ Download Video]({url})\n\n"
    if style.link == "video":
        return f"```html\n<video src='{url}' controls></video>\n```\n\n"
    if style.link == "bare":
        return f"{url}\n\n"
    if style.english:
        return f"{done}, [click here]({url}) to view~~~\n\n"
    return f"{done}，[点击这里]({url}) 查看视频~~~\n\n"


def trouble(event: Spoiled, clips: int, style: Style) -> str:
    """The line that says a clip failed."""
    if style.english:
        number = f" {event.number}" if clips > 1 and style.numbered else ""
        return f"> ❌ Video{number} generation failed: {event.code}\n\n"
    if style.reasoning:
        return f"❌ 生成失败: Flow API request failed: {event.code}\n"
    number = f" {event.number} " if clips > 1 and style.numbered and not style.choices else ""
    return f"> ❌ 视频{number}生成失败：{event.code}\n\n"


def _subject(number: int, clips: int, style: Style) -> str:
    alone = style.choices or not style.numbered
    if style.english:
        return "Video complete" if alone else f"Video {number} complete"
    return "视频生成成功" if alone or clips == 1 else f"视频 {number} 生成成功"


def error_body(code: str) -> dict[str, Any]:
    """The error of a generation that failed on the way."""
    return {"error": {"message": code, "type": "server_error", "code": "generation_failed"}}


def usage(order: Order) -> dict[str, int]:
    """Counts of text tokens, which have nothing to do with the price."""
    asked, said = max(1, len(order.prompt) // 4), 244 * order.clips
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
