"""Events as bytes, with and without noise."""

from __future__ import annotations

from itertools import product

import pytest

from proxy.sandbox.faults import from_prompt
from proxy.sandbox.frames import Framing
from tests.sandbox.dialling import Answer


def test_a_plain_event_is_one_data_line_and_a_blank_one() -> None:
    framing = Framing()
    assert framing.frame("{}") + framing.frame("[DONE]") == b"data: {}\n\ndata: [DONE]\n\n"


@pytest.mark.parametrize("noise", list(product((False, True), repeat=5)), ids=str)
def test_noise_does_not_change_the_payloads(noise: tuple[bool, ...]) -> None:
    crlf, bom, ids, ping, no_space = noise
    framing = Framing(crlf=crlf, bom=bom, ids=ids, ping=ping, no_space=no_space)
    payloads = ['{"a":"é画"}', "[DONE]", "third"]
    sent = b"".join(framing.frame(payload) for payload in payloads)
    assert Answer(200, {}, sent, "whole").payloads == payloads
    assert sent.startswith(b"\xef\xbb\xbf") is bom
    assert (b"\r\n\r\n" in sent) is crlf
    assert (b"id: 2" in sent) is ids
    assert (b": PING" in sent) is ping


def test_the_noise_is_read_from_the_words_of_the_prompt() -> None:
    assert Framing.of(from_prompt("[[crlf]] [[bom]]", "b")) == Framing(crlf=True, bom=True)
    every = from_prompt("[[ids]] [[ping]] [[no-space]]", "b")
    assert Framing.of(every) == Framing(ids=True, ping=True, no_space=True)
