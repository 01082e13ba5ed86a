"""A command does its work wherever the one writer is."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from proxy import commands
from proxy.commands import do, hold_folder, in_words, migrate, operator_of
from proxy.config import Config, parse
from proxy.control import serve_control
from proxy.flows.operator import CommandError
from proxy.store.database import LedgerUnavailable
from proxy.store.kept import VaultUnavailable
from tests.operators import desk


def config_in(folder: Path, **groups: object) -> Config:
    return parse({"data_dir": str(folder), **groups}, {})


def test_without_a_server_the_command_makes_what_it_needs(tmp_path: Path) -> None:
    config = config_in(tmp_path / "new" / "data")
    do(config, "tenant add", {"name": "ads"})
    assert [row["name"] for row in do(config, "tenant list", {})] == ["ads"]
    assert stat.S_IMODE(config.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((config.data_dir / "secret").stat().st_mode) == 0o600


def test_with_a_server_the_command_goes_to_it(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    with desk(tmp_path) as opened:

        async def story() -> None:
            async with serve_control(opened.operator, tmp_path):
                await asyncio.to_thread(do, config, "tenant add", {"name": "ads"})

        lock = hold_folder(config)
        assert lock is not None
        with lock:
            assert hold_folder(config) is None
            asyncio.run(story())
    assert [row["name"] for row in do(config, "tenant list", {})] == ["ads"]


def test_on_postgresql_the_command_goes_straight_to_the_database(
    tmp_path: Path, postgres_url: str
) -> None:
    config = config_in(
        tmp_path, database={"url": postgres_url}, secrets={"key": "0123456789abcdef" * 2}
    )
    lock = hold_folder(config)
    assert lock is not None
    with lock:
        do(config, "tenant add", {"name": "ads"})
    made = do(config, "key add", {"tenant": "ads"})
    assert made["tenant"] == "ads"
    assert not config.sqlite_path.exists()


def test_a_holder_that_takes_no_commands_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_PAUSE_SECONDS", 0.001)
    config = config_in(tmp_path)
    lock = hold_folder(config)
    assert lock is not None
    with lock, pytest.raises(CommandError, match=f"holds {tmp_path} and takes no commands"):
        do(config, "tenant list", {})


def test_migrate_says_whether_it_had_anything_to_do(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    assert "was brought up to date" in migrate(config)
    assert "is up to date already" in migrate(config)
    lock = hold_folder(config)
    assert lock is not None
    with lock:
        assert "a server is running here" in migrate(config)


def test_a_secret_that_is_too_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("short")
    with pytest.raises(CommandError, match="too short"):
        do(config_in(tmp_path), "key list", {})


def test_the_pepper_comes_from_the_installations_secret(tmp_path: Path) -> None:
    with desk(tmp_path) as opened:
        database = opened.operator.database
        one = operator_of(config_in(tmp_path / "."), database)
        again = operator_of(config_in(tmp_path), database)
        other = operator_of(config_in(tmp_path, secrets={"key": "fedcba9876543210" * 2}), database)
    assert one.pepper == again.pepper != other.pepper


def test_trouble_is_told_in_one_line() -> None:
    with pytest.raises(CommandError) as told, in_words():
        raise LedgerUnavailable("no answer\n(Background on this error at: …)")
    assert str(told.value) == "no answer"
    with pytest.raises(CommandError) as told, in_words():
        Path("/proc/nowhere/at/all").mkdir()
    assert str(told.value) == "/proc/nowhere/at/all: No such file or directory"
    with pytest.raises(CommandError) as told, in_words():
        raise VaultUnavailable("cannot use /proc/vault: No such file or directory")
    assert str(told.value) == "cannot use /proc/vault: No such file or directory"
