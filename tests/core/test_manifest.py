"""A closed month's manifest vouches for every byte of it, and for the months before."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.export import Totals
from proxy.core.manifest import (
    Manifest,
    Seal,
    chain_problems,
    digest,
    problems,
    read_manifest,
    sealed,
)
from tests.exports import clip_row

TOTALS = Totals()
TOTALS.add(clip_row(1))

OCTOBER = Manifest(
    month="2026-10",
    closed_at=datetime(2026, 11, 4, tzinfo=UTC),
    closed_by="key_7",
    program="0.1.0",
    totals=TOTALS.as_json(),
    files=(Seal("b.csv", 3, digest(b"abc")), Seal("a.jsonl", 0, digest(b""))),
    settings={"issuer": "Clipmeter"},
)
NOVEMBER = replace(OCTOBER, month="2026-11", previous=digest(OCTOBER.as_bytes()))


def test_a_manifest_is_read_back_as_it_was_written() -> None:
    read = read_manifest(NOVEMBER.as_bytes())
    assert read.as_bytes() == NOVEMBER.as_bytes()
    assert read == replace(NOVEMBER, files=tuple(reversed(NOVEMBER.files)))


def test_a_manifest_has_one_spelling() -> None:
    said = orjson.loads(OCTOBER.as_bytes())
    assert list(said) == sorted(said)
    assert [file["name"] for file in said["files"]] == ["a.jsonl", "b.csv"]
    assert OCTOBER.as_bytes() == replace(OCTOBER, files=OCTOBER.files[::-1]).as_bytes()


def test_a_manifest_of_a_sandbox_says_so() -> None:
    marked = replace(OCTOBER, sandbox=True)
    assert orjson.loads(marked.as_bytes())["sandbox"] == "SANDBOX"
    assert read_manifest(marked.as_bytes()).sandbox


@given(st.lists(st.binary(max_size=40)))
def test_a_seal_is_that_of_the_whole_file_in_any_pieces(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    assert sealed("x", chunks) == Seal("x", len(whole), hashlib.sha256(whole).hexdigest())


@given(st.integers(0, len(OCTOBER.as_bytes()) - 1), st.integers(1, 255))
def test_no_byte_of_a_manifest_can_change_unseen(at: int, by: int) -> None:
    content = bytearray(OCTOBER.as_bytes())
    content[at] ^= by
    assert list(chain_problems([bytes(content), NOVEMBER.as_bytes()])) != []


@given(st.binary() | st.text().map(str.encode) | st.just(b"{}") | st.just(b'{"month": 1}'))
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="manifest"):
        read_manifest(content)


def test_a_month_that_is_as_it_was_closed_has_no_problems() -> None:
    assert list(problems(OCTOBER, OCTOBER.files, TOTALS.as_json())) == []


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (OCTOBER.files[:1], "a.jsonl is missing"),
        ((*OCTOBER.files, Seal("c.csv", 1, "")), "c.csv is not in the manifest"),
        ((OCTOBER.files[0], Seal("a.jsonl", 0, "0" * 64)), "a.jsonl has changed"),
        ((OCTOBER.files[0], Seal("a.jsonl", 9, digest(b""))), "a.jsonl has changed: 9 bytes"),
    ],
)
def test_a_changed_file_is_named(files: tuple[Seal, ...], words: str) -> None:
    (problem,) = problems(OCTOBER, files, TOTALS.as_json())
    assert words in problem


def test_a_changed_sum_is_named() -> None:
    changed = Totals()
    changed.add(clip_row(1, amount_micros=1))
    told = list(problems(OCTOBER, OCTOBER.files, changed.as_json()))
    assert told == [
        "2026-10: amount_micros is 1 in the ledger, and was closed with 150000",
        "2026-10: amount_usd is 0.000001 in the ledger, and was closed with 0.15",
    ]


def test_a_whole_chain_has_no_problems() -> None:
    assert list(chain_problems([])) == []
    assert list(chain_problems([OCTOBER.as_bytes(), NOVEMBER.as_bytes()])) == []


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ([NOVEMBER], "the month before it is missing"),
        ([OCTOBER, replace(NOVEMBER, month="2026-12")], "2026-12 does not follow 2026-10"),
        ([replace(OCTOBER, closed_by="x"), NOVEMBER], "vouches for another manifest of 2026-10"),
        ([OCTOBER, replace(NOVEMBER, previous=None)], "vouches for another manifest of 2026-10"),
    ],
)
def test_a_broken_chain_is_told(chain: list[Manifest], words: str) -> None:
    (problem,) = chain_problems([manifest.as_bytes() for manifest in chain])
    assert words in problem
