"""The demo: two clips through pretended gateways, with a live bar, two MP4s and a checked bill.

Everything runs in this process, on free ports and in a temporary folder: the sandbox, the proxy,
and a caller who uses the real OpenAI SDK. Nothing leaves the machine, and nothing is paid.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import signal
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.syntax import Syntax
from rich.text import Text

from proxy import control
from proxy.commands import operator_of
from proxy.config import Config, Follow, Limits, Server
from proxy.core.pricing import format_usd
from proxy.core.statement import Statement, parse_by, read_statement
from proxy.flows.operator import CommandError, Operator
from proxy.sandbox import Bill
from proxy.sandbox.film import Film, examine
from proxy.serve import Running, running
from proxy.terminal import show_table

if TYPE_CHECKING:
    from openai import AsyncOpenAI

SPEED: Final = 1.5
"""How much faster the pretended vendor works here than by itself."""

POLL_SECONDS: Final = 1.0
"""How often the pretended vendor is asked about a job; a real one is asked less often."""

CLIPS_FOLDER: Final = Path("clips")
CLIP_BYTES_MAX: Final = 64 * 2**20
FETCH_SECONDS_MAX: Final = 60.0

_BY: Final = "tenant,model"
_LINK: Final = re.compile(r"\((https?://[^\s)]+)\)")
_PERCENT: Final = re.compile(r"(?:进度|Progress)\s*[:：]\s*([0-9]+(?:\.[0-9]+)?)\s*%")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the demo asks for; `way` is "sync" (streamed) or "async" (a job that is polled)."""

    model: str
    way: str
    prompt: str


WISHES: Final = (
    Wish("veo-3.1-fast", "sync", "A paper boat sails down a rainy street at dusk"),
    Wish("veo-3.1-landscape", "async", "Slow waves on a quiet beach, seen from above"),
)


@dataclass(frozen=True, slots=True)
class Take:
    """A clip that came back: its id here, the file it was saved in, and that file's SHA-256."""

    wish: Wish
    clip_id: str
    path: Path
    sha256: str
    film: Film


async def run(*, once: bool) -> int:
    """The whole demo; 0 when everything matched, 1 when something did not.

    Without `once` it stays up until Ctrl-C. Raises `CommandError` where it cannot begin.
    """
    console = Console(highlight=False, soft_wrap=False)
    with tempfile.TemporaryDirectory(prefix="clipmeter-demo-") as folder:
        config = Config(
            data_dir=Path(folder),
            server=Server(port=0),
            limits=Limits(drain_listen_seconds=0, drain_seconds_max=15),
            follow=Follow(poll_seconds=POLL_SECONDS),
        )
        async with running(config, sandbox=True, speed=SPEED) as server:
            operator = operator_of(server.config, server.house.database)
            await control.run(operator, "tenant add", {"name": "demo"})
            made = await control.run(operator, "key add", {"tenant": "demo", "label": "demo"})
            _greet(console, server, made["prefix"])
            takes = await _make(console, f"{server.url}/v1", made["key"])
            matched = await _account(console, server, operator, takes)
            _hand_over(console, f"{server.url}/v1", made["key"])
            if not once:
                console.print("[dim]The proxy stays up; Ctrl-C ends it.[/dim]")
                loop = asyncio.get_running_loop()
                for number in (signal.SIGINT, signal.SIGTERM):
                    loop.add_signal_handler(number, server.stop)
                await server.served
    return 0 if matched else 1


def _greet(console: Console, server: Running, prefix: str) -> None:
    assert server.sandbox is not None
    console.print()
    console.print("[bold]Clipmeter[/bold]  metered clips through your OpenAI SDK")
    console.print(
        "[dim]A rehearsal on this machine: the vendor is pretended, nothing is paid.[/dim]"
    )
    console.print()
    console.print(f"  proxy     {server.url}/v1")
    console.print(f"  gateways  {', '.join(server.sandbox.urls)}, simulated")
    console.print(f"  caller    tenant demo, key {prefix}")
    console.print()
    for wish in WISHES:
        console.print(f"  {wish.model:<17} {wish.way:<5} [dim]“{wish.prompt}”[/dim]")
    console.print()


async def _make(console: Console, base_url: str, key: str) -> list[Take]:
    """Have every wish rendered at once, and save what comes back under ./clips."""
    try:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient, OpenAIError
    except ImportError:
        raise CommandError("the demo needs the OpenAI SDK: pip install 'clipmeter[demo]'") from None
    CLIPS_FOLDER.mkdir(exist_ok=True)
    direct = DefaultAsyncHttpxClient(trust_env=False)
    async with AsyncOpenAI(
        base_url=base_url, api_key=key, max_retries=0, http_client=direct
    ) as client:
        with _bars(console) as show:
            try:
                return list(await asyncio.gather(*(_take(client, one, show) for one in WISHES)))
            except OpenAIError as error:
                raise CommandError(f"the proxy refused: {error}") from error


async def _take(client: AsyncOpenAI, wish: Wish, show: Callable[[Wish, float], None]) -> Take:
    """One clip, as a team's program would ask for it, saved from the proxy's own copy."""
    ask = _stream if wish.way == "sync" else _poll
    clip_id = await ask(client, wish, show)
    content = await client.videos.download_content(clip_id)
    path = CLIPS_FOLDER / f"{wish.model}-{clip_id.removeprefix('video_')[:8]}.mp4"
    data = content.content
    await asyncio.to_thread(path.write_bytes, data)
    film = await asyncio.to_thread(examine, path)
    return Take(wish, clip_id, path, hashlib.sha256(data).hexdigest(), film)


async def _stream(client: AsyncOpenAI, wish: Wish, show: Callable[[Wish, float], None]) -> str:
    """The clip's id, once its stream has ended; progress is what the stream says."""
    answer = await client.chat.completions.with_raw_response.create(
        model=wish.model, messages=[{"role": "user", "content": wish.prompt}], stream=True
    )
    text = ""
    async for chunk in answer.parse():
        for choice in chunk.choices:
            text += choice.delta.content or ""
        told = _PERCENT.findall(text)
        show(wish, float(told[-1]) if told else 0.0)
    if not _LINK.search(text):
        raise CommandError(f"no clip of {wish.model} came back: {text[-200:]!r}")
    show(wish, 100.0)
    clip_id: str = answer.headers["x-clipmeter-clips"]
    return clip_id


async def _poll(client: AsyncOpenAI, wish: Wish, show: Callable[[Wish, float], None]) -> str:
    """The video's id, once it is completed; progress is what its status says."""
    video = await client.videos.create(model=wish.model, prompt=wish.prompt)
    while video.status in ("queued", "in_progress"):
        show(wish, float(video.progress))
        raw = await client.videos.with_raw_response.retrieve(video.id)
        video = raw.parse()
        if video.status in ("queued", "in_progress"):
            await asyncio.sleep(int(raw.headers["openai-poll-after-ms"]) / 1000)
    if video.status != "completed":
        raise CommandError(f"no clip of {wish.model} came back: {video.error}")
    show(wish, 100.0)
    return video.id


def _original(link: str) -> str:
    """The SHA-256 of the bytes that the vendor itself has behind `link`."""
    # Whatever proxy the environment names, it does not know this machine's own ports.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(link, timeout=FETCH_SECONDS_MAX) as response:
        return hashlib.sha256(response.read(CLIP_BYTES_MAX)).hexdigest()


async def _account(
    console: Console, server: Running, operator: Operator, takes: list[Take]
) -> bool:
    """Show what was saved and charged, and whether the vendor's own bill says the same."""
    assert server.sandbox is not None
    console.print()
    for take in takes:
        film = take.film
        console.print(f"  saved  [bold]{take.path}[/bold]")
        console.print(
            f"         [dim]{film.seconds:.0f} s, {film.size}, {film.video}, {film.audio}[/dim]"
        )
    await server.sandbox.idle()
    said = await control.run(operator, "usage", {"by": _BY})
    statement = read_statement(said, parse_by(_BY))
    console.print()
    console.print("What the ledger charged", style="bold")
    show_table(list(statement.as_table()), totals=True, indent=2)
    bill = server.sandbox.bill()
    links = [clip.url for line in bill.lines for clip in line.clips]
    originals = {link: await asyncio.to_thread(_original, link) for link in links}
    wrong = list(differences(statement, bill, takes, originals))
    findings = await control.run(operator, "ledger verify", {})
    wrong += [f"{finding['row']}: {finding['words']}" for finding in findings]
    if wrong:
        for words in wrong:
            console.print(f"  [red]✗[/red] {words}")
        return False
    total = format_usd(bill.micros)
    console.print("  [green]✓[/green] both files are the vendor's own bytes, SHA-256 by SHA-256")
    console.print(f"  [green]✓[/green] the vendor's own bill says the same, clip by clip: ${total}")
    console.print()
    return True


def differences(
    statement: Statement, bill: Bill, takes: Sequence[Take], originals: Mapping[str, str]
) -> Iterator[str]:
    """Where the vendor's bill and clips do not agree with ours, clip by clip and in sum.

    `originals` has the SHA-256 of each clip on the bill, by its link.
    """
    billed = {originals[clip.url]: line for line in bill.lines for clip in line.clips}
    for take in takes:
        line = billed.pop(take.sha256, None)
        if line is None:
            yield f"{take.path} is not a clip on the vendor's bill"
            continue
        ours = [line_ for line_ in statement.lines if line_.place == ("demo", take.wish.model)]
        charged = sum(line_.tally.amount_micros for line_ in ours)
        if charged != line.micros:
            yield f"{line.model}: charged {format_usd(charged)}, billed {format_usd(line.micros)}"
    for line in billed.values():
        yield f"the vendor billed a clip of {line.model} that nobody got"
    if (statement.totals.delivered, statement.totals.amount_micros) != (bill.clips, bill.micros):
        yield f"{statement.totals.delivered} clips charged, {bill.clips} billed"


def _hand_over(console: Console, base_url: str, key: str) -> None:
    """A program to paste: it works as long as the demo stays up."""
    program = f"""\
from openai import OpenAI

client = OpenAI(
    base_url="{base_url}",
    api_key="{key}",
)
video = client.videos.create_and_poll(
    model="veo-3.1-fast",
    prompt="A cat reads the paper",
)
print(video.status, video.error or "")
client.videos.download_content(video.id).write_to_file("cat.mp4")
"""
    console.print("Your turn: paste this into Python", style="bold")
    console.print()
    if console.is_terminal:
        syntax = Syntax(program, "python", theme="ansi_dark", background_color="default")
        console.print(Padding(syntax, (0, 0, 0, 2)))
    else:
        console.print(program)
    for line in (
        "Rehearse trouble with words in the prompt: with [[gateway api]] [[status 502]]",
        "the proxy goes on to the next gateway; with [[fail]] a clip fails, for free.",
        f"What it cost so far: GET {base_url}/usage with the same key.",
    ):
        console.print(Text(line, style="dim"))
    console.print()


@contextlib.contextmanager
def _bars(console: Console) -> Iterator[Callable[[Wish, float], None]]:
    """A bar for each wish on a terminal; elsewhere a line for each step."""
    if not console.is_terminal:
        told: dict[Wish, float] = {}

        def say(wish: Wish, percent: float) -> None:
            if told.get(wish) != percent:
                told[wish] = percent
                console.print(f"  {wish.model:<18} {percent:5.1f} %")

        yield say
        return
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, expand=True) as progress:
        tasks = {
            wish: progress.add_task(f"{wish.model:<17} {wish.way:<5}", total=100) for wish in WISHES
        }

        def draw(wish: Wish, percent: float) -> None:
            progress.update(tasks[wish], completed=percent)

        yield draw
