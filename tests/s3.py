"""A real S3 server for the tests of what must also hold in a bucket: moto's, in its own process."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 10.0

_DROPS_MAX = 10

_RUNNING = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")


class S3:
    """The running server at `endpoint`, which logs every request; it checks no signatures."""

    def __init__(self, endpoint: str, log: Path) -> None:
        self.endpoint = endpoint
        self._log = log
        self._numbers = itertools.count(1)

    @property
    def environment(self) -> dict[str, str]:
        """What a program must find in its environment to use the server."""
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_SECRET_ACCESS_KEY": "test",
        }

    def create(self) -> str:
        """Make an empty bucket, and answer the address of a folder in it."""
        bucket = f"clips-{next(self._numbers)}"
        self.send("PUT", bucket)
        return f"s3://{bucket}/some/folder"

    def drop(self, address: str) -> None:
        """Remove the bucket of `address`, and whatever is in it."""
        bucket = address.removeprefix("s3://").partition("/")[0]
        for _ in range(_DROPS_MAX):
            for key in re.findall(r"<Key>(.*?)</Key>", self.send("GET", bucket).decode()):
                self.send("DELETE", f"{bucket}/{key}")
            try:
                self.send("DELETE", bucket)
            except urllib.error.HTTPError as error:
                if error.code != 409:  # something was put there just now
                    raise
            else:
                return
        raise RuntimeError(f"{bucket} is never empty")

    def send(self, method: str, path: str, body: bytes = b"") -> bytes:
        """One request past every library."""
        headers = {"Authorization": "AWS test:test", "Content-Type": "application/octet-stream"}
        url = f"{self.endpoint}/{path}"
        request = urllib.request.Request(url, body or None, headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as reply:
            return bytes(reply.read())

    def get(self, link: str) -> tuple[Mapping[str, str], bytes]:
        """The headers and the body behind a link that carries its own signature."""
        with urllib.request.urlopen(link, timeout=10) as reply:
            return {name.lower(): value for name, value in reply.headers.items()}, bytes(
                reply.read()
            )

    @property
    def log(self) -> str:
        """The lines of every request so far."""
        return self._log.read_text()

    def count(self, method: str, name: str) -> int:
        """How many requests with `method` for a path that ends with `name` came so far."""
        asked = rf'"{method} \S*{re.escape(name)} HTTP'
        return len(re.findall(asked, self.log))


@contextmanager
def running_s3(folder: Path) -> Iterator[S3]:
    """A server on a free port of the loopback, stopped when the block ends; it logs in `folder`."""
    log = folder / "s3.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdout=output,
            stderr=output,
        )
    try:
        yield S3(_endpoint(process, log), log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _endpoint(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        found = _RUNNING.search(log.read_text())
        if found is not None:
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError(f"the S3 server did not start:\n{log.read_text()}")
