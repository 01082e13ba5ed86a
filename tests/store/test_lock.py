"""One process holds a data folder; the next one is told so, and nothing outlives a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from proxy.store.lock import hold_lock

HOLD_AND_SAY = """
import sys, time
from pathlib import Path
from proxy.store.lock import hold_lock
lock = hold_lock(Path(sys.argv[1]))
print("held" if lock else "refused", flush=True)
sys.stdin.read()
"""


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    lock = hold_lock(tmp_path)
    assert lock is not None
    with lock:
        assert hold_lock(tmp_path) is None
    again = hold_lock(tmp_path)
    assert again is not None
    again.release()
    again.release()


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_AND_SAY, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert hold_lock(tmp_path) is None
        holder.kill()
        holder.wait()
    lock = hold_lock(tmp_path)
    assert lock is not None
    lock.release()


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        hold_lock(tmp_path / "nowhere")


def test_nobody_else_may_read_the_lock(tmp_path: Path) -> None:
    lock = hold_lock(tmp_path)
    assert lock is not None
    with lock:
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
