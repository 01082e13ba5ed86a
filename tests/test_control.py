"""The control socket: one command a connection, the same answers as without a server."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy import control
from proxy.control import SOCKET_NAME, call, run, serve_control
from proxy.flows.operator import CommandError
from tests.operators import Desk
from tests.operators import desk as open_desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_desk(tmp_path) as opened:
        yield opened


def served(desk: Desk, folder: Path, ask: Callable[[], Awaitable[None]]) -> None:
    async def story() -> None:
        async with serve_control(desk.operator, folder):
            await ask()

    asyncio.run(story())


def raw(folder: Path, line: bytes) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(folder / SOCKET_NAME))
        asking.sendall(line)
        asking.shutdown(socket.SHUT_WR)
        said = b""
        while part := asking.recv(65_536):
            said += part
    answer: dict[str, Any] = json.loads(said)
    return answer


def test_a_command_is_done_by_the_server_and_answered(desk: Desk, tmp_path: Path) -> None:
    async def ask() -> None:
        added = await asyncio.to_thread(call, tmp_path, "tenant add", {"name": "ads"})
        assert added["name"] == "ads"
        listed = await asyncio.to_thread(call, tmp_path, "tenant list", {})
        assert listed == [added] == await run(desk.operator, "tenant list", {})

    served(desk, tmp_path, ask)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("tenant set", {"name": "nobody", "terms": {"clips_per_month": 1}}),
        ("tenant add", {"name": "Ads"}),
        ("tenant fly", {}),
        ("tenant add", {"nom": "ads"}),
        ("usage", {"month": "never"}),
    ],
)
def test_a_refusal_has_the_same_words_through_the_socket(
    desk: Desk, tmp_path: Path, command: str, arguments: dict[str, Any]
) -> None:
    async def ask() -> None:
        with pytest.raises(CommandError) as here:
            await run(desk.operator, command, arguments)
        with pytest.raises(CommandError) as there:
            await asyncio.to_thread(call, tmp_path, command, arguments)
        assert str(there.value) == str(here.value)

    served(desk, tmp_path, ask)


def test_a_ledger_that_is_away_is_said_so(desk: Desk, tmp_path: Path) -> None:
    async def ask() -> None:
        desk.operator.database.close()
        with pytest.raises(CommandError, match="the ledger cannot be used just now"):
            await asyncio.to_thread(call, tmp_path, "tenant add", {"name": "ads"})

    served(desk, tmp_path, ask)


def test_only_the_owner_may_connect_and_nothing_is_left_behind(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / SOCKET_NAME

    async def ask() -> None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    served(desk, tmp_path, ask)
    assert not path.exists()


def test_a_dead_servers_socket_is_replaced(desk: Desk, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET_NAME))
    with pytest.raises(CommandError, match="does not answer on its control socket"):
        call(tmp_path, "tenant list", {})

    async def ask() -> None:
        assert await asyncio.to_thread(call, tmp_path, "tenant list", {}) == []

    served(desk, tmp_path, ask)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"tenant list\n",
        b"[]\n",
        b'{"command": "tenant list"}\n',
        b'"x"\n',
        b"\xff\xfe\n",
        b"x" * (control.REQUEST_BYTES_MAX + 1) + b"\n",
    ],
)
def test_what_is_no_command_is_refused_and_the_server_goes_on(
    desk: Desk, tmp_path: Path, line: bytes
) -> None:
    async def ask() -> None:
        refused = await asyncio.to_thread(raw, tmp_path, line)
        assert "one line of JSON" in refused["error"]
        assert await asyncio.to_thread(call, tmp_path, "tenant list", {}) == []

    served(desk, tmp_path, ask)


def test_a_caller_who_says_nothing_is_let_go(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "REQUEST_SECONDS_MAX", 0.05)

    async def ask() -> None:
        reader, writer = await asyncio.open_unix_connection(tmp_path / SOCKET_NAME)
        assert json.loads(await reader.read()) == {"error": "no command came"}
        writer.close()

    served(desk, tmp_path, ask)


def test_a_server_that_ends_without_an_answer_is_noticed(tmp_path: Path) -> None:
    async def story() -> None:
        async def leave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_unix_server(leave, tmp_path / SOCKET_NAME)
        with pytest.raises(CommandError, match=r"without an answer|does not answer"):
            await asyncio.to_thread(call, tmp_path, "tenant list", {})
        server.close()

    asyncio.run(story())


def test_an_answer_without_end_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "ANSWER_BYTES_MAX", 1000)

    async def story() -> None:
        async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(b"x" * 100_000)
            writer.close()

        server = await asyncio.start_unix_server(babble, tmp_path / SOCKET_NAME)
        with pytest.raises(CommandError, match="larger than 1,000 bytes"):
            await asyncio.to_thread(call, tmp_path, "tenant list", {})
        server.close()

    asyncio.run(story())


def test_a_folder_with_a_long_path_has_a_socket_all_the_same(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()

    async def ask() -> None:
        assert await asyncio.to_thread(call, folder, "tenant list", {}) == []

    served(desk, folder, ask)
    assert list(folder.iterdir()) == []


def test_a_revoked_key_is_forgotten_by_the_server(desk: Desk, tmp_path: Path) -> None:
    async def ask() -> None:
        made = await asyncio.to_thread(call, tmp_path, "key add", {"role": "finance"})
        assert desk.forgotten == 0
        await asyncio.to_thread(call, tmp_path, "key revoke", {"key_id": made["id"]})
        assert desk.forgotten == 1

    served(desk, tmp_path, ask)
