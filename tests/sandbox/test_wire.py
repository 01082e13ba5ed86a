"""Exactly so many bytes, and then exactly that end."""

from __future__ import annotations

import asyncio
import zlib

import pytest

from tests.sandbox.dialling import Answer, ask, chat, running


@pytest.mark.parametrize(("word", "end"), [("cut", "cut"), ("reset-at", "reset")])
@pytest.mark.parametrize("framing", ["", "[[one-byte]]", "[[stall 0 9]]"], ids=["", "one", "stall"])
def test_an_answer_ends_after_any_number_of_bytes(word: str, end: str, framing: str) -> None:
    async def run() -> None:
        async with running() as sandbox:
            whole = len((await chat(sandbox, "[[english]]")).body)
            for place in (*range(12), *range(100, whole - 8, 97)):
                answer = await chat(sandbox, f"[[english]] [[{word} {place}]] {framing}")
                assert (answer.end, len(answer.body)) == (end, place)

    asyncio.run(run())


def test_a_cut_beyond_the_end_is_no_cut() -> None:
    async def run() -> Answer:
        async with running() as sandbox:
            return await chat(sandbox, "[[cut 1000000]]")

    assert asyncio.run(run()).end == "whole"


def test_a_cut_at_the_very_end_leaves_the_last_chunk_out() -> None:
    async def run() -> list[Answer]:
        async with running() as sandbox:
            whole = len((await chat(sandbox, "[[english]]")).body)
            # Percents of one or two digits make bodies of slightly different lengths.
            return [await chat(sandbox, f"[[english]] [[cut {whole}]]") for _ in range(30)]

    fitting = [one for one in asyncio.run(run()) if one.body.endswith(b"[DONE]\n\n")]
    assert "cut" in {answer.end for answer in fitting}


def test_a_body_with_a_length_can_be_cut() -> None:
    async def run() -> Answer:
        async with running() as sandbox:
            return await chat(sandbox, "[[status 502]] [[cut 10]]")

    answer = asyncio.run(run())
    assert (answer.status, answer.end, len(answer.body)) == (502, "cut", 10)
    assert int(answer.headers["content-length"]) > 10


def test_compressed_events_can_be_read_as_they_come() -> None:
    async def run() -> Answer:
        async with running() as sandbox:
            return await chat(sandbox, "[[gzip]] [[cut 400]]")

    inflated = zlib.decompressobj(wbits=31).decompress(asyncio.run(run()).body)
    assert inflated.startswith(b"data: {")


def test_close_delimited_bodies_have_no_length_even_when_it_is_known() -> None:
    async def run() -> Answer:
        async with running() as sandbox:
            await sandbox.put(fault="close-delimited", on="models")
            return await ask(f"{sandbox.urls['api']}/v1/models")

    answer = asyncio.run(run())
    assert "content-length" not in answer.headers
    assert answer.data["object"] == "list"
