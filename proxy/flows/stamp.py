"""Real clips and pretended ones never share an installation (decision 20).

The first server to run on a data folder or database stamps it with the kind of its gateways; a
server of the other kind is refused from then on, and every report of a sandbox says so.
"""

from __future__ import annotations

from typing import Final

from proxy.flows.operator import CommandError
from proxy.store.database import Connection, Database
from proxy.store.processes import read_mark, set_mark

MARK: Final = "gateways"
REAL: Final = "real"
SANDBOX: Final = "sandbox"


async def stamp(database: Database, *, sandbox: bool) -> None:
    """Mark the installation as real or sandbox; a `CommandError` when it is the other."""
    wanted = SANDBOX if sandbox else REAL

    def write(tx: Connection) -> str:
        found = read_mark(tx, MARK)
        if found is None:
            set_mark(tx, MARK, wanted)
        return found or wanted

    found = await database.write(write)
    if found == wanted:
        return
    if sandbox:
        raise CommandError(
            "this installation has real clips, so the sandbox may not add pretended ones; "
            "give it another data_dir"
        )
    raise CommandError(
        "this installation was made by the sandbox, and its clips are pretended; "
        "give real gateways another data_dir"
    )


def is_sandbox(tx: Connection) -> bool:
    """Whether the installation's clips are pretended."""
    return read_mark(tx, MARK) == SANDBOX
