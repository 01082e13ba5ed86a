"""What is wrong with a configuration, in words: one key at a time, and keys that disagree."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel

from proxy.config_file import KeyPath, dotted
from proxy.config_values import is_loopback
from proxy.core.pricing import parse_usd

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from pydantic import ValidationError

    from proxy.config import Config, Limits

_GROUP_TYPES: Final = frozenset({"model_type", "model_attributes_type", "mapping_type"})
_NAMED_MAX: Final = 12
"""How many names are listed in a problem before the rest is only counted."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and the groups of the file in which it is."""

    groups: frozenset[str]
    text: str


class DisagreementError(ValueError):
    """Values that are right one by one and wrong together."""

    def __init__(self, found: list[Problem]) -> None:
        super().__init__("; ".join(problem.text for problem in found))
        self.found = found


def worded(
    error: ValidationError, config: type[BaseModel], known: Container[KeyPath] = ()
) -> list[Problem]:
    """Each of pydantic's errors for an operator, but for the paths that are `known` already."""
    problems: list[Problem] = []
    for one in error.errors(include_url=False, include_input=False):
        path: KeyPath = one["loc"]
        cause = one.get("ctx", {}).get("error")
        if isinstance(cause, DisagreementError):
            problems.extend(cause.found)
        elif path not in known:
            text = f"{dotted(path)}: {_allowed(one['type'], one['msg'], path, config)}"
            problems.append(Problem(frozenset({str(path[0])}), text))
    return problems


def disagreements(config: Config) -> Iterator[Problem]:
    """What one group says against another, or one entry of a list against the next."""
    yield from _in({"upstream", "vault"}, _gateways(config))
    yield from _in({"secrets", "database"}, _secret(config))
    yield from _in({"models"}, _twice("models", [model.name for model in config.models]))
    yield from _in({"models"}, _frames(config))
    yield from _in({"models", "prices"}, _prices(config))
    yield from _in({"models", "aliases"}, _aliases(config))
    yield from _in({"limits"}, _limits(config.limits))
    if config.vault.clip_bytes_max > config.vault.bytes_max:
        yield from _in({"vault"}, ["vault.clip_bytes_max: must not exceed vault.bytes_max"])
    if config.replay.answer_bytes_max > config.replay.answers_bytes_max:
        most = "replay.answers_bytes_max"
        yield from _in({"replay"}, [f"replay.answer_bytes_max: must not exceed {most}"])


def doubts(config: Config) -> Iterator[str]:
    """What is allowed and seldom meant."""
    priced = {name for row in config.prices for name in row.models}
    for model in config.catalog():
        if model.name not in priced:
            yield f"prices: {model.name} has no price, so every request for it is refused"
    for number, row in enumerate(config.prices):
        if not parse_usd(row.usd_per_clip):
            yield f"prices[{number}].usd_per_clip: is 0, so these clips cost their tenants nothing"
    if config.server.metrics_public and not is_loopback(config.server.host):
        yield "server.metrics_public: shows everyone who reaches this host what teams spend"
    if config.vault.download_private:
        yield "vault.download_private: clip links may lead to private addresses; for tests only"
    if config.vault.redirect and (config.vault.url or "file:").startswith("file:"):
        yield "vault.redirect: there is no bucket to send callers to, so it does nothing"
    if config.database.url is not None and config.vault.url is None:
        yield "vault.url: processes on other machines do not see clips in a folder of this one"
    urls = [gateway.url for gateway in config.upstream.gateways]
    for url in sorted({url for url in urls if urls.count(url) > 1}):
        yield f"upstream.gateways: {url} stands more than once, so one failure is tried again there"


def _in(groups: set[str], texts: Iterable[str]) -> Iterator[Problem]:
    for text in texts:
        yield Problem(frozenset(groups), text)


def _gateways(config: Config) -> Iterator[str]:
    gateways = config.upstream.gateways
    yield from _twice("upstream.gateways", [gateway.name for gateway in gateways])
    for number, gateway in enumerate(gateways):
        parts = urlsplit(gateway.url)
        private = config.vault.download_private or is_loopback(parts.hostname or "")
        if parts.scheme != "https" and not private:
            yield (
                f"upstream.gateways[{number}].url: must be https:// (http:// only on this "
                "machine, or with vault.download_private)"
            )


def _secret(config: Config) -> Iterator[str]:
    if config.database.url is not None and config.secrets.key is None:
        yield "secrets.key: is required with PostgreSQL, so that every process has the same"


def _twice(path: str, names: list[str]) -> Iterator[str]:
    for number, name in enumerate(names):
        if name in names[:number]:
            yield f"{path}[{number}].name: {name} stands already at {path}[{names.index(name)}]"


def _frames(config: Config) -> Iterator[str]:
    for number, model in enumerate(config.models):
        if model.name.endswith("-fl") and not model.images:
            yield f"models[{number}].images: must be 1 or 2, because {model.name} ends with -fl"


def _prices(config: Config) -> Iterator[str]:
    names = config.catalog().models
    seen: dict[tuple[str, object], int] = {}
    for number, row in enumerate(config.prices):
        for name in row.models:
            if name not in names:
                yield f"prices[{number}].models: {_unknown(name, list(names))}"
            first = seen.setdefault((name, row.valid_from), number)
            if first != number or row.models.count(name) > 1:
                there = f"{row.valid_from} in prices[{first}]"
                yield f"prices[{number}].models: {name} has a price from {there} already"


def _aliases(config: Config) -> Iterator[str]:
    names = config.catalog().models
    for alias, name in config.aliases.items():
        if alias in names:
            yield f"aliases.{alias}: is a model itself; an alias must have a name of its own"
        if name not in names:
            yield f"aliases.{alias}: {_unknown(name, list(names))}"


def _limits(limits: Limits) -> Iterator[str]:
    for low, high in (
        ("request_text_bytes_max", "request_bytes_max"),
        ("image_bytes_max", "request_bytes_max"),
        ("head_seconds_max", "answer_seconds_max"),
        ("stall_seconds_max", "answer_seconds_max"),
        ("connect_seconds_max", "answer_seconds_max"),
        ("keepalive_seconds_min", "keepalive_seconds_max"),
        ("breaker_seconds", "breaker_seconds_max"),
        ("drain_listen_seconds", "drain_seconds_max"),
        ("download_open_seconds_max", "download_seconds_max"),
        ("download_stall_seconds_max", "download_seconds_max"),
    ):
        if getattr(limits, low) > getattr(limits, high):
            yield f"limits.{low}: must not exceed limits.{high}"
    if limits.orphan_seconds < 2 * limits.heartbeat_seconds:
        yield "limits.orphan_seconds: must be twice limits.heartbeat_seconds or more"


def _allowed(kind: str, message: str, path: KeyPath, config: type[BaseModel]) -> str:
    if kind == "extra_forbidden":
        return _unknown(str(path[-1]), sorted(_keys(path[:-1], config)), "key")
    if kind == "missing":
        return "is missing"
    if kind in _GROUP_TYPES:
        return "must be a group of keys"
    if kind == "tuple_type":
        return "must be a list"
    if kind.startswith("date"):
        return "must be a day such as 2025-01-31"
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    for start in ("Input should be ", "Input should ", "String should "):
        if message.startswith(start):
            return f"must {'be ' if start.endswith('be ') else ''}{message.removeprefix(start)}"
    return message


def _unknown(name: str, known: list[str], what: str = "model") -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"there is no {what} {name}; did you mean {near[0]}?"
    more = f" and {len(known) - _NAMED_MAX} more" if len(known) > _NAMED_MAX else ""
    return f"there is no {what} {name}; there are {', '.join(known[:_NAMED_MAX])}{more}"


def _keys(path: KeyPath, config: type[BaseModel]) -> list[str]:
    """The keys of the group at `path`, as the file writes them."""
    group = config
    for part in path:
        if isinstance(part, str):
            annotation = group.model_fields[part].annotation
            group = next(
                kind
                for kind in (annotation, *get_args(annotation))
                if isinstance(kind, type) and issubclass(kind, BaseModel)
            )
    return [field.alias or name for name, field in group.model_fields.items()]
