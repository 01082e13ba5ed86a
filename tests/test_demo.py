"""The main job, as a newcomer meets it: two clips, two files, one bill."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.core.statement import Dimension, Line, Statement, Tally
from proxy.demo import WISHES, Take, differences
from proxy.sandbox import Bill
from proxy.sandbox.bill import BilledClip
from proxy.sandbox.bill import Line as Billed
from proxy.sandbox.film import Film, examine
from tests.test_cli import ENVIRON


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder in which `clipmeter demo --once` ran, and all it said."""
    folder: Path = tmp_path_factory.mktemp("demo")
    ran = subprocess.run(
        [sys.executable, "-m", "proxy", "demo", "--once"],
        cwd=folder,
        env={**ENVIRON, "HTTP_PROXY": "http://127.0.0.1:9", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == ""
    return folder, ran.stdout


def test_two_clips_play_in_their_orientation(shown: tuple[Path, str]) -> None:
    folder, said = shown
    films = {path: examine(path) for path in sorted((folder / "clips").iterdir())}
    assert [path.name.rpartition("-")[0] for path in films] == ["veo-3.1-fast", "veo-3.1-landscape"]
    assert [film.size for film in films.values()] == ["720x1280", "1280x720"]
    for path, film in films.items():
        assert (film.video, film.audio, round(film.seconds)) == ("h264", "aac", 8)
        assert f"clips/{path.name}" in said


def test_progress_is_told_live(shown: tuple[Path, str]) -> None:
    _, said = shown
    for wish in WISHES:
        steps = [float(step) for step in re.findall(rf"{wish.model} +([0-9.]+) %", said)]
        assert len(steps) >= 4
        assert steps == sorted(steps)
        assert steps[-1] == 100


def test_the_usage_matches_the_vendors_bill(shown: tuple[Path, str]) -> None:
    _, said = shown
    assert re.search(r"total +2 +2 +0 +0\.40", said)
    assert "the vendor's own bill says the same, clip by clip: $0.40" in said


def test_both_files_are_the_vendors_own_bytes(shown: tuple[Path, str]) -> None:
    _, said = shown
    assert "both files are the vendor's own bytes, SHA-256 by SHA-256" in said


def test_one_clip_is_streamed_and_the_other_polled() -> None:
    assert [wish.way for wish in WISHES] == ["sync", "async"]


def test_the_snippet_is_a_program_with_this_proxys_address_and_key(
    shown: tuple[Path, str],
) -> None:
    _, said = shown
    program = said[said.index("from openai import OpenAI") : said.index("Rehearse trouble")]
    compile(program, "snippet", "exec")
    url = re.search(r"proxy +(http://127\.0\.0\.1:[0-9]+/v1)", said)
    assert url is not None
    assert f'base_url="{url[1]}"' in program
    assert re.search(r'api_key="sk-cm-[A-Za-z0-9]{49}"', program)


def test_nothing_is_left_but_the_clips(shown: tuple[Path, str]) -> None:
    folder, _ = shown
    assert [path.name for path in folder.iterdir()] == ["clips"]


def test_nothing_is_wider_than_a_terminal(shown: tuple[Path, str]) -> None:
    _, said = shown
    assert max(map(len, said.splitlines())) <= 80
    assert "with [[gateway api]] [[status 502]]\nthe proxy goes on" in said


TAKE = Take(WISHES[0], "video_1", Path("clips/1.mp4"), "5ha", Film(8, "", "", "", 1))
BILLED = Billed(
    job_id="j",
    kind="chat",
    gateway="api",
    model="veo-3.1-fast",
    prompt_sha256="",
    asked=1,
    delivered=1,
    clips=(BilledClip("c", "http://x/1.mp4"),),
    state="completed",
    created_at=0,
    micros=150_000,
    units=75_000,
)
ORIGINALS = {"http://x/1.mp4": "5ha", "http://x/2.mp4": "0ther"}
STATEMENT = Statement(
    "2026-11",
    (Dimension.TENANT, Dimension.MODEL),
    (Line(("demo", "veo-3.1-fast"), Tally(1, 1, amount_micros=150_000)),),
    0,
    0,
)


def compared(statement: Statement, *lines: Billed) -> list[str]:
    return list(differences(statement, Bill(lines), [TAKE], ORIGINALS))


def test_a_bill_that_agrees_has_no_differences() -> None:
    assert compared(STATEMENT, BILLED) == []


def test_a_clip_that_is_not_on_the_bill_is_a_difference() -> None:
    assert "clips/1.mp4 is not a clip on the vendor's bill" in compared(STATEMENT)


def test_other_bytes_than_the_vendors_are_a_difference() -> None:
    other = replace(BILLED, clips=(BilledClip("c", "http://x/2.mp4"),))
    assert "clips/1.mp4 is not a clip on the vendor's bill" in compared(STATEMENT, other)


def test_another_amount_is_a_difference() -> None:
    found = compared(STATEMENT, replace(BILLED, micros=250_000))
    assert "veo-3.1-fast: charged 0.15, billed 0.25" in found


def test_a_billed_clip_that_nobody_got_is_a_difference() -> None:
    more = replace(BILLED, clips=(BilledClip("d", "http://x/2.mp4"),))
    found = compared(STATEMENT, BILLED, more)
    assert "the vendor billed a clip of veo-3.1-fast that nobody got" in found
    assert "1 clips charged, 2 billed" in found
