"""Clips are rendered when somebody asks, once, while the gateways stay awake."""

from __future__ import annotations

import asyncio
import time

from proxy.sandbox import Sandbox
from proxy.sandbox.card import Card
from tests.sandbox.dialling import ask, chat, running


def test_a_clip_asked_for_by_many_at_once_is_filmed_once() -> None:
    filmed = []

    def filming(card: Card) -> bytes:
        filmed.append(card.clip_id)
        return b"film"

    async def run() -> None:
        async with Sandbox.start(speed=100_000, renderer=filming) as sandbox:
            url = (await chat(sandbox, "x")).links()[0]
            answers = await asyncio.gather(*(ask(url) for _ in range(5)))
            assert {answer.body for answer in answers} == {b"film"}

    asyncio.run(run())
    assert len(filmed) == 1


def test_a_slow_rendering_keeps_nobody_else_waiting() -> None:
    def filming(card: Card) -> bytes:
        time.sleep(0.5)
        return card.clip_id.encode()

    async def run() -> None:
        async with Sandbox.start(speed=100_000, renderer=filming) as sandbox:
            url = (await chat(sandbox, "x")).links()[0]
            film = asyncio.create_task(ask(url))
            answers = [await chat(sandbox, f"{number}") for number in range(5)]
            assert not film.done()
            assert all(len(answer.links()) == 1 for answer in answers)
            assert (await film).status == 200

    asyncio.run(run())


def test_a_card_says_what_was_asked_for() -> None:
    cards: list[Card] = []

    def filming(card: Card) -> bytes:
        cards.append(card)
        return b""

    async def run() -> None:
        async with Sandbox.start(speed=100_000, renderer=filming) as sandbox:
            answer = await chat(sandbox, "a boat", model="veo-3.1-landscape", n=2)
            for url in answer.links():
                await ask(url)

    asyncio.run(run())
    assert [(card.model, card.prompt, card.notes) for card in cards] == [
        ("veo-3.1-landscape", "a boat", "8 s   1280x720   clip 1 of 2"),
        ("veo-3.1-landscape", "a boat", "8 s   1280x720   clip 2 of 2"),
    ]
    assert (cards[0].width, cards[0].height) == (1280, 720)
    assert cards[0].clip_id != cards[1].clip_id


def test_the_oldest_films_are_forgotten_and_made_again() -> None:
    async def run() -> None:
        async with running() as sandbox:
            links = []
            for _ in range(17):
                links += (await chat(sandbox, "x", n=4)).links()
            films = [(await ask(url)).body for url in links]
            assert len(set(films)) == len(links) == 68
            assert (await ask(links[0])).body == films[0]

    asyncio.run(run())
