"""One paid request on its way through this process, and what is told to its caller."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from proxy.core.caller import Caller
from proxy.core.catalog import Model
from proxy.core.headers import UpstreamIds
from proxy.core.pricing import Price
from proxy.core.rotation import Outcome
from proxy.flows.claim import Claim
from proxy.store import generations

Mode = Literal["chat", "video"]


@dataclass(frozen=True, slots=True)
class Ask:
    """What a caller wants to buy; `asked_model` is the model's name as it was written."""

    mode: Mode
    model: Model
    asked_model: str
    clips: int
    stream: bool


@dataclass(slots=True)
class Generation:
    """One paid request; its ids are minted before anything is sent (decision 3).

    `gateways` is the order to try them in; `body_hash` says what is asked for, whatever its form,
    and `claim` which earlier request it may repeat; `started` and `deadline` are monotonic seconds.
    `delivered` grows as clips are announced, `overhead_seconds` by what our own work keeps the
    answer waiting. `upstream_id` is what the vendor calls the job or clip.
    """

    id: str
    clip_ids: tuple[str, ...]
    caller: Caller
    ask: Ask
    price: Price
    accepted_at: datetime
    started: float
    deadline: float
    gateways: tuple[str, ...]
    claim: Claim = field(default_factory=Claim)
    body_hash: str = ""
    tried: list[tuple[str, Outcome]] = field(default_factory=list)
    upstream: UpstreamIds = field(default_factory=UpstreamIds)
    upstream_id: str | None = None
    delivered: int = 0
    overhead_seconds: float = 0.0

    @property
    def attempts(self) -> int:
        """How many attempts were begun; the admission begins the first."""
        return max(len(self.tried), 1)

    @property
    def gateway(self) -> str:
        """The gateway of the latest attempt."""
        return self.tried[-1][0] if self.tried else self.gateways[0]

    def upstream_row(self) -> generations.UpstreamIds:
        """The vendor's ids of the latest attempt, as the database keeps them."""
        return generations.UpstreamIds(
            self.upstream.request_id or self.upstream.oneapi_request_id,
            self.upstream.origin_request_id,
            self.upstream_id,
        )

    def take_clips(self, count: int) -> tuple[str, ...]:
        """The next `count` clips that have no link yet; they have one from now on."""
        taken = self.clip_ids[self.delivered : self.delivered + count]
        self.delivered += len(taken)
        return taken

    def headers(self) -> list[tuple[str, str]]:
        """The reply headers that tell a caller which request this was and where it went."""
        ids = generations.UpstreamIds(
            self.upstream.request_id, self.upstream.origin_request_id, self.upstream_id
        )
        where = (self.gateway, self.attempts)
        return named(self.id, self.clip_ids, where, ids, self.claim.cache_status)


def named(
    generation_id: str,
    clip_ids: Iterable[str],
    where: tuple[str | None, int],
    ids: generations.UpstreamIds,
    cache_status: str,
) -> list[tuple[str, str]]:
    """The reply headers of any generation; `where` is its gateway and its number of attempts."""
    gateway, attempts = where
    optional = [
        ("x-clipmeter-gateway", gateway),
        ("x-clipmeter-attempts", str(attempts)),
        ("cache-status", cache_status),
        ("x-upstream-request-id", ids.request_id),
        ("x-upstream-origin-request-id", ids.origin_request_id),
        ("x-upstream-video-id", ids.id),
    ]
    return [
        ("x-clipmeter-generation", generation_id),
        ("x-clipmeter-clips", ",".join(clip_ids)),
        *((name, value) for name, value in optional if value),
    ]
