"""An answer made afresh reads like the vendor's own."""

from __future__ import annotations

import json

import pytest

from proxy.core.links import Asked
from proxy.core.meter import Meter
from proxy.core.retelling import Retelling

LINKS = [f"https://us.example/v1/videos/video_{n}/content?expires=1&token=ab" for n in range(4)]


def told(*links: str | None) -> Retelling:
    return Retelling("chatcmpl-1", "veo-3.1-fast", 1_700_000_000, links)


@pytest.mark.parametrize("made", [1, 2, 4])
@pytest.mark.parametrize("failed", [0, 1, 3])
@pytest.mark.parametrize("streamed", [True, False])
def test_it_announces_each_clip_once_and_tells_of_each_that_failed(
    made: int, failed: int, streamed: bool
) -> None:
    retelling = told(*LINKS[:made], *[None] * failed)
    body = retelling.stream() if streamed else retelling.completion()
    meter = Meter(made + failed, Asked(()), streamed=streamed, event_bytes_max=100_000)
    links = meter.feed(body).links
    verdict = meter.finish(complete=True)
    assert [*links, *verdict.links] == LINKS[:made]
    assert (verdict.told, verdict.failed, verdict.lost) == (True, failed, 0)


def test_a_stream_is_made_of_chunks_as_the_vendor_makes_them() -> None:
    *events, last, nothing = told(LINKS[0]).stream().decode().split("\n\n")
    assert (last, nothing) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    for chunk in chunks:
        assert chunk["object"] == "chat.completion.chunk"
        assert (chunk["id"], chunk["model"]) == ("chatcmpl-1", "veo-3.1-fast")
        assert (chunk["created"], chunk["choices"][0]["index"]) == (1_700_000_000, 0)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    line = f"> ✅ Video 1 complete, [click here]({LINKS[0]}) to view~~~\n\n"
    assert deltas == [{"role": "assistant"}, {"content": line}, {}]
    ends = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert ends == [None, None, "stop"]


def test_a_whole_answer_has_the_same_text_in_one_message() -> None:
    body = json.loads(told(LINKS[0], None).completion())
    (choice,) = body["choices"]
    assert body["object"] == "chat.completion"
    assert choice["finish_reason"] == "stop"
    lines = choice["message"]["content"].split("\n\n")
    assert lines[0].startswith("> ✅ Video 1 complete, [click here](https://us.example/")
    assert lines[1:] == ["> ❌ Video 2 failed", ""]
