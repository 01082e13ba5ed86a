"""config.yaml + environment → one frozen Config; every limit is named here.

The groups are those of the file, key by key; `config.example.yaml` says why each default is what
it is. Durations are seconds unless the name says hours or days, sizes are bytes, amounts are
decimal strings of US dollars. Nothing here shows a secret, nor a value that might be one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from proxy import config_file
from proxy.config_checks import DisagreementError, Problem, disagreements, doubts, worded
from proxy.config_file import ConfigError, dotted
from proxy.config_values import (
    Bytes,
    Count,
    GatewayName,
    GatewayUrl,
    HostPattern,
    ModelName,
    OwnSecret,
    Port,
    PostgresUrl,
    PublicUrl,
    Ratio,
    RotateOn,
    Seconds,
    SecondsOrZero,
    Share,
    Size,
    Text,
    Usd,
    VaultUrl,
    VendorSecret,
    some,
)
from proxy.core.catalog import Catalog, Model
from proxy.core.pricing import PriceLine, parse_usd

__all__ = ["Config", "ConfigError", "Gateway", "Limits", "load", "parse"]

VENDOR_KEY_VARIABLE: Final = "APIYI_API_KEY"
"""Where `upstream.api_key` comes from when the file does not name it."""

SQLITE_FILE: Final = "clipmeter.db"


class Group(BaseModel):
    """One group of the file: unknown keys are refused, and nothing changes once it is read."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, protected_namespaces=()
    )


class Server(Group):
    """Where to listen; port 0 takes any free one."""

    host: Text = "127.0.0.1"
    port: Port = 8080
    public_url: PublicUrl | None = None
    trusted_hosts: tuple[HostPattern, ...] = ()
    metrics_public: bool = False


class Secrets(Group):
    """The installation's one secret, from which each purpose derives its own key."""

    key: OwnSecret | None = None


class Database(Group):
    """PostgreSQL's address; None is SQLite under `data_dir`."""

    url: PostgresUrl | None = None


class Vault(Group):
    """Where clip bytes are kept, how long, and whence they may be fetched."""

    url: VaultUrl | None = None
    retention_days: Count = 30
    bytes_max: Bytes = 50 * 2**30
    clip_bytes_max: Bytes = 256 * 2**20
    near_bytes_max: Bytes = 2 * 2**30
    free_bytes_min: Bytes = 2 * 2**30
    signed_link_seconds: Seconds = 3600
    redirect: bool = False
    download_hosts: tuple[HostPattern, ...] = ("*",)
    download_private: bool = False


class Gateway(Group):
    """One of the upstream domains: its name in metrics and headers, and its origin."""

    name: GatewayName
    url: GatewayUrl


class Upstream(Group):
    """The vendor: our key, its gateways in the order they are tried, what moves us on."""

    api_key: VendorSecret | None = None
    gateways: Annotated[tuple[Gateway, ...], AfterValidator(some)] = (
        Gateway(name="api", url="https://api.apiyi.com"),
        Gateway(name="vip", url="https://vip.apiyi.com"),
        Gateway(name="b", url="https://b.apiyi.com"),
    )
    rotate_on: tuple[RotateOn, ...] = ("5xx",)
    account_token: VendorSecret | None = None


class Limits(Group):
    """Everything that is bounded, with its unit last in its name.

    `_seconds…` are seconds, `_bytes…` bytes, `_ratio` a share; a name without a unit counts what
    it names: clips, requests, connections, keys.
    """

    # What a caller may send.
    connections_max: Count = 10_000  # open sockets; the next one is closed at once
    header_bytes_max: Bytes = 32 * 2**10  # all headers of one request
    request_seconds_max: Seconds = 30  # from the first byte of a request to its last
    request_bytes_max: Bytes = 16 * 2**20  # a body with images: two of 5 MiB, in base64
    request_text_bytes_max: Bytes = 2**20  # a body for a model that takes no image
    json_values_max: Count = 200_000  # commas and brackets of a body, before it is parsed
    json_depth_max: Count = 20  # objects and lists within each other
    image_bytes_max: Bytes = 5 * 2**20  # the vendor's own bound on an image
    image_pixels_max: Count = 40_000_000  # width times height, before anybody unfolds it
    image_side_max: Count = 8192  # pixels along the longer side
    form_parts_max: Count = 20  # fields and files of one multipart form
    videos_listed_max: Count = 100  # on one page of GET /v1/videos; OpenAI's own bound

    # What one try at a gateway may take.
    connect_seconds_max: Seconds = 5  # name, TCP and TLS; nothing is sent yet
    send_seconds_max: Seconds = 30  # the request's bytes on their way out
    head_seconds_max: Seconds = 600  # an unstreamed answer is silent to its end
    stall_seconds_max: Seconds = 180  # between bytes; 30 to 90 s of silence are usual
    answer_seconds_max: Seconds = 900  # the whole request, over every gateway tried
    answer_bytes_max: Bytes = 16 * 2**20  # an unstreamed answer, which is read whole
    event_bytes_max: Bytes = 4 * 2**20  # one event of a stream, which the meter holds
    error_bytes_max: Bytes = 64 * 2**10  # as much of an error body as is read
    submit_head_seconds_max: Seconds = 120  # a new job's answer; it takes the vendor up to 30
    job_bytes_max: Bytes = 256 * 2**10  # what a gateway says of one job

    # Following jobs to their end.
    jobs_followed_max: Count = 50_000  # by one process; the rest wait, or are another's
    polls_in_flight_max: Count = 512  # questions at once: 2,000 a second of 1/4 s each
    poll_answer_seconds_max: Seconds = 30  # one question, from its start to its last byte
    poll_pause_seconds_max: Seconds = 60  # between two, where a job or its gateway is in trouble

    # Fetching clips and giving them out.
    downloads_in_flight_max: Count = 8  # clips on their way into the vault
    download_open_seconds_max: Seconds = 20  # until a clip's first byte, redirects included
    download_stall_seconds_max: Seconds = 30  # between two bytes of a clip
    download_seconds_max: Seconds = 600  # one whole clip
    download_pause_seconds_max: Seconds = 300  # between two tries to fetch one clip
    content_wait_seconds_max: Seconds = 30  # a caller who waits for a clip that is being fetched
    pictures_waiting_max: Count = 20  # thumbnails and sheets in the making; the next is refused
    videos_remembered_max: Count = 20_000  # videos answered without asking the database
    video_memory_seconds: Seconds = 1  # how old such an answer may be

    # What a caller who reads slowly holds up: nothing but itself.
    listener_bytes_max: Bytes = 256 * 2**10  # waiting for one caller
    listeners_max: Count = 1_000  # callers who share one answer
    listener_stall_seconds_max: Seconds = 60  # a caller that takes nothing is let go
    keepalive_seconds_min: Seconds = 5  # the shortest x-clipmeter-keepalive
    keepalive_seconds_max: Seconds = 300  # and the longest

    # A gateway that fails is left alone for a while.
    breaker_faults: Count = 5  # in a row, of the host itself, before it is left alone
    breaker_seconds: Seconds = 30  # the first pause; it grows with each that follows
    breaker_seconds_max: Seconds = 300  # the longest pause
    breaker_jitter_ratio: Share = 0.2  # how far a pause strays, so that replicas spread

    # The ledger.
    vendor_clips_in_flight: Count | None = None  # over all tenants; None is no limit
    writes_waiting_max: Count = 10_000  # writes in the queue; the next is refused
    write_wait_seconds_max: Seconds = 10  # a write that has not begun by then is refused
    settle_seconds_max: Seconds = 30  # bytes held back until their clip is booked
    heartbeat_seconds: Seconds = 5  # how often a process says that it lives
    orphan_seconds: Seconds = 30  # a process silent for so long is dead

    # Keys and labels.
    key_cache_seconds: Seconds = 2  # a revoked key works no longer than this
    key_cache_keys_max: Count = 10_000  # keys remembered at once
    tenant_labels_max: Count = 200  # tenants by name in the metrics; the rest are `other`

    # Stopping.
    drain_listen_seconds: SecondsOrZero = 5  # still listening, to say 503, while routes change
    drain_seconds_max: Seconds = 900  # for answers under way: one whole answer


class Follow(Group):
    """How unfinished clips are chased."""

    poll_seconds: Seconds = 5
    give_up_hours: Seconds = 24


class Replay(Group):
    """When an answer is given again for free, and how much is kept for that.

    `answer_bytes_max` is for one answer, `answers_bytes_max` for all of them.
    """

    idempotency_hours: Seconds = 48
    reuse: Literal["never", "opt-in"] = "never"
    answer_bytes_max: Bytes = 2**20
    answers_bytes_max: Bytes = 512 * 2**20


class ExtraModel(Group):
    """A model beyond the documented eight; `images` is how many it takes at most."""

    name: ModelName
    size: Size
    seconds: Count
    images: Annotated[int, Field(ge=0, le=2)] = 0

    def model(self) -> Model:
        """The same for the catalogue; a name that ends with -fl needs an image."""
        images_min = 1 if self.name.endswith("-fl") else 0
        return Model(self.name, self.size, self.seconds, images_min, self.images)


class PriceRow(Group):
    """One price for several models from a day on (UTC)."""

    models: Annotated[tuple[ModelName, ...], AfterValidator(some)]
    usd_per_clip: Usd
    valid_from: Annotated[date, Field(alias="from")]


class Billing(Group):
    """What invoices and exports say of us; `topup_bonus` is a share of a top-up."""

    issuer: Text = "Clipmeter"
    topup_bonus: Ratio = Decimal("0.00")
    close_grace_hours: Seconds = 72


def _list_prices() -> tuple[PriceRow, ...]:
    names = sorted(Catalog.documented().models)
    start = date(2025, 1, 1)
    fast = tuple(name for name in names if "-fast" in name)
    standard = tuple(name for name in names if name not in fast)
    return (
        PriceRow(models=standard, usd_per_clip="0.25", **{"from": start}),
        PriceRow(models=fast, usd_per_clip="0.15", **{"from": start}),
    )


Aliases = Annotated[
    Mapping[ModelName, ModelName], AfterValidator(MappingProxyType), PlainSerializer(dict)
]


class Config(Group):
    """The whole configuration; `load` and `parse` make one, or say all that is wrong with it."""

    server: Server = Server()
    data_dir: Annotated[Path, AfterValidator(Path.expanduser)] = Path("data")
    secrets: Secrets = Secrets()
    database: Database = Database()
    vault: Vault = Vault()
    upstream: Upstream = Upstream()
    limits: Limits = Limits()
    follow: Follow = Follow()
    replay: Replay = Replay()
    models: tuple[ExtraModel, ...] = ()
    prices: tuple[PriceRow, ...] = Field(default_factory=_list_prices)
    billing: Billing = Billing()
    aliases: Aliases = Field(default_factory=lambda: MappingProxyType({}))

    @model_validator(mode="after")
    def _agree(self) -> Self:
        found = list(disagreements(self))
        if found:
            raise DisagreementError(found)
        return self

    @property
    def sqlite_path(self) -> Path:
        """Where the embedded database is, when `database.url` is None."""
        return self.data_dir / SQLITE_FILE

    def catalog(self) -> Catalog:
        """The vendor's eight models and those under `models:`."""
        return Catalog.documented().with_models(extra.model() for extra in self.models)

    def price_lines(self) -> list[PriceLine]:
        """A line for each model and day under `prices:`; its version is `model@day`."""
        return [
            PriceLine(name, parse_usd(row.usd_per_clip), row.valid_from, f"{name}@{row.valid_from}")
            for row in self.prices
            for name in row.models
        ]

    def warnings(self) -> list[str]:
        """What is allowed but seldom meant, in words for `clipmeter check`."""
        return list(doubts(self))


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """The configuration in `path`, $CLIPMETER_CONFIG or ./config.yaml, else the defaults.

    Raises `ConfigError` with every problem found.
    """
    found = config_file.find(path, environ)
    return parse({} if found is None else config_file.read(found), environ)


def parse(values: Mapping[str, object], environ: Mapping[str, str]) -> Config:
    """The configuration that `values`, the groups of a file, describe.

    A group without a value has its defaults. Raises `ConfigError` with every problem found.
    """
    filled = config_file.fill(values, environ)
    given = {key: value for key, value in filled.values.items() if value is not None}
    upstream = given.setdefault("upstream", {})
    if isinstance(upstream, dict) and environ.get(VENDOR_KEY_VARIABLE):
        given["upstream"] = {"api_key": environ[VENDOR_KEY_VARIABLE], **upstream}
    config, found = _validated(given, filled)
    # A group that is wrong hides what it says against others; the rest is judged without it.
    broken = {group for problem in found if len(problem.groups) == 1 for group in problem.groups}
    broken |= {str(path[0]) for path in filled.problems}
    if broken:
        _, more = _validated({key: given[key] for key in given if key not in broken}, filled)
        found += [problem for problem in more if not problem.groups & broken]
    problems = [f"{dotted(path)}: {text}" for path, text in filled.problems.items()]
    problems += dict.fromkeys(problem.text for problem in found)
    if config is None or problems:
        raise ConfigError(problems)
    return config


def _validated(
    given: Mapping[str, object], filled: config_file.Filled
) -> tuple[Config | None, list[Problem]]:
    try:
        return Config.model_validate(given), []
    except ValidationError as error:
        return None, worded(error, Config, known=filled.problems)
