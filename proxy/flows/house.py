"""What every flow works with: made once by the application, handed to each flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from proxy.config import Config
from proxy.core.catalog import Catalog
from proxy.core.pricing import PriceBook
from proxy.flows.background import Background
from proxy.flows.fleet import FleetKeeper
from proxy.flows.settle import Settler
from proxy.metrics import Metrics
from proxy.remote.download import Downloads
from proxy.remote.gateway import Gateway, Gateways
from proxy.store.database import Database
from proxy.store.vault import Vault

if TYPE_CHECKING:
    from proxy.flows.archive import Archive
    from proxy.flows.follow import Follower
    from proxy.flows.paid import PaidRun
    from proxy.flows.savings import Savings
    from proxy.flows.standing import Standings


class Clock(Protocol):
    """The two times: `now` for records (aware, UTC), `monotonic` seconds for waits."""

    def now(self) -> datetime:
        """The time of day, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...


@dataclass(slots=True)
class House:
    """The application's parts, as the flows use them.

    `mint` makes an id with a given prefix; `process_id` names this process in the database.
    `addresses` has each gateway by its name. `prices` is replaced as a whole when a price is added.
    `draining` is set by shutdown. `playback_keys` sign links to kept clips, the first of them, and
    verify them, each. `runs` are the paid requests under way, by generation. `standings`,
    `archive`, `follower` and `savings` work with the house themselves, so they are put in as soon
    as it stands.
    """

    config: Config
    catalog: Catalog
    prices: PriceBook
    database: Database
    gateways: Gateways
    addresses: Mapping[str, Gateway]
    fleet: FleetKeeper
    metrics: Metrics
    settler: Settler
    background: Background
    clock: Clock
    mint: Callable[[str], str]
    process_id: str
    vault: Vault
    downloads: Downloads
    draining: bool = False
    runs: dict[str, PaidRun] = field(default_factory=dict)
    playback_keys: tuple[bytes, ...] = field(init=False, repr=False)
    standings: Standings = field(init=False)
    archive: Archive = field(init=False)
    follower: Follower = field(init=False)
    savings: Savings = field(init=False)
