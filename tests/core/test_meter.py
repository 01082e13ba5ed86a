from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.failure import Reason
from proxy.core.links import Asked
from proxy.core.meter import Meter, Verdict
from tests.streams import CDN, DONE, HOSTILE, Stream, chunk, cut, frame, mutated, recorded, success

STREAMS = list(mutated())


def metered(
    chunks: list[bytes], clips: int = 1, prompt: str = HOSTILE, *, complete: bool = True
) -> tuple[list[str], Verdict, bytes]:
    """The links of an answer, its verdict, and the bytes passed on."""
    meter = Meter(clips, Asked([prompt]), streamed=True, event_bytes_max=1 << 22)
    links: list[str] = []
    passed = b""
    for part in chunks:
        reading = meter.feed(part)
        links += reading.links
        passed += reading.passed
    verdict = meter.finish(complete=complete)
    whole = replace(verdict, links=(), passed=b"")
    return links + list(verdict.links), whole, passed + verdict.passed


def test_there_are_at_least_200_streams() -> None:
    assert len(STREAMS) >= 200


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_an_answer_proves_what_it_proves_under_any_chunking(stream: Stream) -> None:
    whole = metered([stream.body], stream.clips)
    links, verdict, passed = whole
    assert len(links) == stream.delivered
    assert verdict.told is stream.told
    missing = stream.clips - stream.delivered
    assert (verdict.failed, verdict.lost) == ((missing, 0) if stream.told else (0, missing)) or (
        verdict.failed + verdict.lost == missing and not stream.told
    )
    assert passed == stream.body
    seeds = range(1, 4) if len(stream.body) > 100_000 else range(4)
    for seed in seeds:
        assert metered(cut(stream.body, seed), stream.clips) == whole


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6), st.booleans())
def test_no_bytes_make_the_meter_raise_and_all_of_them_go_on(
    noise: bytes, cuts: list[int], complete: bool
) -> None:
    points = [0, *sorted(cuts), len(noise)]
    parts = [noise[start:end] for start, end in pairwise(points)]
    _, verdict, passed = metered(parts, 4, complete=complete)
    assert passed == b"".join(parts)
    assert verdict.failed + verdict.lost <= 4


_TOKENS = st.sampled_from(
    [
        b"data: ",
        b"\n\n",
        b"\n",
        b"\r",
        b"[DONE]",
        b'{"choices":[',
        b'{"delta":{"content":"',
        b'"}}]}',
        "✅ ".encode(),
        b"[x](https://a.example/1.mp4)",
        b"http",
        b"\\u0068",
        b"\\n",
        b": c\n",
        b"\xef\xbb\xbf",
        b"{",
        b"```json\\n",
        b'"finish_reason":"stop"',
        b"<video src='https://a.example/2.mp4'>",
    ]
)


@given(st.lists(_TOKENS, max_size=40), st.integers(0, 1000))
def test_any_chunking_of_near_streams_gives_the_same_verdict(
    tokens: list[bytes], seed: int
) -> None:
    body = b"".join(tokens)
    assert metered(cut(body, seed), 2) == metered([body], 2)


@pytest.mark.parametrize(
    "stream", [one for one in recorded() if len(one.body) < 50_000], ids=lambda stream: stream.name
)
def test_no_byte_that_completes_a_link_goes_on_before_its_clip_is_told(stream: Stream) -> None:
    meter = Meter(stream.clips, Asked([HOSTILE]), streamed=True, event_bytes_max=1 << 22)
    told, passed = 0, b""
    for position in range(len(stream.body)):
        reading = meter.feed(stream.body[position : position + 1])
        passed += reading.passed
        told += len(reading.links)
        announced = sum(
            f"{CDN}/{name}".encode() in passed
            for name in ("clip-1.mp4", "clip-2.mp4", "en-1.mp4", "choice-0.mp4")
        )
        assert announced <= told or told == stream.clips


def test_the_first_bytes_of_an_event_go_on_at_once() -> None:
    meter = Meter(1, Asked([]), streamed=True, event_bytes_max=1 << 20)
    assert meter.feed(b'data: {"id":"x","c').passed == b'data: {"id":"x","c'
    assert meter.feed(b"oices").passed == b"oices"


def test_what_may_begin_a_link_waits_only_until_it_is_none() -> None:
    meter = Meter(1, Asked([]), streamed=True, event_bytes_max=1 << 20)
    assert meter.feed(b"data: {h").passed == b"data: {"
    assert meter.feed(b"ello").passed == b"hello"


def test_a_stream_cut_inside_its_success_frame_counts_the_whole_link_and_no_half_one() -> None:
    body = frame(chunk(success(1)))
    end_of_link = body.index(b".mp4") + len(b".mp4")
    for position in range(len(body)):
        links, verdict, passed = metered([body[:position]], complete=False)
        assert passed == body[:position]
        assert len(links) == (1 if position >= end_of_link else 0), body[:position]
        assert verdict.lost == 1 - len(links)


def test_every_prefix_without_its_link_is_unbilled_and_unknown() -> None:
    body = frame(chunk("> 🏃 进度：45.9%\n\n")) * 3
    for position in range(len(body)):
        links, verdict, _ = metered([body[:position]], complete=False)
        assert (links, verdict.lost) == ([], 1)


def test_a_reason_comes_from_the_vendors_words() -> None:
    _, verdict, _ = metered([frame(chunk("❌ PUBLIC_ERROR_AUDIO_FILTERED\n")) + DONE])
    assert verdict.reason is Reason.POLICY_AUDIO
    assert "PUBLIC_ERROR_AUDIO_FILTERED" in verdict.words


def test_a_told_end_without_words_says_no_clip() -> None:
    assert metered([DONE])[1].reason is Reason.NO_CLIP


def test_progress_never_goes_back() -> None:
    meter = Meter(1, Asked([]), streamed=True, event_bytes_max=1 << 20)
    seen = []
    for percent in ("9.0", "45.9", "31.5", "900"):
        meter.feed(frame(chunk(f"> 🏃 Progress: {percent}%\n\n")))
        seen.append(meter.percent)
    assert seen == [9.0, 45.9, 45.9, 100.0]


def test_links_beyond_those_asked_for_are_counted_and_not_billed() -> None:
    links, verdict, _ = metered([b"".join(frame(chunk(success(i, n=5))) for i in range(1, 6))], 4)
    assert (len(links), verdict.surplus) == (4, 1)


def test_an_event_too_long_to_read_is_passed_on_and_leaves_its_clip_unknown() -> None:
    meter = Meter(1, Asked([]), streamed=True, event_bytes_max=1000)
    body = frame(chunk("x" * 3000 + success(1))) + DONE
    passed = b"".join(meter.feed(part).passed for part in cut(body, 3))
    verdict = meter.finish(complete=True)
    assert passed + verdict.passed == body
    assert (verdict.failed, verdict.lost) == (0, 1)


def test_a_truncated_json_body_is_unknown() -> None:
    meter = Meter(1, Asked([]), streamed=False, event_bytes_max=1000)
    assert meter.feed(b'{"choices":[{"message":{"content":"https://a').passed == b""
    assert meter.finish(complete=False).lost == 1


SPLITS = {
    "a link over two deltas": [f"> ✅ [点击这里]({CDN}/fl", "at.mp4) 查看\n"],
    "an unmarked link over two deltas": [f"[download video]({CDN}/flat.mp4", ")\n"],
    "a signed link over two deltas": [f"> ✅ {CDN}/flat.mp4", "?Signature=abc\n"],
    "a scheme over two deltas": ["> ✅ [x](ht", f"{CDN[2:]}/flat.mp4)\n"],
    "a link whose line ends with the answer": [f"[download video]({CDN}/flat.mp4)"],
}


@pytest.mark.parametrize("deltas", SPLITS.values(), ids=SPLITS.keys())
def test_a_link_in_pieces_is_passed_on_only_once_its_clip_is_told(deltas: list[str]) -> None:
    body = b"".join(frame(chunk(delta)) for delta in deltas) + frame(chunk(finish="stop")) + DONE
    meter = Meter(1, Asked([]), streamed=True, event_bytes_max=1 << 20)
    seen, told = b"", 0
    for position in range(len(body)):
        reading = meter.feed(body[position : position + 1])
        told += len(reading.links)
        seen += reading.passed
        assert told or b"flat.mp4" not in seen
    assert told == 1
    assert seen + meter.finish(complete=True).passed == body


def test_a_signed_link_keeps_its_signature() -> None:
    body = b"".join(frame(chunk(delta)) for delta in SPLITS["a signed link over two deltas"])
    assert metered([body + DONE])[0] == [f"{CDN}/flat.mp4?Signature=abc"]


@pytest.mark.parametrize("start", [b": PING\n\n", b"\n\n", b"event: x\n\n: y\n\n"])
def test_json_after_the_noise_of_a_stream_is_read_and_held(start: bytes) -> None:
    answer = {"choices": [{"message": {"content": success(1)}, "finish_reason": "stop"}]}
    body = start + json.dumps(answer, indent=1).encode()
    for seed in range(5):
        links, verdict, passed = metered(cut(body, seed))
        assert (len(links), verdict.told, passed) == (1, True, body)
    meter = Meter(1, Asked([]), streamed=True, event_bytes_max=1 << 20)
    assert meter.feed(body).passed == start
    assert metered([start + b'{"error":{"message":"no"}}'])[1].failed == 1


def test_a_choice_that_finished_says_nothing_of_choices_that_never_appeared() -> None:
    body = frame(chunk(success(1), choice=0)) + frame(chunk(choice=0, finish="stop"))
    assert metered([body], 2, complete=False)[1].lost == 1
    assert metered([body], 2, complete=True)[1].failed == 1
    assert metered([body + DONE], 2, complete=False)[1].failed == 1


def test_an_answer_that_ends_inside_the_echo_is_in_doubt() -> None:
    body = frame(chunk(f"```json\n{{\n✅ [x]({CDN}/a.mp4)\n")) + DONE
    links, verdict, _ = metered([body])
    assert (links, verdict.lost) == ([], 1)


def test_half_a_character_and_nothing_at_all_are_no_words_for_a_database() -> None:
    body = b'data: {"choices":[{"delta":{"content":"\\u274c failed \\ud83d \\u0000\\n"}}]}\n\n'
    _, verdict, passed = metered([body])
    assert passed == body
    assert "failed" in verdict.words
    assert "\0" not in verdict.words
    assert verdict.words.encode().decode() == verdict.words


def test_a_comment_may_stand_between_events_and_not_inside_one() -> None:
    meter = Meter(1, Asked([]), streamed=True, event_bytes_max=1 << 20)
    between = []
    for line in (b": x\n", b"\n", b"event: error\n", b"data: {}\n", b"\n"):
        meter.feed(line)
        between.append(meter.between_events)
    assert between == [True, True, False, False, True]


def test_a_hundred_thousand_empty_lines_are_read_in_linear_time() -> None:
    meter = Meter(1, Asked([]), streamed=True, event_bytes_max=1 << 20)
    assert all(meter.feed(b"\n").passed == b"\n" for _ in range(100_000))


def test_a_line_that_never_ends_is_read_in_linear_time() -> None:
    piece = frame(chunk("x" * 20))
    meter = Meter(1, Asked([]), streamed=True, event_bytes_max=1 << 20)
    meter.feed(frame(chunk(f"see https://own.example/{'y' * 60_000} ")))
    for _ in range(4_000):
        meter.feed(piece)
    assert meter.finish(complete=True).lost == 1
