"""The vendor's own bill: what it made, for whom, and what that costs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from proxy.sandbox.jobs import Job

MICROS_PER_UNIT: Final = 2
"""The vendor counts in units of which 500,000 are a dollar (wire facts, section 7)."""


@dataclass(frozen=True, slots=True)
class BilledClip:
    """One delivered clip."""

    id: str
    url: str


@dataclass(frozen=True, slots=True)
class Line:
    """One accepted job; failed clips are free. `state` is running, completed or failed."""

    job_id: str
    kind: str
    gateway: str
    model: str
    prompt_sha256: str
    asked: int
    delivered: int
    clips: tuple[BilledClip, ...]
    state: str
    created_at: int
    micros: int
    units: int


@dataclass(frozen=True, slots=True)
class Bill:
    """Every line and the totals; amounts in micro-dollars and in the vendor's units."""

    lines: tuple[Line, ...]

    @property
    def jobs(self) -> int:
        """Accepted jobs."""
        return len(self.lines)

    @property
    def clips(self) -> int:
        """Delivered, so billed, clips."""
        return sum(line.delivered for line in self.lines)

    @property
    def micros(self) -> int:
        """The total in micro-dollars."""
        return sum(line.micros for line in self.lines)

    def of(self, prompt: str) -> tuple[Line, ...]:
        """The lines of jobs with exactly this prompt."""
        digest = hashlib.sha256(prompt.encode()).hexdigest()
        return tuple(line for line in self.lines if line.prompt_sha256 == digest)

    def as_json(self) -> dict[str, Any]:
        """The bill as `GET /sandbox/bill` shows it."""
        return {
            "totals": {
                "jobs": self.jobs,
                "running": sum(line.state == "running" for line in self.lines),
                "clips": self.clips,
                "micros": self.micros,
                "units": self.micros // MICROS_PER_UNIT,
                "usd": usd(self.micros),
            },
            "lines": [{**asdict(line), "usd": usd(line.micros)} for line in self.lines],
        }


def usd(micros: int) -> str:
    """Micro-dollars as dollars, with six decimals so that nothing is rounded away."""
    return f"{micros // 1_000_000}.{micros % 1_000_000:06d}"


def billed(jobs: Iterable[Job]) -> Bill:
    """The bill of these jobs as it stands now."""
    return Bill(tuple(_line(job) for job in jobs))


def _line(job: Job) -> Line:
    made = job.clips
    micros = job.order.product.micros * len(made)
    state = "running" if job.completed_at is None else "completed" if made else "failed"
    return Line(
        job_id=job.id,
        kind=job.kind.value,
        gateway=job.gateway,
        model=job.order.product.name,
        prompt_sha256=hashlib.sha256(job.order.prompt.encode()).hexdigest(),
        asked=job.order.clips,
        delivered=len(made),
        clips=tuple(BilledClip(clip.id, clip.url) for clip in made),
        state=state,
        created_at=job.created_at,
        micros=micros,
        units=micros // MICROS_PER_UNIT,
    )
