"""The local socket by which commands reach a running server's one writer.

SQLite is written by one process (decision 9), so a command that finds the data folder's lock held
asks the holder to do the work. One command a connection: a line of JSON
`{"command": …, "arguments": {…}}`, answered by a line `{"ok": value}` or `{"error": words}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from proxy.flows import audit, tenants, usage
from proxy.flows.operator import CommandError, Operator
from proxy.store.database import LedgerUnavailable

SOCKET_NAME: Final = "control.sock"

REQUEST_BYTES_MAX: Final = 64 * 1024
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
REQUEST_SECONDS_MAX: Final = 5.0
"""A client sends its one line at once."""
ANSWER_SECONDS_MAX: Final = 600.0
"""The longest command is a walk over the whole ledger."""

_PATH_BYTES_MAX: Final = 100
"""A socket's address takes 104 bytes on some systems, 108 on others, with its closing zero."""

Command = Callable[..., Awaitable[Any]]

COMMANDS: Final[Mapping[str, Command]] = {
    "tenant add": tenants.add_tenant,
    "tenant set": tenants.set_tenant,
    "tenant list": tenants.list_tenants,
    "tenant disable": tenants.disable_tenant,
    "key add": tenants.add_key,
    "key list": tenants.list_keys,
    "key revoke": tenants.revoke_key,
    "usage": usage.report,
    "ledger verify": audit.verify_ledger,
}
"""What can be asked for; each takes the operator and its own arguments, and answers plain JSON."""


async def run(operator: Operator, command: str, arguments: Mapping[str, Any]) -> Any:
    """Do `command` here.

    Raises `CommandError` for one that is not known, cannot take these arguments, or refuses, and
    `LedgerUnavailable` when the database is away.
    """
    work = COMMANDS.get(command)
    if work is None:
        raise CommandError(f"there is no command {command!r} in this version of the server")
    try:
        bound = inspect.signature(work).bind(operator, **arguments)
    except TypeError as error:
        raise CommandError(f"{command}: {error}") from error
    return await work(*bound.args, **bound.kwargs)


@contextlib.asynccontextmanager
async def serve_control(operator: Operator, data_dir: Path) -> AsyncIterator[None]:
    """Answer commands on `data_dir/control.sock` (0600) while the context lasts.

    The caller holds the data folder's lock, so a socket that is left there is a dead one's.
    Raises `OSError`, and `CommandError` when the folder's path is too long for a socket.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(_line(await _answer(operator, reader)))
            await writer.drain()
        except ConnectionError:
            pass  # the command was interrupted; what it asked for is done or refused all the same
        finally:
            writer.close()

    path = data_dir / SOCKET_NAME
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with _address(data_dir) as address:
        listening.bind(address)
    path.chmod(0o600)  # nobody can connect before it listens
    server = await asyncio.start_unix_server(answer, sock=listening, limit=REQUEST_BYTES_MAX)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)


def call(data_dir: Path, command: str, arguments: Mapping[str, Any]) -> Any:
    """What the server on `data_dir` answers to `command`.

    Raises `CommandError` with the server's words, or when it cannot be reached.
    """
    request = _line({"command": command, "arguments": arguments})
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(ANSWER_SECONDS_MAX)
        try:
            with _address(data_dir) as address:
                asking.connect(address)
            asking.sendall(request)
            said = _read(asking)
        except OSError as error:
            raise CommandError(
                f"the server that holds {data_dir} does not answer on its control socket "
                f"({error.strerror or error})"
            ) from error
    try:
        answer = json.loads(said)
    except ValueError:
        raise CommandError("the server ended without an answer; its log says why") from None
    if "error" in answer:
        raise CommandError(answer["error"])
    return answer["ok"]


async def _answer(operator: Operator, reader: asyncio.StreamReader) -> dict[str, Any]:
    try:
        async with asyncio.timeout(REQUEST_SECONDS_MAX):
            line = await reader.readline()
        request = json.loads(line)
        command, arguments = request["command"], request["arguments"]
    except TimeoutError:
        return {"error": "no command came"}
    except (ValueError, KeyError, TypeError):
        return {"error": "a command is one line of JSON with command and arguments"}
    try:
        return {"ok": await run(operator, command, arguments)}
    except CommandError as refusal:
        return {"error": str(refusal)}
    except LedgerUnavailable as trouble:
        return {"error": f"the ledger cannot be used just now: {trouble}"}


def _read(asking: socket.socket) -> bytes:
    said = bytearray()
    while chunk := asking.recv(65_536):
        said += chunk
        if len(said) > ANSWER_BYTES_MAX:
            raise CommandError(f"the answer is larger than {ANSWER_BYTES_MAX:,} bytes")
    return bytes(said)


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


@contextlib.contextmanager
def _address(data_dir: Path) -> Iterator[str]:
    """The socket's address; one that is too long for the kernel is reached through the folder."""
    path = str(data_dir / SOCKET_NAME)
    if len(os.fsencode(path)) <= _PATH_BYTES_MAX:
        yield path
        return
    folder = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        through = Path(f"/proc/self/fd/{folder}")
        if not through.exists():
            raise CommandError(f"data_dir's path is too long for a socket: {data_dir}")
        yield str(through / SOCKET_NAME)
    finally:
        os.close(folder)
