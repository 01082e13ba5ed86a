"""The stamp: an installation is real or pretended, for good."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.flows.operator import CommandError
from proxy.flows.stamp import is_sandbox, stamp
from tests.operators import desk


@pytest.mark.parametrize("sandbox", [True, False])
def test_the_first_kind_stays(tmp_path: Path, sandbox: bool) -> None:
    with desk(tmp_path) as opened:
        database = opened.operator.database

        async def story() -> None:
            assert not await database.read(is_sandbox)
            await stamp(database, sandbox=sandbox)
            await stamp(database, sandbox=sandbox)
            with pytest.raises(CommandError, match="another data_dir"):
                await stamp(database, sandbox=not sandbox)
            assert await database.read(is_sandbox) is sandbox

        asyncio.run(story())
