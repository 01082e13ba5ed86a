"""The README is true: its commands exist, its tables are the program's own, its stories happen."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import typer.main
from prometheus_client import CollectorRegistry

from proxy import control
from proxy.cli import app
from proxy.commands import operator_of
from proxy.config import Config, parse
from proxy.errors import CODES
from proxy.metrics import Metrics
from proxy.sandbox import markdown
from proxy.serve import Running, running
from tests.running import ask

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()

CONTRACT_SERIES = frozenset(
    """
    http_requests_total http_request_seconds overhead_seconds upstream_requests_total
    upstream_seconds rotations_total gateway_state clips_total billed_usd_total avoided_usd_total
    generation_seconds streams_open jobs_unfinished job_oldest_seconds clips_unarchived
    clip_link_expiry_seconds_min cache_requests_total vault_bytes vault_clips
    tenant_budget_used_ratio ledger_parity_clips exposure_usd clips_maybe_bought_twice_total
    vendor_balance_usd capture_ratio unpriced_clips_total spool_records build_info
    """.split()  # noqa: SIM905 - a table reads better than a list of quotes
)

BEYOND_THE_CONTRACT = {
    "clips_damaged_total",
    "clips_lost_total",
    "listeners_dropped_total",
    "surplus_links_total",
    "written_off_usd_total",
}
"""Series that nobody was promised and somebody will be glad of."""


class Outcome(NamedTuple):
    """A row of the README's "What happens when"."""

    prompt: str
    sees: str
    shows: str


def block(name: str) -> str:
    """What stands between a marker of the README and its end."""
    return README.split(f"<!-- {name} -->\n")[1].split("<!-- end -->")[0]


def cells(name: str) -> Iterator[list[str]]:
    """The rows of a marked table, without its head."""
    for line in block(name).splitlines()[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def fences(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


OUTCOMES = [Outcome(*row) for row in cells("outcomes")]


def test_the_table_of_errors_is_the_programs() -> None:
    told = [(int(status), code.strip("`"), retry) for status, code, retry, _ in cells("errors")]
    made = [
        (code.status, name, "no" if code.retry_seconds is None else "yes")
        for name, code in CODES.items()
    ]
    assert told == made


def test_the_words_are_the_sandboxes_own() -> None:
    assert block("words") == markdown()


@pytest.mark.parametrize("line", [line for fence in fences("bash") for line in fence.splitlines()])
def test_a_command_in_the_readme_exists(line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets
    elif words[0] == "clipmeter":
        command: Any = typer.main.get_command(app)
        for word in words[1:]:
            if word in getattr(command, "commands", {}):
                command = command.commands[word]
            elif word.startswith("--"):
                options = {option for one in command.params for option in one.opts}
                assert word in options, line
        assert not hasattr(command, "commands"), line
    else:
        assert words[0] in {"export", "curl"}


@pytest.mark.parametrize("program", fences("python"), ids=["chat", "video", "key"])
def test_a_program_in_the_readme_is_python_against_our_own_models(program: str) -> None:
    names = {
        keyword.value.value
        for node in ast.walk(ast.parse(program))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "model" and isinstance(keyword.value, ast.Constant)
    }
    assert names <= set(parse({}, {}).catalog().models)
    assert names


def test_links_lead_to_files_and_limits_to_settings() -> None:
    for target in re.findall(r"\]\(([a-z.]+)\)", README):
        assert (ROOT / target).is_file(), target
    config = Config()
    for group, name in re.findall(
        r"`(limits|follow|replay|database|server|vault)\.([a-z_]+)`", README
    ):
        assert hasattr(getattr(config, group), name), name
    assert config.server.port == 8080


def test_every_series_is_promised_or_listed_here() -> None:
    metrics = Metrics(["veo-3.1"], ["api"], tenant_labels_max=2)
    ours = {name for name in exposed(metrics.registry) if name.startswith("clipmeter_")}
    names = {name.removeprefix("clipmeter_") for name in ours}
    assert names <= CONTRACT_SERIES | BEYOND_THE_CONTRACT
    assert {"clips_total", "billed_usd_total", "exposure_usd", "gateway_state"} <= names


def exposed(registry: CollectorRegistry) -> Iterator[str]:
    for family in registry.collect():
        yield f"{family.name}_total" if family.type == "counter" else family.name


@asynccontextmanager
async def rehearsal(folder: Path) -> AsyncIterator[tuple[Running, str]]:
    """A server in front of quick pretended gateways, and a team's key."""
    limits = {"drain_listen_seconds": 0, "breaker_faults": 1000}
    config = parse({"data_dir": str(folder), "server": {"port": 0}, "limits": limits}, {})
    async with running(config, sandbox=True, speed=50) as server:
        operator = operator_of(server.config, server.house.database)
        await control.run(operator, "tenant add", {"name": "team"})
        made = await control.run(operator, "key add", {"tenant": "team"})
        yield server, made["key"]


async def answer(url: str, key: str, body: dict[str, Any]) -> tuple[int, str, bool, set[str]]:
    """Status, body, whether it broke off, and the names of its headers."""
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    path = f"{url}/v1/chat/completions"
    async with (
        aiohttp.ClientSession() as session,
        session.post(path, data=json.dumps(body), headers=headers) as response,
    ):
        names = {name.lower() for name in response.headers}
        try:
            return response.status, await response.text(), False, names
        except aiohttp.ClientError:
            return response.status, "", True, names


async def test_what_the_readme_says_happens(tmp_path: Path) -> None:
    async with rehearsal(tmp_path) as (server, key):
        operator = operator_of(server.config, server.house.database)
        before: Counter[str] = Counter()
        for outcome in OUTCOMES:
            words = " ".join(re.findall(r"\[\[[^\]]+\]\]", outcome.prompt))
            clips = 2 if "`n` 2" in outcome.prompt else 1
            status, body, broken, headers = await answer(
                server.url, key, ask(f"a cat {words}", n=clips)
            )
            assert str(status) == outcome.sees[:3], outcome
            assert broken is ("breaks off" in outcome.sees), outcome
            assert ("✅" in body) is bool(re.search(r"the clip|one clip", outcome.sees)), outcome
            for code in re.findall(r"`(\w+)`", outcome.sees):
                assert code not in CODES or f'"{code}"' in body, outcome
            assert "retry-after" in headers or "`retry-after`" not in outcome.sees, outcome
            after = await settled(operator)
            shown = Counter({state: after[state] - before[state] for state in after})
            told = {word: int(count) for count, word in re.findall(r"(\d) (\w+)", outcome.shows)}
            assert {state: count for state, count in shown.items() if count} == told, outcome
            before = after


async def settled(operator: Any) -> Counter[str]:
    """How many clips ended each way, once none is under way."""
    while True:
        totals = (await control.run(operator, "usage", {}))["totals"]
        ended = {name: totals[name] for name in ("delivered", "failed", "unknown")}
        if sum(ended.values()) == totals["requested"]:
            return Counter(ended)
