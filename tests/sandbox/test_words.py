"""The sentences, and which of them a request gets."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sandbox.faults import from_prompt
from proxy.sandbox.jobs import Clip, Spoiled
from proxy.sandbox.orders import Order, documented_products
from proxy.sandbox.words import Style, echo, progress, success, trouble, waiting

PRODUCTS = documented_products()
CLIP = Clip("id", 2, "http://127.0.0.1:1/flow/id.mp4", 0.0, 1.0)


@given(st.text())
def test_any_prompt_is_echoed_so_that_the_block_is_json(prompt: str) -> None:
    prompt = prompt.encode("utf-8", "replace").decode()
    order = Order(PRODUCTS["veo-3.1"], prompt, 1, 0, stream=True)
    block = echo(order)
    assert json.loads(block.removeprefix("```json\n").removesuffix("\n```\n\n"))["prompt"] == prompt


@pytest.mark.parametrize(
    ("model", "mode"), [("veo-3.1", "竖屏模式"), ("veo-3.1-landscape-fl", "横屏模式")]
)
def test_the_echo_names_the_orientation(model: str, mode: str) -> None:
    order = Order(PRODUCTS[model], "a", 1, 0, stream=True)
    assert f'"mode": "{mode}"' in echo(order)


def test_every_sentence_is_there_in_both_languages() -> None:
    for style, spoken in ((Style(), "视频"), (Style(english=True), "Video")):
        assert spoken in success(CLIP, 3, style)
        assert spoken in trouble(Spoiled(2, "X"), 3, style)
        assert (spoken == "视频") == ("请耐心等待" in waiting(style))
    assert progress(31.5, Style()) == "> 🏃 进度：31.5%\n\n"
    assert progress(31.5, Style(english=True)) == "> 🏃 Progress: 31.5%\n\n"


def test_a_style_is_read_from_the_words_of_the_prompt() -> None:
    style = Style.of(from_prompt("[[english]] [[choices]] [[link watch]] [[no-done]]", "api"))
    assert (style.english, style.choices, style.link, style.ending, style.usage) == (
        *(True, True, "watch", "no-done"),
        "none",
    )
    assert Style.of(from_prompt("a plain prompt", "api")) == Style()


def test_numbers_stand_only_where_clips_share_a_text() -> None:
    assert "视频生成成功" in success(CLIP, 1, Style())
    assert "视频 2 生成成功" in success(CLIP, 2, Style())
    assert "视频生成成功" in success(CLIP, 2, Style(choices=True))
    assert "视频生成成功" in success(CLIP, 2, Style(numbered=False))
    assert "Video 2 complete" in success(CLIP, 1, Style(english=True))
