"""The command `clipmeter`: what operators type, and what they are told.

Everything heavy is loaded by the command that needs it, so that `--help` is quick.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from proxy.config import Config

REFUSED = 1
"""The exit code of a command that cannot be done."""
MISCONFIGURED = 2
"""The exit code of a configuration that cannot be read; typer's own for a wrong option."""

app = typer.Typer(
    help="An OpenAI-compatible caching and metering proxy for per-clip video generation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
tenant_app = typer.Typer(help="Teams that pay, and their limits.", no_args_is_help=True)
key_app = typer.Typer(help="Keys that callers show.", no_args_is_help=True)
ledger_app = typer.Typer(help="The ledger itself.", no_args_is_help=True)
app.add_typer(tenant_app, name="tenant")
app.add_typer(key_app, name="key")
app.add_typer(ledger_app, name="ledger")

Name = Annotated[str, typer.Argument(help="The tenant's name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

TERMS = {
    "clips_per_month": ("N", "Clips accepted in a month (UTC)."),
    "usd_per_month": ("X", "Dollars held or charged in a month (UTC)."),
    "clips_in_flight": ("N", "Clips being made at once."),
    "requests_per_minute": ("N", "Paid requests in a minute."),
    "models": ("GLOB,…", "Models it may use, such as veo-3.1-fast*."),
    "cost_center": ("C", "A word for finance to group by."),
}
"""What can be agreed with a tenant: how each option's value is shown, and its help."""


class Format(StrEnum):
    """How `usage` prints."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class Role(StrEnum):
    """What a key may do."""

    TENANT = "tenant"
    FINANCE = "finance"
    ADMIN = "admin"
    METRICS = "metrics"


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without our letters still works
    try:
        app(prog_name="clipmeter")
    except BrokenPipeError:  # `clipmeter usage | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(REFUSED)


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="config.yaml; by default $CLIPMETER_CONFIG, else ./config.yaml, else defaults.",
        ),
    ] = None,
) -> None:
    """Take the options that stand before every command."""
    context.obj = config


@app.command()
def demo(
    *,
    once: Annotated[bool, typer.Option("--once", help="Exit when the clips are made.")] = False,
) -> None:
    """Render two clips through pretended gateways on this machine; nothing is paid."""
    from proxy.demo import run

    with _told():
        sys.exit(asyncio.run(run(once=once)))


@app.command()
def serve(
    context: typer.Context,
    *,
    host: Annotated[str | None, typer.Option(help="Instead of server.host.")] = None,
    port: Annotated[int | None, typer.Option(help="Instead of server.port; 0 is any.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; above 1 on PostgreSQL.")] = 1,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Pretended gateways.")] = False,
) -> None:
    """Run the proxy."""
    config = _config(context)
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    config = config.model_copy(update={"server": config.server.model_copy(update=given)})
    from proxy.serve import run

    with _told():
        run(config, workers=workers, sandbox=sandbox, arguments=sys.argv[1:])


@app.command()
def sandbox(
    port: Annotated[int, typer.Option(help="The first of three ports in a row.")] = 8090,
    speed: Annotated[float, typer.Option(min=0.001, help="Divides how long a clip takes.")] = 1.0,
) -> None:
    """Run the three pretended gateways alone, on PORT, PORT+1 and PORT+2."""
    from proxy.sandbox import serve as run

    with _told(), contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(port=port, speed=speed, announce=typer.echo))


@app.command()
def check(context: typer.Context) -> None:
    """Look for problems in the configuration, the database and the gateways."""
    config = _config(context)
    from proxy.check import look

    with _told():
        findings = asyncio.run(look(config))
    for finding in findings:
        typer.echo(f"{finding.verdict:<8} {finding.subject:<10} {finding.words}")
    if any(finding.is_problem for finding in findings):
        sys.exit(REFUSED)


@app.command()
def migrate(context: typer.Context) -> None:
    """Bring the database's schema up to date; serve does it too."""
    config = _config(context)
    from proxy.commands import migrate as run

    with _told():
        typer.echo(run(config))


@app.command()
def usage(
    context: typer.Context,
    month: Annotated[
        str | None, typer.Option(metavar="YYYY-MM", help="By default this one (UTC).")
    ] = None,
    by: Annotated[
        str, typer.Option(metavar="A,B", help="Of tenant, model, day, key and cost_center.")
    ] = "tenant,model",
    form: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.TABLE,
) -> None:
    """Clips requested, delivered, failed and unknown in a month, and what they cost."""
    said = _do(context, "usage", month=month, by=by)
    from proxy.terminal import print_usage

    print_usage(said, by, form)


def _with_terms(command: Callable[..., None]) -> Callable[..., None]:
    """`command`, whose last parameter takes one option for each of the terms."""
    given = [
        Parameter(
            name,
            Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[str | None, typer.Option(metavar=metavar, help=words)],
        )
        for name, (metavar, words) in TERMS.items()
    ]
    signature = inspect.signature(command, eval_str=True)
    own = [one for one in signature.parameters.values() if one.kind is not Parameter.VAR_KEYWORD]
    signature = signature.replace(parameters=[*own, *given])
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in (*own, *given)}
    return command


@tenant_app.command("add")
@_with_terms
def tenant_add(context: typer.Context, name: Name, **terms: str | None) -> None:
    """Add a team; a limit that is not given is none."""
    _do(context, "tenant add", name=name, terms=_read_terms(terms))
    typer.echo(f"tenant {name} added; key add {name} makes a key for it", err=True)


@tenant_app.command("set")
@_with_terms
def tenant_set(context: typer.Context, name: Name, **terms: str | None) -> None:
    """Change a team's limits; what is not given stays, the word none removes a limit."""
    _do(context, "tenant set", name=name, terms=_read_terms(terms))
    typer.echo(f"tenant {name} changed", err=True)


@tenant_app.command("list")
def tenant_list(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show every team and its limits."""
    _show(_do(context, "tenant list"), "tenants", as_json=as_json, but="id")


@tenant_app.command("disable")
def tenant_disable(context: typer.Context, name: Name) -> None:
    """Refuse all of a team's keys; what it bought stays in every report."""
    _do(context, "tenant disable", name=name)
    typer.echo(f"tenant {name} disabled", err=True)


@key_app.command("add")
def key_add(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Argument(help="Whose key; for the tenant role.")] = None,
    role: Annotated[Role, typer.Option(help="What the key may do.")] = Role.TENANT,
    label: Annotated[str, typer.Option(help="Words to know it by.")] = "",
    expires: Annotated[
        str | None, typer.Option(metavar="DATE", help="The last day (UTC) on which it works.")
    ] = None,
) -> None:
    """Make a key and print it: alone, on stdout, and never again."""
    made = _do(context, "key add", tenant=tenant, role=role.value, label=label, expires=expires)
    typer.echo(made["key"])
    typer.echo(f"{made['id']}: keep the key now, it is not shown again", err=True)


@key_app.command("list")
def key_list(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show every key but the keys themselves."""
    _show(_do(context, "key list"), "keys", as_json=as_json)


@key_app.command("revoke")
def key_revoke(
    context: typer.Context, key_id: Annotated[str, typer.Argument(help="Its id, key_….")]
) -> None:
    """Refuse a key from now on."""
    _do(context, "key revoke", key_id=key_id)
    typer.echo(f"{key_id} revoked", err=True)


@ledger_app.command("verify")
def ledger_verify(context: typer.Context) -> None:
    """Check every invariant over the whole ledger."""
    findings = _do(context, "ledger verify")
    for finding in findings:
        typer.echo(f"{finding['row']}: {finding['words']} ({finding['check']})")
    if findings:
        sys.exit(REFUSED)
    typer.echo("every invariant holds")


def _read_terms(given: Mapping[str, str | None]) -> dict[str, Any]:
    """The terms that were given; the word none stands for no limit."""
    terms: dict[str, Any] = {}
    for name, text in given.items():
        if text == "none":
            terms[name] = None
        elif name == "models" and text is not None:
            terms[name] = [glob.strip() for glob in text.split(",") if glob.strip()]
        elif TERMS[name][0] == "N" and text is not None and text.isascii() and text.isdigit():
            terms[name] = int(text)
        elif text is not None:
            terms[name] = text
    return terms


def _config(context: typer.Context) -> Config:
    """The configuration; every problem of it at once on stderr, and the end, when there is any."""
    from proxy.config import ConfigError, load

    try:
        return load(context.obj, os.environ)
    except ConfigError as error:
        for problem in error.problems:
            typer.echo(f"clipmeter: {problem}", err=True)
        sys.exit(MISCONFIGURED)


def _do(context: typer.Context, command: str, **arguments: Any) -> Any:
    config = _config(context)
    from proxy.commands import do

    with _told():
        return do(config, command, arguments)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Say a refusal on stderr, in one line, and end."""
    from proxy.commands import in_words
    from proxy.flows.operator import CommandError

    try:
        with in_words():
            yield
    except CommandError as refusal:
        _end(str(refusal))


def _end(words: str) -> NoReturn:
    typer.echo(f"clipmeter: {words}", err=True)
    sys.exit(REFUSED)


def _show(rows: list[dict[str, Any]], what: str, *, as_json: bool, but: str = "") -> None:
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from proxy.terminal import show_rows

    show_rows(rows, what, but=but)
