from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.wire import Piece, error_words, read_completion, read_frame
from tests.streams import chunk


def test_a_frame_gives_its_texts_by_choice() -> None:
    frame = read_frame(json.dumps(chunk("hello", choice=2)).encode())
    assert frame.pieces == (Piece(2, "hello"),)
    assert (frame.choices, frame.finished, frame.error) == (frozenset({2}), frozenset(), None)


def test_a_sparse_frame_is_read_by_position() -> None:
    frame = read_frame(b'{"choices":[{"delta":{"content":"a"}},{"delta":{"content":"b"}}]}')
    assert frame.pieces == (Piece(0, "a"), Piece(1, "b"))


def test_reasoning_is_kept_apart() -> None:
    frame = read_frame(json.dumps(chunk(reasoning="x")).encode())
    assert frame.pieces == (Piece(0, "x", reasoning=True),)


@pytest.mark.parametrize("data", [b"[DONE]", b" [DONE] "])
def test_done_is_done(data: bytes) -> None:
    assert read_frame(data).done


@pytest.mark.parametrize("data", [b'"[DONE]"', b'{"choices":[{"delta":{"content":"[DONE]"}}]}'])
def test_done_in_a_text_is_not_done(data: bytes) -> None:
    assert not read_frame(data).done


@pytest.mark.parametrize(
    "data",
    [
        b'{"choices":[{"delta":{"content":"a \\u4f60"}}]]}',
        b'{"choices":[{"delta":{"content":"a \\u4f60',
        b'{"choices":[{"delta":{"content":"a \\u4f60\\u4',
        b'{"choices":[{"delta":{"content":"a \\u4f60\\',
    ],
)
def test_a_broken_frame_gives_what_text_can_be_made_out(data: bytes) -> None:
    assert read_frame(data).pieces == (Piece(0, "a 你"),)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "no", "type": "shell_api_error", "code": "x"}}, "x no"),
        ({"error": "Content policy violation"}, "Content policy violation"),
        ({"code": "fail_to_fetch_task", "message": '{"error":{"message":"deep"}}'}, "deep"),
        ({"detail": "gone"}, "gone"),
        ({"error": {"code": 429, "message": "slow"}}, "slow"),
        ({"error": {"message": ""}}, ""),
        ({"fail_reason": "PUBLIC_ERROR_X"}, "PUBLIC_ERROR_X"),
    ],
    ids=repr,
)
def test_an_errors_words_are_found_in_every_envelope(body: object, words: str) -> None:
    assert words in error_words(body)


def test_an_error_frame_without_words_is_an_error() -> None:
    assert read_frame(b'{"error":{"message":""}}').error == "error"


def test_a_usage_frame_is_no_error() -> None:
    frame = read_frame(b'{"choices":[],"usage":{"total_tokens":3}}')
    assert (frame.error, frame.pieces) == (None, ())


def test_a_completion_gives_its_messages() -> None:
    body = {"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}
    frame = read_completion(json.dumps(body).encode())
    assert frame is not None
    assert (frame.pieces, frame.finished) == ((Piece(0, "hi"),), frozenset({0}))


def test_content_in_parts_is_read() -> None:
    body = {"choices": [{"message": {"content": [{"type": "text", "text": "hi"}, "there"]}}]}
    frame = read_completion(json.dumps(body).encode())
    assert frame is not None
    assert [piece.text for piece in frame.pieces] == ["hi", "there"]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'"x"', b'{"a":'])
def test_what_is_no_object_is_no_completion(body: bytes) -> None:
    assert read_completion(body) is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "delta", "message", "content", "index", "error", "code"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_JSON)
def test_any_json_is_read(value: object) -> None:
    data = json.dumps(value).encode()
    frame = read_frame(data)
    assert all(isinstance(piece.text, str) for piece in frame.pieces)
    assert (read_completion(data) is None) == (not isinstance(value, dict))


@given(st.binary(max_size=200))
def test_any_bytes_are_read(data: bytes) -> None:
    assert read_frame(data).done == (data.strip() == b"[DONE]")


def test_json_nested_without_end_is_read() -> None:
    assert read_frame(b'{"a":' * 100_000).pieces == ()
