"""How a followed job ends: its clip and its rows settled in one transaction, under the fence.

A process that was taken for dead may still hold an answer. What it would settle is held against
the fence in the same transaction, and where the job is another's by now nothing is written (R24).
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from proxy.core import clip
from proxy.core.failure import Reason
from proxy.core.job import Absent
from proxy.core.pursuit import NotReady
from proxy.core.rotation import Answered, Outcome, Silent, Unreachable
from proxy.flows import fetch
from proxy.flows.house import House
from proxy.flows.settle import Settlement
from proxy.logs import event
from proxy.remote.download import Ended, NotFetched, Trouble
from proxy.store.database import Connection
from proxy.store.generations import GenerationEnd, end_generation
from proxy.store.jobs import JobRow, end_job, is_held
from proxy.store.keepings import record_kept
from proxy.store.kept import Kept, Rejected, VaultUnavailable


@dataclass(frozen=True, slots=True)
class Collected:
    """What `/content` gave of a completed job: a link, bytes that are kept, or bytes that are not.

    The last are a clip all the same, and stay with the vendor for whoever tries again to keep them.
    """

    url: str = ""
    kept: Kept | None = None


async def collect(
    house: House, gateway: str, job: JobRow
) -> Collected | Absent | NotReady | Outcome:
    """The completed job's clip as `gateway` has it, or what was met in its stead."""
    met = await fetch.open_content(house, gateway, job.upstream_id)
    match met:
        case fetch.Link(url):
            return Collected(url)
        case fetch.NotReady():
            return NotReady()
        case NotFetched():
            too_large = met.trouble is Trouble.TOO_LARGE
            return _unkept(job, met.trouble) if too_large else _trouble(met)
    with closing(met):
        try:
            kept = await house.vault.put(job.clip_id, met)
        except VaultUnavailable as away:
            return _unkept(job, str(away))
    if isinstance(kept, Kept):
        return Collected(kept=kept)
    if kept is Rejected.TOO_LARGE or met.ended is Ended.TOO_LARGE:
        return _unkept(job, Rejected.TOO_LARGE)
    return Silent(kept)


def _unkept(job: JobRow, why: str) -> Collected:
    """A clip is there, and is none the less one for our lack of room (law 3)."""
    event("clip_not_kept", level="warning", clip=job.clip_id, reason=why)
    return Collected()


async def conclude(
    house: House,
    job: JobRow,
    news: clip.Delivered | clip.Failed,
    words: str = "",
    kept: Kept | None = None,
) -> None:
    """Settle a job's end, if it is still this process's to settle; durable now, or later.

    `words` are the vendor's; `kept` are the clip's bytes, where they are in the vault already.
    """
    now = house.clock.now()
    reason = str(news.reason) if isinstance(news, clip.Failed) else None
    end = GenerationEnd("told", now, None, reason, words)
    fence = _Fence(job)

    def last(tx: Connection) -> None:
        if kept is not None:
            record_kept(tx, job.clip_id, 0, kept.sha256, kept.size_bytes, now)
        end_job(tx, job.clip_id, now)
        end_generation(tx, job.generation_id, end)

    def then() -> None:
        outcome = "delivered" if reason is None else "failed"
        ours = {"clip": job.clip_id, "generation": job.generation_id, "outcome": outcome}
        if not fence.held:
            event("job_is_anothers", **ours)
            return
        seconds = max(0.0, (now - job.accepted_at).total_seconds())
        house.metrics.generation_ended(job.model, outcome, seconds)
        event("job_ended", gateway=job.gateway, seconds=round(seconds, 3), **ours)

    settlement = Settlement(
        [(job.clip_id, news)], now, words, last=last, then=then, held=fence.check
    )
    await house.settler.settle(settlement)


async def lose(house: House, job: JobRow, why: str) -> bool:
    """Make a job's clip unknown, of which nobody knows any more; False if it is another's by now.

    The job has not ended: it is asked for until it is found or given up.
    """
    fence = _Fence(job)
    lost = [(job.clip_id, clip.Lost(Reason.LOST))]
    settlement = Settlement(lost, house.clock.now(), held=fence.check)
    durable = await house.settler.settle(settlement)
    if durable and not fence.held:
        return False
    event("job_lost", level="warning", clip=job.clip_id, gateway=job.gateway, reason=why)
    return True


class _Fence:
    """Whether a job was still held when its settlement was written."""

    def __init__(self, job: JobRow) -> None:
        self.held = False
        self._job = job

    def check(self, tx: Connection) -> bool:
        self.held = is_held(tx, self._job.clip_id, self._job.fence)
        return self.held


def _trouble(met: NotFetched) -> Absent | Outcome:
    if met.trouble is Trouble.GONE:
        return Absent()
    if met.status is not None:
        return Answered(met.status)
    if met.trouble is Trouble.UNREACHABLE:
        return Unreachable(met.why)
    return Silent(met.trouble)
