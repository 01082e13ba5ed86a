"""What an operator's command works with, whether a server runs or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from proxy.core.catalog import Catalog
from proxy.store.database import Database


class CommandError(Exception):
    """A command that cannot be done; the message tells the operator why, and what would do."""


@dataclass(frozen=True, slots=True)
class Operator:
    """The parts that commands use: made from a running house, or for one command alone.

    `now` is aware and UTC, `mint` makes an id with a prefix, `random` gives that many random bytes,
    `pepper` is the key of key digests, and `forget_keys` empties what is remembered of keys, so
    that a revoked one is refused at once.
    """

    database: Database
    catalog: Catalog
    now: Callable[[], datetime]
    mint: Callable[[str], str]
    random: Callable[[int], bytes]
    pepper: bytes
    forget_keys: Callable[[], object]
