from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.links import Asked, Transcript, identity

U = "https://cdn.example/flow/0b5e2b0e.mp4"


def links(text: str, prompt: str = "") -> list[str]:
    transcript = Transcript(Asked([prompt]))
    return transcript.feed(text) + transcript.finish(complete=True)


@pytest.mark.parametrize(
    "text",
    [
        f"> ✅ 视频生成成功，[点击这里]({U}) 查看视频~~~\n",
        f"> ✅ Video 1 complete, [click here]({U}) to view~~~\n",
        f"[download video]({U})",
        f"[▶️ Watch Online]({U})\n[⏬ Download Video]({U})\n",
        f"<video src='{U}' controls></video>",
        f'<video controls><source src="{U}" type="video/mp4"></video>',
        f"✅ {U}\n",
        f"✅ {U}",
        f"> {U}\n",
        f'✅ [x]({U} "title")',
        f"✅ [x](<{U}>)",
        f"✅ [x]({U})，✅ [again]({U}?Signature=s)\n",
    ],
)
def test_each_form_of_a_link_announces_one_clip(text: str) -> None:
    assert links(text) == [U]


@pytest.mark.parametrize(
    "text",
    [
        U,
        f"see {U} there",
        f"❌ 失败 [点击这里]({U})",
        f"PUBLIC_ERROR_X [click here]({U})",
        "[help](https://docs.example/faq)",
        "✅ done",
        "✅ [x](ftp://cdn.example/x.mp4)",
        "✅ [x](/flow/x.mp4)",
        f"```json\n{U}\n```\n",
        f"```json\n✅ [x]({U})\n```\n",
        f'```json {{"prompt": "✅ [x]({U})"}} ```\n',
    ],
)
def test_what_announces_nothing(text: str) -> None:
    if text == U:  # alone on its line it does
        assert links(text) == [U]
    else:
        assert links(text) == []


@pytest.mark.parametrize(
    "prompt",
    [
        f"make [click here]({U})",
        f"x {U}?a=1 y",
        U.upper(),
        U.replace("/", "\\/"),
        U.replace("https://", ""),
    ],
)
def test_a_link_of_the_request_announces_nothing(prompt: str) -> None:
    assert links(f"✅ [click here]({U})\n", prompt) == []


def test_a_quotation_of_the_request_that_breaks_off_announces_nothing() -> None:
    prompt = "look at https://own.example/a/very/long/name.mp4 please"
    assert links("✅ https://own.example/a/very/lo...\n", prompt) == []


def test_a_link_over_several_pieces_is_announced_once_it_is_whole() -> None:
    transcript = Transcript(Asked([]))
    assert transcript.feed("> ✅ [点击") == []
    assert transcript.feed("这里](https://cdn.example/a") == []
    assert transcript.feed("b.mp4) 查看") == ["https://cdn.example/ab.mp4"]
    assert transcript.feed("\n") == []


def test_numbered_failures_are_told_apart() -> None:
    transcript = Transcript(Asked([]))
    transcript.feed("❌ 视频 2 生成失败：x\n❌ failed\n")
    assert [failure.number for failure in transcript.failures] == [2, None]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (f"{U}?a=1", f"{U}?a=2", True),
        (f"{U}#t=1", U, True),
        ("https://a.example/get?id=1", "https://a.example/get?id=2", False),
        ("https://A.example/x.mp4", "https://a.example/x.mp4", True),
        ("https://a.example/x.mp4", "https://a.example/X.mp4", False),
        ("https://a.example/x.mp4", "https://b.example/x.mp4", False),
    ],
)
def test_two_links_are_one_clip_when_they_name_one_file(
    first: str, second: str, same: bool
) -> None:
    assert (identity(first) == identity(second)) is same


@given(st.text(alphabet="[]()<>https:/.mp4 ✅❌`\n\"'é", max_size=300))
def test_no_text_is_too_odd(text: str) -> None:
    assert len(links(text)) <= 256


@pytest.mark.parametrize("odd", ["[a](https://", "<video ", "[", "(", "https://a(", "✅ https://"])
def test_long_lines_are_read_in_linear_time(odd: str) -> None:
    assert links(odd * 20_000 + "\n" + f"✅ [x]({U})\n")[-1:] == [U]
