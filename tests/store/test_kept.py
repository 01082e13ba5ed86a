"""A name tells what is kept under it, and leads nowhere else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.store.kept import HEAD_BYTES, Kept, Kind, Stored, is_clip_id, looks_right, read_key
from tests.store.vaults import MAGIC, clip

SHA = "0123456789abcdef" * 4
IDS = st.from_regex(r"video_[a-z2-7]{26}", fullmatch=True)
SHAS = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)


@given(IDS, st.sampled_from(Kind), SHAS, st.integers(0, 2**40))
def test_a_key_is_read_as_it_was_made(clip_id: str, kind: Kind, sha: str, size: int) -> None:
    kept = Kept(clip_id, kind, sha, size)
    assert read_key(kept.key, size) == kept
    assert kept.key.count("/") == 1


@pytest.mark.parametrize(
    "key",
    [
        "",
        "video_a",
        f"video_a/clip-{SHA}",
        f"video_a/clip-{SHA}.mp4.corrupt",
        f"video_a/clip-{SHA}.webp",
        f"video_a/film-{SHA}.mp4",
        f"video_a/clip-{SHA[1:]}.mp4",
        f"video_a/clip-{SHA.upper()}.mp4",
        f"video_a/b/clip-{SHA}.mp4",
        f"../clip-{SHA}.mp4",
        f"/clip-{SHA}.mp4",
        f"clip-{SHA}.mp4",
        f"video_a/clip-{SHA}.mp4\n",
    ],
)
def test_a_name_that_is_none_of_ours_is_nothing_kept(key: str) -> None:
    assert read_key(key, 1) is None


@given(st.text(max_size=80))
def test_no_id_holds_a_path(text: str) -> None:
    if is_clip_id(text):
        assert not {"/", ".", "\\", "\x00", " ", "\n"} & set(text)


@pytest.mark.parametrize(
    ("clip_id", "sha"), [("../x", SHA), ("video_a", "x" * 64), ("video_a", "")]
)
def test_nothing_is_kept_under_such_a_name(clip_id: str, sha: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        Kept(clip_id, Kind.CLIP, sha, 1)


@pytest.mark.parametrize("kind", Kind)
def test_first_bytes_are_those_of_one_kind_alone(kind: Kind) -> None:
    for other in Kind:
        assert looks_right(kind, clip(HEAD_BYTES, other)) == (kind is other)
    assert not looks_right(kind, MAGIC[kind][:2])
    assert not looks_right(kind, b"<html><body>")


def test_each_kind_has_a_type_and_an_ending_of_its_own() -> None:
    assert {kind: (kind.suffix, kind.content_type) for kind in Kind} == {
        Kind.CLIP: ("mp4", "video/mp4"),
        Kind.THUMBNAIL: ("webp", "image/webp"),
        Kind.SPRITESHEET: ("jpg", "image/jpeg"),
    }


def test_a_listing_says_what_and_since_when() -> None:
    kept = Kept("video_a", Kind.CLIP, SHA, 1)
    assert Stored(kept, datetime(2026, 11, 1, tzinfo=UTC)).kept is kept
