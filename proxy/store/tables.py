"""The rows, declared with SQLModel; statements use the Core tables named at the end.

Money is whole micro-dollars in 64 bits, times are aware UTC, a month is the text "YYYY-MM". Which
changes the database itself refuses (entries are append-only, a clip's price never moves) stands in
the migrations. Indexes are few, because each is paid for by every admission.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Final

from sqlalchemy import JSON, BigInteger, CheckConstraint, Index, LargeBinary, TextClause, text
from sqlmodel import Field, SQLModel

from proxy.store.moments import Moment

VENDOR_TEXT_LENGTH_MAX: Final = 2_000
VENDOR_SCOPE: Final = "vendor"
"""The row of `flights` that counts every tenant's clips."""


def _partial(name: str, condition: TextClause, *columns: str) -> Index:
    """An index of those rows alone for which `condition` is so."""
    return Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


class Tenant(SQLModel, table=True):
    """Who pays; a missing limit means none, missing models mean all."""

    __tablename__ = "tenants"

    id: str = Field(primary_key=True)
    name: str = Field(unique=True)
    cost_center: str | None = None
    clips_per_month: int | None = Field(default=None, sa_type=BigInteger)
    micros_per_month: int | None = Field(default=None, sa_type=BigInteger)
    clips_in_flight: int | None = Field(default=None, sa_type=BigInteger)
    requests_per_minute: int | None = Field(default=None, sa_type=BigInteger)
    models: list[str] | None = Field(default=None, sa_type=JSON(none_as_null=True))
    created_at: datetime = Field(sa_type=Moment)
    disabled_at: datetime | None = Field(default=None, sa_type=Moment)


class Key(SQLModel, table=True):
    """What a caller shows, kept only as a keyed digest; tenant keys alone have a tenant."""

    __tablename__ = "keys"

    id: str = Field(primary_key=True)
    digest: str = Field(unique=True)
    tenant_id: str | None = Field(default=None, foreign_key="tenants.id")
    role: str
    label: str
    prefix: str
    created_at: datetime = Field(sa_type=Moment)
    expires_at: datetime | None = Field(default=None, sa_type=Moment)
    last_used_at: datetime | None = Field(default=None, sa_type=Moment)
    revoked_at: datetime | None = Field(default=None, sa_type=Moment)


class PriceRow(SQLModel, table=True):
    """One line of the price book; append-only."""

    __tablename__ = "prices"
    __table_args__ = (
        Index("prices_model_day", "model", "valid_from", unique=True),
        CheckConstraint("micros >= 0", name="prices_not_negative"),
    )

    version: str = Field(primary_key=True)
    model: str
    micros: int = Field(sa_type=BigInteger)
    valid_from: date
    added_at: datetime = Field(sa_type=Moment)
    origin: str


class Generation(SQLModel, table=True):
    """One paid request: what was asked, where it went, how it ended.

    `like_hash` is `body_hash` where any later request may have its answer, else null. One without
    attempts is an answer given again, "replayed", which bought nothing.
    """

    __tablename__ = "generations"
    __table_args__ = (
        # In the order of time, which costs next to nothing: a digest's place is a new page each.
        _partial(
            "generations_recent", text("attempts > 0"), "tenant_id", "accepted_at", "body_hash"
        ),
        _partial(
            "generations_alike",
            text("like_hash IS NOT NULL"),
            "tenant_id",
            "like_hash",
            "accepted_at",
        ),
    )

    id: str = Field(primary_key=True)
    tenant_id: str = Field(foreign_key="tenants.id")
    key_id: str = Field(foreign_key="keys.id")
    mode: str
    model: str
    asked_model: str
    clips: int
    stream: bool
    body_hash: str
    like_hash: str | None = None
    prompt: str | None = None
    accepted_at: datetime = Field(sa_type=Moment)
    month: str
    process_id: str
    gateway: str | None = None
    attempts: int
    upstream_request_id: str | None = None
    upstream_origin_request_id: str | None = None
    upstream_id: str | None = None
    status: int | None = None
    ended_at: datetime | None = Field(default=None, sa_type=Moment)
    ending: str | None = None
    reason: str | None = None
    vendor_text: str | None = None


class Clip(SQLModel, table=True):
    """The unit rendered and billed; its price is frozen when it is accepted.

    `month` is the budget's, of acceptance; `finance_month` that of the end, null until then.
    `replay_of` names the delivered clip that a replayed one gives again.
    """

    __tablename__ = "clips"
    __table_args__ = (
        Index("clips_position", "generation_id", "position", unique=True),
        _partial("clips_listing", text("replay_of IS NULL"), "tenant_id", "accepted_at", "id"),
        _partial("clips_unsettled", text("completed_at IS NULL"), "month", "accepted_at"),
        _partial("clips_finance", text("finance_month IS NOT NULL"), "finance_month", "tenant_id"),
        CheckConstraint("price_micros >= 0", name="clips_price_not_negative"),
        CheckConstraint("list_micros >= 0", name="clips_list_not_negative"),
        CheckConstraint("(state = 'replayed') = (replay_of IS NOT NULL)", name="clips_replay_of"),
    )

    id: str = Field(primary_key=True)
    generation_id: str = Field(foreign_key="generations.id")
    tenant_id: str = Field(foreign_key="tenants.id")
    position: int
    model: str
    state: str
    price_micros: int = Field(sa_type=BigInteger)
    list_micros: int = Field(sa_type=BigInteger)
    price_version: str
    accepted_at: datetime = Field(sa_type=Moment)
    month: str
    completed_at: datetime | None = Field(default=None, sa_type=Moment)
    finance_month: str | None = None
    reason: str | None = None
    url: str | None = None
    vendor_text: str | None = None
    deleted_at: datetime | None = Field(default=None, sa_type=Moment)
    replay_of: str | None = Field(default=None, foreign_key="clips.id")


class IdempotencyKey(SQLModel, table=True):
    """What a caller calls a purchase: the generation that the same name means again."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        Index("idempotency_keys_generation", "generation_id"),
        Index("idempotency_keys_expiry", "expires_at"),
    )

    tenant_id: str = Field(primary_key=True, foreign_key="tenants.id")
    mode: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    generation_id: str = Field(foreign_key="generations.id")
    body_hash: str
    created_at: datetime = Field(sa_type=Moment)
    expires_at: datetime = Field(sa_type=Moment)


class Answer(SQLModel, table=True):
    """What a generation's caller was answered; its bytes stand last, where nobody reads past them.

    `headers` are pairs of texts; `size_bytes` counts them and the body.
    """

    __tablename__ = "answers"
    __table_args__ = (
        Index("answers_expiry", "expires_at"),
        Index("answers_age", "stored_at", "size_bytes"),
    )

    generation_id: str = Field(primary_key=True, foreign_key="generations.id")
    status: int
    size_bytes: int = Field(sa_type=BigInteger)
    stored_at: datetime = Field(sa_type=Moment)
    expires_at: datetime = Field(sa_type=Moment)
    headers: list[list[str]] = Field(sa_type=JSON)
    body: bytes = Field(sa_type=LargeBinary)


class Join(SQLModel, table=True):
    """An SDK's repeat of a request, by its count of tries: one count joins a generation once."""

    __tablename__ = "joins"

    generation_id: str = Field(primary_key=True, foreign_key="generations.id")
    retry_count: int = Field(primary_key=True)
    joined_at: datetime = Field(sa_type=Moment)


class Job(SQLModel, table=True):
    """A video that the vendor is asked about until it ends, and who asks.

    `owner` is a process; while it lives the job is its own, and nobody else's. Whoever takes the
    job over counts `fence` up, and what an earlier owner still knows changes nothing then.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        _partial("jobs_unfinished", text("ended_at IS NULL"), "owner"),
        CheckConstraint("percent BETWEEN 0 AND 100", name="jobs_percent"),
    )

    clip_id: str = Field(primary_key=True, foreign_key="clips.id")
    gateway: str
    upstream_id: str
    percent: int
    owner: str | None = None
    fence: int = Field(sa_type=BigInteger)
    started_at: datetime = Field(sa_type=Moment)
    ended_at: datetime | None = Field(default=None, sa_type=Moment)


class Keeping(SQLModel, table=True):
    """What became of a delivered clip's bytes; born with the clip's charge.

    `state` is "waiting" (to be fetched, until `link_dies_at`), "kept", "lost", "evicted" or
    "deleted". `owner` and `fence` are as a job's.
    """

    __tablename__ = "keepings"
    __table_args__ = (
        _partial("keepings_waiting", text("state = 'waiting'"), "next_try_at"),
        _partial("keepings_kept", text("state = 'kept'"), "kept_at"),
        CheckConstraint(
            "state IN ('waiting', 'kept', 'lost', 'evicted', 'deleted')", name="keepings_state"
        ),
        CheckConstraint(
            # A check that is null would pass.
            "state <> 'kept' OR (sha256 IS NOT NULL AND COALESCE(size_bytes, 0) > 0"
            " AND kept_at IS NOT NULL)",
            name="keepings_kept_is_known",
        ),
    )

    clip_id: str = Field(primary_key=True, foreign_key="clips.id")
    state: str
    link_dies_at: datetime = Field(sa_type=Moment)
    tries: int
    next_try_at: datetime = Field(sa_type=Moment)
    trouble: str | None = None
    owner: str | None = None
    fence: int = Field(sa_type=BigInteger)
    sha256: str | None = None
    size_bytes: int | None = Field(default=None, sa_type=BigInteger)
    kept_at: datetime | None = Field(default=None, sa_type=Moment)
    used_at: datetime | None = Field(default=None, sa_type=Moment)


class Attempt(SQLModel, table=True):
    """One try at one gateway; its outcome is "dispatching" until it is known."""

    __tablename__ = "attempts"
    __table_args__ = (
        _partial("attempts_exposed", text("exposure_micros > 0"), "generation_id"),
        CheckConstraint("exposure_micros >= 0", name="attempts_not_negative"),
    )

    generation_id: str = Field(primary_key=True, foreign_key="generations.id")
    number: int = Field(primary_key=True)
    gateway: str
    started_at: datetime = Field(sa_type=Moment)
    ended_at: datetime | None = Field(default=None, sa_type=Moment)
    outcome: str
    status: int | None = None
    reason: str | None = None
    maybe_accepted: bool
    exposure_micros: int = Field(sa_type=BigInteger)
    upstream_request_id: str | None = None
    upstream_origin_request_id: str | None = None


class LedgerEntry(SQLModel, table=True):
    """One line of the ledger, append-only.

    `id` is derived from what it records, and `settles`, unique, is the clip of a charge or a
    release: so the database itself refuses to book a fact twice, or to settle a clip both ways.
    """

    __tablename__ = "entries"
    __table_args__ = (
        Index("entries_settles", "settles", unique=True),
        CheckConstraint("amount_micros >= 0", name="entries_not_negative"),
        CheckConstraint("kind IN ('hold', 'charge', 'release')", name="entries_kind"),
        CheckConstraint("id = kind || ':' || clip_id", name="entries_derived_id"),
        CheckConstraint(
            "(kind = 'hold') = (settles IS NULL) AND (settles IS NULL OR settles = clip_id)",
            name="entries_settles_its_clip",
        ),
    )

    id: str = Field(primary_key=True)
    kind: str
    clip_id: str = Field(foreign_key="clips.id")
    tenant_id: str
    amount_micros: int = Field(sa_type=BigInteger)
    booked_at: datetime = Field(sa_type=Moment)
    month: str
    settles: str | None = None


class Budget(SQLModel, table=True):
    """What a tenant's clips accepted in a month hold or were charged."""

    __tablename__ = "budgets"

    tenant_id: str = Field(primary_key=True, foreign_key="tenants.id")
    month: str = Field(primary_key=True)
    clips: int = Field(sa_type=BigInteger)
    micros: int = Field(sa_type=BigInteger)


class Flight(SQLModel, table=True):
    """Clips in flight: one row for each tenant, and the vendor account's own."""

    __tablename__ = "flights"

    scope: str = Field(primary_key=True)
    clips: int = Field(sa_type=BigInteger)


class Minute(SQLModel, table=True):
    """Requests that a tenant's latest minute has seen."""

    __tablename__ = "minutes"

    tenant_id: str = Field(primary_key=True, foreign_key="tenants.id")
    minute: datetime = Field(sa_type=Moment)
    requests: int = Field(sa_type=BigInteger)


class Process(SQLModel, table=True):
    """A running server, so that the generations of one that died are found."""

    __tablename__ = "processes"

    id: str = Field(primary_key=True)
    started_at: datetime = Field(sa_type=Moment)
    seen_at: datetime = Field(sa_type=Moment)


class Installation(SQLModel, table=True):
    """Facts about this installation, such as the sandbox's stamp."""

    __tablename__ = "installation"

    key: str = Field(primary_key=True)
    value: str


METADATA: Final = SQLModel.metadata

TENANTS: Final = METADATA.tables["tenants"]
KEYS: Final = METADATA.tables["keys"]
PRICES: Final = METADATA.tables["prices"]
GENERATIONS: Final = METADATA.tables["generations"]
CLIPS: Final = METADATA.tables["clips"]
IDEMPOTENCY_KEYS: Final = METADATA.tables["idempotency_keys"]
ANSWERS: Final = METADATA.tables["answers"]
JOINS: Final = METADATA.tables["joins"]
JOBS: Final = METADATA.tables["jobs"]
KEEPINGS: Final = METADATA.tables["keepings"]
ATTEMPTS: Final = METADATA.tables["attempts"]
ENTRIES: Final = METADATA.tables["entries"]
BUDGETS: Final = METADATA.tables["budgets"]
FLIGHTS: Final = METADATA.tables["flights"]
MINUTES: Final = METADATA.tables["minutes"]
PROCESSES: Final = METADATA.tables["processes"]
INSTALLATION: Final = METADATA.tables["installation"]
