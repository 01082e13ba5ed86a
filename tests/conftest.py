"""What every test may ask for, and the one seed behind everything random.

A test that is a coroutine function runs inside `asyncio.run`, one loop a test: no plugin stands
between a test and its loop. Whatever a test leaves behind (a task that failed unseen, a socket or
a file left open) is a warning, and warnings fail the suite (pyproject.toml).
"""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.postgres import Postgres, running_postgres
from tests.s3 import S3, running_s3

settings.register_profile("clipmeter", deadline=None, print_blob=True)
settings.load_profile("clipmeter")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Take the seed from SEED or make one; workers of one run inherit it."""
    seed = os.environ.setdefault("SEED", str(random.SystemRandom().randrange(2**32)))
    if config.getoption("--hypothesis-seed") is None:
        config.option.hypothesis_seed = seed


def pytest_report_header() -> str:
    """Print the seed at the top of every run, so that it can be had again with SEED=."""
    return f"random seed: SEED={os.environ['SEED']}"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine function in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(scope="session")
def seed() -> int:
    """The number behind every random choice of this run; see the report header."""
    return int(os.environ["SEED"])


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL server for this process, started when the first test asks for it."""
    with (
        tempfile.TemporaryDirectory(prefix="clipmeter-") as folder,
        running_postgres(Path(folder)) as server,
    ):
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The address of a fresh, empty PostgreSQL database, dropped when the test is over."""
    url = postgres.create()
    yield url
    postgres.drop(url)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """One S3 server for this process, started when the first test asks for it."""
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty bucket, for which the environment has the credentials."""
    server: S3 = request.getfixturevalue("s3")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server.create()


@pytest.fixture(params=["folder", "bucket"])
def vault_url(request: pytest.FixtureRequest) -> str | None:
    """Where the vault is, each kind in turn: None is a folder below the data folder."""
    if request.param == "folder":
        return None
    url: str = request.getfixturevalue("bucket")
    return url
