"""One question to one gateway about one job; whatever it meets comes back as a value."""

from __future__ import annotations

from typing import Final

from proxy.core.encoding import decoded
from proxy.core.headers import parse_retry_after, value_of
from proxy.core.job import Absent, Garbled, Job, read_job
from proxy.core.refusal import Kind, Refusal, read_refusal
from proxy.core.rotation import Answered, Outcome, answered
from proxy.flows.house import House
from proxy.logs import event
from proxy.remote.answer import Answer
from proxy.remote.gateway import Deadlines, Opened

TOLD_PAUSE_SECONDS: Final = 60.0
"""How often the operator is told of the same trouble with the vendor's account."""

_OURS: Final = frozenset({Kind.AUTH, Kind.GROUP, Kind.BALANCE})


async def read_said(answer: Answer, bytes_max: int) -> bytes:
    """What a gateway says of a job, decoded and cut after `bytes_max`; closes the answer."""
    body = await answer.read_refusal_body(bytes_max)
    return decoded(body, value_of(answer.headers, b"content-encoding"), bytes_max)


class Questions:
    """Asks gateways about jobs, and keeps what that tells of the gateways themselves."""

    def __init__(self, house: House) -> None:
        """One for each process."""
        self._house = house
        self._faulty: set[str] = set()
        self._told: dict[Kind, float] = {}
        limits = house.config.limits
        self._deadlines = Deadlines(
            connect_seconds=limits.connect_seconds_max,
            write_seconds=limits.send_seconds_max,
            head_seconds=limits.poll_answer_seconds_max,
            stall_seconds=limits.poll_answer_seconds_max,
            total_seconds=limits.poll_answer_seconds_max,
        )

    async def ask(self, name: str, path: str) -> Job | Absent | Garbled | Outcome:
        """What gateway `name` says of the job at `path`; it has `poll_answer_seconds_max` to."""
        house = self._house
        began = house.clock.monotonic()
        met = await house.gateways.get(house.addresses[name], path, deadlines=self._deadlines)
        if isinstance(met, Opened):
            body = await read_said(met.answer, house.config.limits.job_bytes_max)
            seconds = house.clock.monotonic() - began
            house.metrics.attempted(name, "poll", met.answer, seconds)
            word = self._read(name, met.answer, body)
            self._observe(name, word if isinstance(word, Answered) else None)
            return word
        house.metrics.attempted(name, "poll", met, house.clock.monotonic() - began)
        self._observe(name, met)
        return met

    def _read(self, name: str, answer: Answer, body: bytes) -> Job | Absent | Garbled | Answered:
        word = read_job(body, answer.status)
        if not isinstance(word, Garbled):
            return word
        content_type = value_of(answer.headers, b"content-type") or ""
        refusal = read_refusal(answer.status, content_type, body)
        ours = refusal.kind in _OURS
        if ours:
            self._tell_operator(name, refusal)
        if 200 <= answer.status < 300 and not ours:
            return word
        header = value_of(answer.headers, b"retry-after")
        return answered(answer.status, refusal, parse_retry_after(header, self._house.clock.now()))

    def _observe(self, name: str, outcome: Outcome | None) -> None:
        """Tell the fleet of the host's own trouble, and once that it is over.

        None is an answer that tells nothing against the host. Thousands a second are good, and
        say nothing new.
        """
        if outcome is None or (isinstance(outcome, Answered) and outcome.status < 500):
            if name in self._faulty:
                self._faulty.discard(name)
                self._house.fleet.observe(name, Answered(200))
        else:
            self._faulty.add(name)
            self._house.fleet.observe(name, outcome)

    def _tell_operator(self, name: str, refusal: Refusal) -> None:
        """Our key or account is in trouble: no clip's end, and nothing for a team to read."""
        now = self._house.clock.monotonic()
        if now >= self._told.get(refusal.kind, now):
            self._told[refusal.kind] = now + TOLD_PAUSE_SECONDS
            event(
                "vendor_account",
                level="warning",
                gateway=name,
                operation="poll",
                reason=refusal.kind,
                words=refusal.message,
            )
