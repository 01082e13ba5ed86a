"""Whatever was delivered is kept, whole and once, or listed as lost; its charge never changes.

Where it matters the same tests run on a folder and on a bucket.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from structlog.testing import capture_logs

from proxy import logs
from proxy.sandbox import Sandbox
from proxy.store.database import LedgerUnavailable
from proxy.store.keepings import claim_waiting, record_lost
from proxy.store.kept import Absence, Kept
from proxy.store.vault import Ready
from proxy.store.videos import delete_video
from tests.archiving import MP4, Keeping, Shifted, clips, gated, keeping, kept_of
from tests.clip_host import delivered
from tests.gateways import (
    Act,
    Gateway,
    Request,
    answers,
    bytes_then,
    gateways,
    refusal,
    resets,
    stalls,
)
from tests.running import ask, configured, running, until
from tests.s3 import S3
from tests.store.vaults import clip as film

OTHER = "process_another"
SECOND = bytes([5]) * 32


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """What is logged."""
    with capture_logs() as captured:
        yield captured


async def test_a_chats_clips_are_fetched_at_once_as_they_are(
    tmp_path: Path, vault_url: str | None
) -> None:
    async with Sandbox.start(renderer=lambda card: film(9_000, seed=card.clip_id)) as sandbox:
        config = configured(
            tmp_path,
            list(sandbox.urls.items()),
            vault={"url": vault_url},
            upstream={"api_key": sandbox.api_key},
        )
        async with running(config) as proxy:
            kept = Keeping(proxy, Gateway("none"), [], Shifted(proxy.house.clock))
            answer = await proxy.chat(ask("cats [[seconds 0.1]]", n=3))
            clip_ids = answer.headers["x-clipmeter-clips"].split(",")
            for clip_id, sold in zip(clip_ids, sandbox.bill().lines[0].clips, strict=True):
                await kept.assert_kept(clip_id, film(9_000, seed=sold.id))


async def test_a_jobs_clip_is_fetched_at_once_from_the_gateway(
    tmp_path: Path, vault_url: str | None
) -> None:
    async with keeping(tmp_path, vault_url) as kept:
        kept.gateways[1].does(clips())
        clip_id = await kept.deliver_job(by="vip")
        await kept.assert_kept(clip_id)
        assert (len(kept.gateways[0].requests), len(kept.gateways[1].requests)) == (0, 1)


async def test_a_host_that_is_away_is_tried_ever_more_seldom_until_it_is_back(
    tmp_path: Path, vault_url: str | None
) -> None:
    async with keeping(tmp_path, vault_url) as kept:
        kept.host.does(refusal(503), resets(), resets(), refusal(404), refusal(403))
        clip_id, began = await kept.deliver(), kept.clock.now()
        pauses, tries = [], 0
        while kept.clock.now() < began + timedelta(hours=3):
            tries += 1
            row = await kept.becomes(clip_id, "waiting", tries)
            at = row["next_try_at"]
            pauses.append(round((at - kept.clock.now()).total_seconds()))
            kept.jump_to(at)
        assert pauses[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
        assert set(pauses[10:]) == {300}
        assert len(kept.host.requests) <= 50
        await kept.becomes(clip_id, "waiting", tries + 1)
        kept.host.does(clips())
        kept.jump(300)
        await kept.assert_kept(clip_id)


async def test_a_clip_that_was_put_off_is_tried_when_its_time_comes_and_nobody_says_so(
    tmp_path: Path,
) -> None:
    async with keeping(tmp_path, limits={"heartbeat_seconds": 600, "orphan_seconds": 1200}) as kept:
        kept.host.does(refusal(404), clips())
        clip_id = await kept.deliver()
        await kept.assert_kept(clip_id)
        assert len(kept.host.requests) == 2


async def test_a_clip_is_tried_a_last_time_before_its_link_dies_once_after_and_is_lost_then(
    tmp_path: Path, lines: list[Any]
) -> None:
    async with keeping(tmp_path) as kept:
        kept.host.does(refusal(403))
        clip_id = await kept.deliver()
        row = await kept.becomes(clip_id, "waiting", 1)
        dies_at = row["link_dies_at"]
        kept.jump_to(dies_at - timedelta(seconds=200))
        row = await kept.becomes(clip_id, "waiting", 2)
        # Whatever the pause, the last chance is not missed.
        tries = 2
        while (at := row["next_try_at"]) < dies_at:
            kept.jump_to(at)
            tries += 1
            row = await kept.becomes(clip_id, "waiting", tries)
        assert at == dies_at
        asked = len(kept.host.requests)
        kept.jump_to(dies_at)
        row = await kept.becomes(clip_id, "lost")
        assert (row["trouble"], len(kept.host.requests)) == ("status", asked + 1)
        await kept.assert_charged_once(clip_id)
        assert kept.metric("clips_lost_total") == 1
        (line,) = [line for line in lines if line["event"] == "clip_lost"]
        assert (line["log_level"], line["clip"]) == ("warning", clip_id)
        kept.jump(10_000)
        await kept.deliver("another")
        await until(lambda: len(kept.host.requests) == asked + 2)


SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + MP4[:80]
NO_CLIPS: dict[str, tuple[Act, str]] = {
    "a body that ends early": (bytes_then(SHORT), "cut"),
    "a page": (answers(200, b"<!doctype html><html>expired</html>"), "wrong_magic"),
    "an error as JSON": (answers(200, {"error": {"message": "no"}}), "wrong_magic"),
    "an empty body": (answers(200, b""), "wrong_magic"),
    "a body too long": (answers(200, film(400_001)), "too_large"),
    "a compressed body": (clips(content_encoding="gzip"), "encoded"),
    "a status": (refusal(500), "status"),
    "a reset": (resets(), "unreachable"),
    "silence": (stalls(), "silent"),
}


async def test_nothing_but_a_whole_clip_is_ever_kept(tmp_path: Path, vault_url: str | None) -> None:
    limits = {"download_open_seconds_max": 0.5, "download_stall_seconds_max": 0.5}
    acts = {f"/{number}.mp4": act for number, (act, _) in enumerate(NO_CLIPS.values())}

    async def act(request: Request, writer: asyncio.StreamWriter) -> None:
        await acts[request.path](request, writer)

    vault = {"clip_bytes_max": 400_000}
    async with keeping(tmp_path, vault_url, limits=limits, vault=vault) as kept:
        kept.host.does(act)
        clip_ids = {name: await kept.deliver(str(at)) for at, name in enumerate(NO_CLIPS)}
        rows = {name: await kept.becomes(id_, "waiting", 1) for name, id_ in clip_ids.items()}
        assert {name: row["trouble"] for name, row in rows.items()} == {
            name: trouble for name, (_, trouble) in NO_CLIPS.items()
        }
        assert [len(await kept.stored(clip_id)) for clip_id in clip_ids.values()] == [0] * len(acts)
        kept.host.does(clips())
        kept.jump(300)
        for clip_id in clip_ids.values():
            await kept.assert_kept(clip_id)
            assert (await kept.row(clip_id))["trouble"] is None


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """Files of this process cannot grow beyond it: a disk that is full for a clip."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_what_a_full_disk_does_not_take_is_kept_when_there_is_room(
    tmp_path: Path, vault_url: str | None, lines: list[Any]
) -> None:
    big = film(9 * 2**20)
    async with keeping(tmp_path, vault_url) as kept:
        kept.host.does(clips(big))
        with file_size_limit(8 * 2**20):
            clip_id = await kept.deliver()
            row = await kept.becomes(clip_id, "waiting", 1)
        assert row["trouble"] == "vault"
        assert "vault_unavailable" in {line["event"] for line in lines}
        assert await kept.stored(clip_id) == []
        await kept.assert_charged_once(clip_id)
        kept.jump(1)
        await kept.assert_kept(clip_id, big)


async def test_what_a_bucket_that_is_away_does_not_take_is_kept_when_it_is_back(
    tmp_path: Path, bucket: str, s3: S3
) -> None:
    name = bucket.split("/")[2]
    async with keeping(tmp_path, bucket) as kept:
        s3.drop(bucket)
        clip_id = await kept.deliver()
        assert (await kept.becomes(clip_id, "waiting", 1))["trouble"] == "vault"
        s3.send("PUT", name)
        kept.jump(1)
        await kept.assert_kept(clip_id)


async def test_a_private_address_is_never_dialled(tmp_path: Path) -> None:
    async with keeping(tmp_path, vault={"download_private": False}) as kept:
        clip_id = await kept.deliver()
        row = await kept.becomes(clip_id, "waiting", 1)
        assert row["trouble"] == "blocked"
        pause = row["next_try_at"] - kept.clock.now()
        assert pause > timedelta(seconds=290)  # nobody but the operator can cure that
        kept.jump_to(row["link_dies_at"])
        assert (await kept.becomes(clip_id, "lost"))["trouble"] == "blocked"
        await kept.assert_charged_once(clip_id)
        assert kept.host.requests == []


async def delete(kept: Keeping, clip_id: str) -> None:
    """What a caller who deletes the clip has done."""
    house = kept.proxy.house
    ((tenant_id,),) = await kept.proxy.rows(f"SELECT tenant_id FROM clips WHERE id = '{clip_id}'")
    now = house.clock.now()
    await house.database.write(lambda tx: delete_video(tx, tenant_id, clip_id, now))
    await house.vault.delete(clip_id)


async def test_of_a_clip_that_is_deleted_while_it_comes_in_no_bytes_stay(
    tmp_path: Path, vault_url: str | None
) -> None:
    gate = asyncio.Event()
    async with keeping(tmp_path, vault_url) as kept:
        kept.host.does(gated(gate), clips())
        clip_id = await kept.deliver()
        await until(lambda: kept.proxy.house.vault.incoming(clip_id) is not None)
        await delete(kept, clip_id)
        gate.set()
        await kept.idle()
        assert (await kept.row(clip_id))["state"] == "deleted"
        assert await kept.stored(clip_id) == []
        await kept.assert_charged_once(clip_id)


async def taken_by_another(kept: Keeping, clip_id: str) -> None:
    """Another process takes the claim for that of a dead one."""
    house = kept.proxy.house
    now = house.clock.now()

    def write(tx: Connection) -> None:
        (waiting,) = claim_waiting(tx, OTHER, now, now + timedelta(days=1), 9)
        assert waiting.clip_id == clip_id

    await house.database.write(write)


async def test_a_claim_lost_to_another_process_leaves_it_the_bytes(
    tmp_path: Path, vault_url: str | None
) -> None:
    gate = asyncio.Event()
    async with keeping(tmp_path, vault_url) as kept:
        kept.host.does(gated(gate))
        clip_id = await kept.deliver()
        await until(lambda: kept.proxy.house.vault.incoming(clip_id) is not None)
        await taken_by_another(kept, clip_id)
        gate.set()
        await kept.idle()
        assert len(await kept.stored(clip_id)) == 1
        # The other one never said that it lives: its claim is ours again, and so are the bytes.
        kept.proxy.house.archive.nudge()
        await kept.assert_kept(clip_id)
        assert len(kept.host.requests) == 1


async def test_bytes_in_hand_outdo_another_process_that_gave_the_clip_up(tmp_path: Path) -> None:
    async with keeping(tmp_path) as kept:
        gate = asyncio.Event()
        kept.host.does(gated(gate))
        clip_id = await kept.deliver()
        await until(lambda: kept.proxy.house.vault.incoming(clip_id) is not None)
        now = kept.clock.now()

        def give_up(tx: Connection) -> None:
            (claim,) = claim_waiting(tx, OTHER, now, now + timedelta(days=2), 1)
            assert record_lost(tx, clip_id, claim.fence, "status")

        await kept.proxy.house.database.write(give_up)
        gate.set()
        await kept.assert_kept(clip_id)


async def test_bytes_that_are_there_already_are_not_fetched(
    tmp_path: Path, vault_url: str | None
) -> None:
    async with keeping(tmp_path, vault_url) as kept:
        kept.host.does(refusal(404), clips())
        clip_id = await kept.deliver()
        await kept.becomes(clip_id, "waiting", 1)
        await kept.proxy.house.vault.put(clip_id, Ready(MP4))
        kept.jump(1)
        await kept.assert_kept(clip_id)
        assert len(kept.host.requests) == 1


async def test_bytes_that_are_there_and_damaged_are_fetched_anew(tmp_path: Path) -> None:
    async with keeping(tmp_path) as kept:
        kept.host.does(refusal(404), clips())
        clip_id = await kept.deliver()
        await kept.becomes(clip_id, "waiting", 1)
        put = await kept.proxy.house.vault.put(clip_id, Ready(MP4))
        assert isinstance(put, Kept)
        (tmp_path / "vault" / "clips" / put.key).write_bytes(MP4[:-1] + b"!")
        kept.jump(1)
        await kept.assert_kept(clip_id)
        assert len(kept.host.requests) == 2


async def test_who_puts_a_clip_in_this_process_is_waited_for(tmp_path: Path) -> None:
    async with keeping(tmp_path) as kept:
        gate, vault = asyncio.Event(), kept.proxy.house.vault
        kept.host.does(refusal(404), clips())
        clip_id = await kept.deliver()
        await kept.becomes(clip_id, "waiting", 1)

        class Slow(Ready):
            async def __aiter__(self) -> Any:
                await gate.wait()
                yield self.data

        putting = asyncio.create_task(vault.put(clip_id, Slow(MP4)))
        await until(lambda: vault.incoming(clip_id) is not None)
        kept.jump(1)
        await kept.claimed(clip_id)
        gate.set()
        await putting
        await kept.assert_kept(clip_id)
        assert len(kept.host.requests) == 1


async def test_no_more_are_fetched_at_once_than_may_be(tmp_path: Path) -> None:
    gates, most = [asyncio.Event() for _ in range(5)], 0
    async with keeping(tmp_path, limits={"downloads_in_flight_max": 2}) as kept:

        async def act(request: Any, writer: asyncio.StreamWriter) -> None:
            nonlocal most
            most = max(most, len(kept.host.open))
            await gated(gates[int(request.path[1])])(request, writer)

        kept.host.does(act)
        clip_ids = [await kept.deliver(str(number)) for number in range(5)]
        await until(lambda: len(kept.host.requests) == 2)
        for gate in gates:
            gate.set()
        for clip_id in clip_ids:
            await kept.assert_kept(clip_id)
        assert most <= 2


async def test_those_whose_links_die_first_come_first(tmp_path: Path) -> None:
    async with keeping(tmp_path, limits={"downloads_in_flight_max": 1}) as kept:
        gate = asyncio.Event()
        kept.host.does(gated(gate), clips())
        first = await kept.deliver("first")
        await until(lambda: len(kept.host.requests) == 1)
        late, soon = await kept.deliver("late"), await kept.deliver("soon")
        await kept.change(
            f"UPDATE keepings SET link_dies_at = next_try_at WHERE clip_id = '{soon}'"
        )
        gate.set()
        for clip_id in (first, soon, late):
            await kept.assert_kept(clip_id)
        assert [one.path for one in kept.host.requests] == ["/first.mp4", "/soon.mp4", "/late.mp4"]


async def test_links_that_died_long_ago_are_given_up_without_asking_anybody(
    tmp_path: Path, lines: list[Any]
) -> None:
    async with keeping(tmp_path) as kept:
        now = kept.clock.now()
        async with kept.held():
            old = [await kept.deliver(f"old-{number}") for number in range(12)]
            tried = await kept.deliver("tried")
            long_dead = f"{now - timedelta(hours=25):%Y-%m-%d %H:%M:%S.%f}"
            await kept.change(f"UPDATE keepings SET link_dies_at = '{long_dead}'")
            await kept.change(f"UPDATE keepings SET fence = 7 WHERE clip_id = '{tried}'")
            young = await kept.deliver("young")
        await kept.assert_kept(young)
        for clip_id in (*old, tried):
            assert (await kept.becomes(clip_id, "lost"))["trouble"] == "expired"
        assert [one.path for one in kept.host.requests] == ["/young.mp4"]
        assert kept.metric("clips_lost_total") == 13
        assert [line["count"] for line in lines if line["event"] == "clips_lost"] == [12]


async def test_who_waits_for_a_clip_goes_on_when_it_comes_in_and_when_it_is_kept(
    tmp_path: Path,
) -> None:
    gate = asyncio.Event()
    async with keeping(tmp_path) as kept:
        archive, vault = kept.proxy.house.archive, kept.proxy.house.vault
        kept.host.does(gated(gate))
        async with kept.held():
            clip_id = await kept.deliver()
            waiting = asyncio.create_task(archive.wait_for(clip_id, 30))
            await asyncio.sleep(0.05)
            assert not waiting.done()
        await asyncio.wait_for(waiting, 5)
        assert vault.incoming(clip_id) is not None
        await archive.wait_for(clip_id, 30)  # at once, while it comes in
        gate.set()
        await kept.assert_kept(clip_id)
        await asyncio.wait_for(archive.wait_for(clip_id, 30), 5)


async def test_who_waits_for_a_clip_goes_on_when_it_is_put_off_and_when_time_is_up(
    tmp_path: Path,
) -> None:
    async with keeping(tmp_path) as kept:
        archive = kept.proxy.house.archive
        kept.host.does(refusal(404))
        async with kept.held():
            clip_id = await kept.deliver()
            waiting = asyncio.create_task(archive.wait_for(clip_id, 30))
            await asyncio.sleep(0.05)
        await asyncio.wait_for(waiting, 5)
        await kept.becomes(clip_id, "waiting", 1)
        began = asyncio.get_running_loop().time()
        await archive.wait_for(clip_id, 0.2)  # it is put off for a second
        assert asyncio.get_running_loop().time() - began > 0.1
        await archive.wait_for("video_unheard_of", 30)


async def test_damage_is_mended_while_the_link_lives_and_is_a_loss_after(
    tmp_path: Path, vault_url: str | None, lines: list[Any]
) -> None:
    async with keeping(tmp_path, vault_url) as kept:
        archive = kept.proxy.house.archive
        clip_id = await kept.deliver()
        await kept.assert_kept(clip_id)
        bytes_kept = kept_of(clip_id, await kept.row(clip_id))
        await kept.proxy.house.vault.delete(clip_id)
        await archive.missed(bytes_kept, Absence.MISSING)
        await kept.assert_kept(clip_id)
        assert len(kept.host.requests) == 2
        kept.jump(86_400)
        await archive.missed(bytes_kept, Absence.CORRUPT)
        row = await kept.becomes(clip_id, "lost")
        await archive.missed(bytes_kept, Absence.CORRUPT)  # that changes nothing more
        assert row["trouble"] == "corrupt"
        assert (kept.metric("clips_damaged_total"), kept.metric("clips_lost_total")) == (2, 1)
        states = [line["state"] for line in lines if line["event"] == "clip_damaged"]
        assert states == ["waiting", "lost"]
        await kept.assert_charged_once(clip_id)


async def test_a_clip_that_is_coming_in_does_not_hold_up_the_end_and_comes_after_a_restart(
    tmp_path: Path, vault_url: str | None
) -> None:
    async with gateways("cdn") as (host,):
        host.does(gated(asyncio.Event()), clips())
        async with keeping(tmp_path, vault_url) as kept:
            clip_id = await kept.deliver(host=host)
            await until(lambda: kept.proxy.house.vault.incoming(clip_id) is not None)
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 5
        async with keeping(tmp_path, vault_url, seed=SECOND) as kept:
            await kept.assert_kept(clip_id)
        assert len(host.requests) == 2


class Away:
    """A database that takes nothing for a while."""

    def __init__(self, database: Any) -> None:
        self.database, self.refused = database, 0

    async def write(self, _: Any) -> None:
        self.refused += 1
        raise LedgerUnavailable("away")

    async def read(self, fn: Any) -> Any:
        return await self.database.read(fn)


async def test_bytes_whose_row_could_not_be_written_are_not_fetched_twice(
    tmp_path: Path,
) -> None:
    gate = asyncio.Event()
    async with keeping(tmp_path, limits={"heartbeat_seconds": 0.1, "orphan_seconds": 1}) as kept:
        house = kept.proxy.house
        kept.host.does(gated(gate))
        clip_id = await kept.deliver()
        await until(lambda: house.vault.incoming(clip_id) is not None)
        database, away = house.database, Away(house.database)
        house.database = away  # type: ignore[assignment]
        gate.set()
        await until(lambda: away.refused > 2)
        house.database = database
        await kept.assert_kept(clip_id)
        assert len(kept.host.requests) == 1


async def test_a_clip_at_which_the_archive_crashes_is_left_alone_for_a_while_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashes: list[str] = []
    monkeypatch.setattr(logs, "crash", lambda task, error: crashes.append(repr(error)))

    class Broken:
        def __init__(self, downloads: Any) -> None:
            self.downloads = downloads
            self.crashed = 0

        async def fetch(self, link: str, limits: Any) -> Any:
            if link.endswith("/bad.mp4"):
                self.crashed += 1
                raise ZeroDivisionError
            return await self.downloads.fetch(link, limits)

    limits = {"downloads_in_flight_max": 1, "download_pause_seconds_max": 0.5}
    async with keeping(tmp_path, limits=limits) as kept:
        house = kept.proxy.house
        broken = Broken(house.downloads)
        house.downloads = broken  # type: ignore[assignment]
        bad = await kept.deliver("bad")
        await until(lambda: broken.crashed == 1)
        for number in range(5):
            await kept.assert_kept(await kept.deliver(str(number)))
        assert broken.crashed <= 2
        house.downloads = broken.downloads
        await kept.assert_kept(bad)
        assert set(crashes) == {"ZeroDivisionError()"}


async def test_two_processes_on_one_database_fetch_a_clip_once(
    tmp_path: Path, postgres_url: str
) -> None:
    groups: dict[str, Any] = {
        "database": {"url": postgres_url},
        "secrets": {"key": "0123456789abcdef" * 2},
        "limits": {"heartbeat_seconds": 0.05, "orphan_seconds": 30},
    }
    url = f"file://{tmp_path}/clips"
    async with (
        keeping(tmp_path / "one", url, **groups) as kept,
        keeping(tmp_path / "two", url, seed=SECOND, **groups) as other,
    ):
        clip_ids = []
        for number in range(20):
            clip_ids.append(await kept.deliver(str(number)))
            other.proxy.house.archive.nudge()
        for clip_id in clip_ids:
            await kept.assert_kept(clip_id)
        paths = [one.path for one in kept.host.requests]
        assert sorted(paths) == sorted(f"/{number}.mp4" for number in range(20))


async def test_who_waits_for_a_clip_sees_what_another_process_did(tmp_path: Path) -> None:
    async with keeping(tmp_path) as kept:
        kept.host.does(refusal(404))
        clip_id = await kept.deliver()
        await kept.becomes(clip_id, "waiting", 1)
        kept.clock.seconds += 5  # due, and nobody here has been told
        waiting = asyncio.create_task(kept.proxy.house.archive.wait_for(clip_id, 30))
        await asyncio.sleep(0.05)
        await kept.change(f"UPDATE keepings SET state = 'lost' WHERE clip_id = '{clip_id}'")
        await asyncio.wait_for(waiting, 5)
        assert (await kept.row(clip_id))["state"] == "lost"


async def test_nothing_that_is_logged_has_a_link(tmp_path: Path) -> None:
    with capture_logs() as captured:
        async with keeping(tmp_path) as kept:
            kept.host.does(refusal(404), clips())
            clip_id = await delivered(kept.proxy, f"{kept.host.url}/x.mp4?Signature=secret")
            await kept.becomes(clip_id, "waiting", 1)
            kept.jump(1)
            await kept.assert_kept(clip_id)
    ours = [line for line in captured if str(line["event"]).startswith("clip_")]
    assert {line["event"] for line in ours} == {"clip_put_off", "clip_kept"}
    assert all(set(line) - {"log_level", "event"} <= logs.FIELDS for line in ours)
    assert "secret" not in str(captured)
