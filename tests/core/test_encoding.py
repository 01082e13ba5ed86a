from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.encoding import Decoder
from tests.streams import chinese, cut

BODY = chinese(4)


@pytest.mark.parametrize("encoding", [None, "", "identity", "Identity"])
def test_what_is_not_encoded_passes_as_it_is(encoding: str | None) -> None:
    decoder = Decoder(encoding, 10)
    assert decoder.plain
    assert b"".join(decoder.feed(part) for part in cut(BODY, 3)) == BODY


@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [
        ("gzip", gzip.compress(BODY)),
        ("X-GZIP", gzip.compress(BODY)),
        ("deflate", zlib.compress(BODY)),
    ],
)
def test_an_encoded_answer_is_read_under_any_chunking(encoding: str, encoded: bytes) -> None:
    for seed in range(5):
        decoder = Decoder(encoding, 1 << 20)
        assert not decoder.plain
        assert b"".join(decoder.feed(part) for part in cut(encoded, seed)) == BODY
        assert not decoder.broken


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "nonsense"])
def test_an_encoding_that_cannot_be_read_says_so(encoding: str) -> None:
    decoder = Decoder(encoding, 1 << 20)
    assert (decoder.broken, decoder.plain, decoder.feed(BODY)) == (True, False, b"")


def test_a_bomb_is_not_unfolded() -> None:
    decoder = Decoder("gzip", 1000)
    parts = cut(gzip.compress(b"\0" * 50_000_000), 3)
    assert sum(len(decoder.feed(part)) for part in parts) == 1000
    assert decoder.broken


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate"]))
def test_no_bytes_are_too_odd(noise: bytes, encoding: str) -> None:
    decoder = Decoder(encoding, 1000)
    decoder.feed(noise)
    assert len(decoder.feed(noise)) <= 1000
