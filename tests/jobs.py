"""Jobs as a submit leaves them: admitted, accepted by a gateway, written down, and followed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from proxy.config import Config
from proxy.core import clip
from proxy.core.pricing import Price
from proxy.store.admission import Admission, Admitted, admit
from proxy.store.database import Connection
from proxy.store.generations import AttemptEnd, UpstreamIds, end_attempt, record_opened
from proxy.store.jobs import JobRow, add_job, find_job
from tests.gateways import Act, Gateway, answers
from tests.running import Running, configured, until

FAST = 150_000
LINK = "https://cdn.example/flow/made.mp4"
POLL_SECONDS = 0.02


def hasty(data_dir: Path, *urls: tuple[str, str], **groups: Any) -> Config:
    """A configuration under which jobs are asked for fifty times a second."""
    limits = {"poll_pause_seconds_max": 0.1, **groups.pop("limits", {})}
    follow = {"poll_seconds": POLL_SECONDS, **groups.pop("follow", {})}
    return configured(data_dir, urls, limits=limits, follow=follow, **groups)


def said(status: str, **fields: Any) -> Act:
    """A gateway's word about a job."""
    return answers(200, {"id": "job", "object": "video", "status": status, **fields})


def completed(link: str = LINK) -> Act:
    return said("completed", progress=100, url=link)


def not_found() -> Act:
    return answers(404, {"error": {"message": "video_not_found", "code": "video_not_found"}})


@dataclass(frozen=True)
class Started:
    """A job on its way: its row as the process that started it has it."""

    proxy: Running
    row: JobRow

    @property
    def id(self) -> str:
        return self.row.clip_id

    async def state(self) -> str:
        query = f"SELECT state FROM clips WHERE id = '{self.id}'"
        return str((await self.proxy.rows(query))[0][0])

    async def percent(self) -> int:
        return int(
            (await self.proxy.rows(f"SELECT percent FROM jobs WHERE clip_id = '{self.id}'"))[0][0]
        )

    async def ended(self) -> bool:
        """Whether the job and its generation are over."""
        query = (
            "SELECT jobs.ended_at IS NOT NULL, generations.ended_at IS NOT NULL FROM jobs"
            " JOIN clips ON clips.id = jobs.clip_id"
            " JOIN generations ON generations.id = clips.generation_id"
            f" WHERE jobs.clip_id = '{self.id}'"
        )
        job, generation = (await self.proxy.rows(query))[0]
        assert bool(job) == bool(generation)
        return bool(job)

    async def becomes(self, state: str, seconds: float = 20) -> None:
        """Wait until the clip is in `state`."""
        await once(self.proxy, self.state, lambda found: found == state, seconds)


async def once(
    proxy: Running, look: Callable[[], Any], holds: Callable[[Any], bool], seconds: float = 20
) -> None:
    """Wait until what `look` finds `holds`."""
    clock = proxy.house.clock
    deadline = clock.monotonic() + seconds
    while not holds(found := await look()):
        assert clock.monotonic() < deadline, f"it stayed {found}"
        await asyncio.sleep(0.005)


async def started(
    proxy: Running,
    upstream_id: str = "job",
    gateway: str = "api",
    *,
    age_seconds: float = 0,
    owner: str | None = None,
    followed: bool = True,
) -> Started:
    """A job that `gateway` took `age_seconds` ago; `owner` is this process unless named."""
    house = proxy.house
    (key_id, tenant_id), *_ = await proxy.rows("SELECT id, tenant_id FROM keys ORDER BY created_at")
    now = house.clock.now() - timedelta(seconds=age_seconds)
    own = owner or house.process_id
    generation_id, clip_id = house.mint("gen"), house.mint("video")
    admission = Admission(
        generation_id=generation_id,
        clip_ids=(clip_id,),
        tenant_id=tenant_id,
        key_id=key_id,
        mode="video",
        model="veo-3.1-fast",
        asked_model="veo-3.1-fast",
        stream=False,
        body_hash="0" * 64,
        price=Price(FAST, FAST, "veo-3.1-fast@2025-01-01"),
        vendor_clips_in_flight=None,
        process_id=own,
        gateway=gateway,
        now=now,
    )

    def write(tx: Connection) -> JobRow:
        assert isinstance(admit(tx, admission), Admitted)
        ids = UpstreamIds(id=upstream_id)
        record_opened(tx, generation_id, gateway, 200, ids, clip.Queued())
        end_attempt(tx, generation_id, 1, AttemptEnd("answered", now, 200))
        add_job(tx, clip_id, gateway, upstream_id, own, now)
        row = find_job(tx, clip_id, own)
        assert row is not None
        return row

    row = await house.database.write(write)
    if followed:
        house.follower.follow(row)
    return Started(proxy, row)


def polls(gateway: Gateway, upstream_id: str = "job") -> int:
    """How often the gateway was asked about a job."""
    return sum(request.path == f"/v1/videos/{upstream_id}" for request in gateway.requests)


async def asked(gateway: Gateway, times: int) -> None:
    """Wait until the gateway was asked so often, from now on."""
    before = len(gateway.requests)
    await until(lambda: len(gateway.requests) >= before + times)
