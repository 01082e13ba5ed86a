"""Starting the sandbox, alone or for a program, and what it tells a person."""

from __future__ import annotations

import asyncio
import socket

import pytest

from proxy.sandbox import Product, Sandbox, describe, serve
from tests.sandbox.dialling import ask, chat, until


def three_free_ports() -> int:
    """A port whose next two are free as well, as far as anybody can know."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        try:
            for offset in range(3):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port + offset))
        except OSError:
            continue
        return port


def test_the_gateways_stand_on_three_ports_in_a_row() -> None:
    async def run() -> None:
        port = three_free_ports()
        async with Sandbox.start(port=port) as sandbox:
            assert sandbox.urls == {
                name: f"http://127.0.0.1:{port + offset}"
                for offset, name in enumerate(("api", "vip", "b"))
            }
            assert sandbox.control_url == f"http://127.0.0.1:{port}/sandbox"
            assert sandbox.api_key.startswith("sk-sandbox")

    asyncio.run(run())


def test_a_taken_port_is_an_error_and_nothing_stays_open() -> None:
    async def run() -> None:
        port = three_free_ports()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", port + 1))
            taken.listen()
            with pytest.raises(OSError, match=r"in use"):
                async with Sandbox.start(port=port):
                    pass
        async with Sandbox.start(port=port) as sandbox:
            assert (await ask(f"{sandbox.urls['api']}/v1/models")).status == 200

    asyncio.run(run())


def test_more_models_can_be_on_sale() -> None:
    async def run() -> None:
        wide = Product("veo-3.1-4k", 600_000, 3840, 2160)
        async with Sandbox.start(speed=100_000, products={wide.name: wide}) as sandbox:
            assert len((await chat(sandbox, "x", model="veo-3.1-4k", n=2)).links()) == 2
            assert sandbox.bill().micros == 1_200_000
            assert (await chat(sandbox, "x", model="veo-3.1")).status == 400

    asyncio.run(run())


def test_serving_tells_where_it_is_and_runs_until_cancelled() -> None:
    async def run() -> None:
        told: list[str] = []
        port = three_free_ports()
        serving = asyncio.create_task(serve(port=port, speed=1000, announce=told.append))

        async def announced() -> bool:
            return bool(told)

        await until(announced)
        for offset in range(3):
            assert f"http://127.0.0.1:{port + offset}/v1" in told[0]
            assert (await ask(f"http://127.0.0.1:{port + offset}/sandbox")).status == 200
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        with pytest.raises(ConnectionRefusedError):
            await ask(f"http://127.0.0.1:{port}/sandbox")

    asyncio.run(run())


def test_the_description_can_be_followed() -> None:
    text = describe({"api": "http://127.0.0.1:1", "vip": "http://127.0.0.1:2"})
    assert "curl -N http://127.0.0.1:1/v1/chat/completions" in text
    assert "http://127.0.0.1:1/sandbox/bill" in text
    assert "Bearer sk-sandbox" in text


def test_a_speed_of_nothing_is_refused() -> None:
    async def run() -> None:
        with pytest.raises(ValueError, match="speed"):
            async with Sandbox.start(speed=0):
                pass

    asyncio.run(run())
