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
    assert transcript.link_open
    assert transcript.feed("b.mp4) 查看") == []
    assert transcript.feed("\n") == ["https://cdn.example/ab.mp4"]
    assert not transcript.link_open


def test_what_may_begin_a_link_is_known_by_its_first_letters() -> None:
    begun = {}
    for text in ("x", "h", "✅ ht", "http", "https:/", "https://", "path"):
        transcript = Transcript(Asked([]))
        transcript.feed(text)
        begun[text] = transcript.link_begun
    assert begun == {
        "x": False,
        "h": True,
        "✅ ht": True,
        "http": True,
        "https:/": True,
        "https://": False,
        "path": True,
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"✅ [x]({U}", [U]),
        (f"✅ [x]({U}?Signature=s", [f"{U}?Signature=s"]),
        ("✅ [x](https://cdn.example/fl", []),
        (f"✅ [x]({U}) and https://cdn.exa", [U]),
        (f"[download video]({U}", [U]),
    ],
)
def test_of_a_line_that_was_cut_off_a_last_link_counts_if_its_name_is_whole(
    line: str, expected: list[str]
) -> None:
    transcript = Transcript(Asked([]))
    assert transcript.feed(line) + transcript.finish(complete=False) == expected


A, B = "https://cdn.example/a.mp4", "https://cdn.example/b.mp4"


@pytest.mark.parametrize(
    ("text", "clips"),
    [
        (f"[Watch]({A})\n[Download]({B})\n", 1),
        (f"[Download]({A}) [Watch]({B})\n", 1),
        (f"<video src='{A}'></video> [Download]({B})\n", 1),
        (f"[download video]({A})\n[download video]({B})\n", 2),
        (f"[Watch]({A}) [Download]({A}?d=1)\n[Watch]({B}) [Download]({B}?d=1)\n", 2),
        (f"✅ [1]({A}?id=1)\n✅ [2]({A}?id=2)\n", 2),
    ],
)
def test_a_link_to_watch_and_one_to_download_are_one_clip(text: str, clips: int) -> None:
    assert len(links(text)) == clips


@pytest.mark.parametrize("end", ["}```", "`````", "```> text", "~~~", "``` "])
def test_an_echo_ends_at_any_fence(end: str) -> None:
    assert links(f'```json\n{{"prompt": "x"\n{end}\n✅ [x]({U})\n') == [U]


def test_a_text_that_ends_inside_an_echo_says_so() -> None:
    transcript = Transcript(Asked([]))
    assert transcript.feed(f"```json\n✅ [x]({U})\n") == []
    assert transcript.echoing


def test_a_request_full_of_links_is_looked_through_in_bounded_time() -> None:
    prompt = " ".join(f"https://own.example/{i}.mp4" for i in range(30_000))
    asked = Asked([prompt])
    transcript = Transcript(asked)
    quoted = "".join(f"✅ https://own.example/{i}.mp4\n" for i in range(0, 30_000, 7))
    assert transcript.feed(quoted) == []
    assert not asked.exhausted
    others = "".join(f"✅ https://other.example/{i}.mp4\n" for i in range(500))
    assert len(transcript.feed(others)) == 100
    assert asked.exhausted


def test_numbered_failures_are_told_apart() -> None:
    transcript = Transcript(Asked([]))
    transcript.feed("❌ 视频 2 生成失败：x\n❌ failed\n")
    assert [failure.number for failure in transcript.failures] == [2, None]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (f"{U}?Expires=1&Signature=a", f"{U}?Expires=2&Signature=b", True),
        (f"{U}?X-Amz-Date=1", U, True),
        (f"{U}?id=1", f"{U}?id=2", False),
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


def test_a_failure_line_of_blanks_is_read_in_linear_time() -> None:
    transcript = Transcript(Asked([]))
    transcript.feed(("❌ video" + " " * 60_000 + "x\n") * 20)
    assert {failure.number for failure in transcript.failures} == {None}
