"""A server in a process of its own, to be killed: what `clipmeter serve` is to its operator."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import aiohttp
import yaml

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """`clipmeter serve` with a configuration of the test's."""

    def __init__(self, folder: Path, urls: Sequence[tuple[str, str]], **groups: object) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data_dir = folder / "data"
        self.config = folder / "config.yaml"
        values = {
            "server": {"port": self.port},
            "data_dir": str(self.data_dir),
            "upstream": {
                "api_key": "sk-test-vendor-key-0123456789",
                "gateways": [{"name": name, "url": url} for name, url in urls],
            },
            "vault": {"download_hosts": ["127.0.0.1"], "download_private": True},
            **groups,
        }
        self.config.write_text(yaml.safe_dump(values))
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] = (folder / "server.log").open("ab")

    def command(self, *words: str) -> str:
        """Run a command against the same configuration; its standard output."""
        done = subprocess.run(
            [sys.executable, "-m", "proxy", "--config", str(self.config), *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def launch(self) -> None:
        """Start the process."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "proxy", "--config", str(self.config), "serve"],
            cwd=ROOT,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def assert_alive(self) -> None:
        """The process has not ended by itself."""
        assert self._process is not None
        assert self._process.poll() is None, Path(self._log.name).read_text()[-2000:]

    async def start(self) -> None:
        """Start serving, and wait until it is ready for paid work."""
        self.launch()
        async with aiohttp.ClientSession() as session, asyncio.timeout(60):
            while True:
                self.assert_alive()
                try:
                    async with session.get(f"{self.url}/readyz") as response:
                        if response.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.02)

    def kill(self) -> None:
        """`kill -9`, now."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def terminate(self, seconds: float = 30) -> int:
        """SIGTERM, and the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(seconds)

    def close(self) -> None:
        """Leave nothing behind."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._log.close()
