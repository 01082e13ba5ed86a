"""The vault is kept in order: what leaves, what stays, what is found, and what is shown of it.

Where it matters the same tests run on a folder and on a bucket.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
from structlog.testing import capture_logs

from proxy.flows.evict import Rounds, make_room, show, sweep
from proxy.flows.own_vault import prove
from proxy.store.database import LedgerUnavailable
from proxy.store.held import Reader
from proxy.store.kept import Absence, Kept, Kind, VaultUnavailable
from proxy.store.vault import Ready
from tests.archiving import MP4, Keeping, clips, keeping, kept_of
from tests.clip_host import accepted
from tests.gateways import refusal
from tests.running import until
from tests.s3 import S3
from tests.store.vaults import clip as film
from tests.store.vaults import flipped

DAY = 86_400.0


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """What is logged."""
    with capture_logs() as captured:
        yield captured


async def some_kept(kept: Keeping, count: int) -> list[str]:
    """So many kept clips, the first of them first."""
    clip_ids = []
    for number in range(count):
        clip_ids.append(await kept.deliver(str(number)))
        await kept.assert_kept(clip_ids[-1])
    return clip_ids


async def states(kept: Keeping, clip_ids: list[str]) -> list[str]:
    return [(await kept.row(clip_id))["state"] for clip_id in clip_ids]


def overwrite(folder: Path, bytes_kept: Kept, data: bytes) -> None:
    """Have other bytes where they are kept, in a folder."""
    (folder / "vault" / "clips" / bytes_kept.key).write_bytes(data)


async def test_a_clip_past_its_time_leaves_with_its_pictures_and_its_charge_stays(
    tmp_path: Path, vault_url: str | None, lines: list[Any]
) -> None:
    async with keeping(tmp_path, vault_url, vault={"retention_days": 2}) as kept:
        house = kept.proxy.house
        (old,) = await some_kept(kept, 1)
        await house.vault.put(old, Ready(film(900, Kind.THUMBNAIL)), kind=Kind.THUMBNAIL)
        kept.jump(2 * DAY - 60)
        (young,) = await some_kept(kept, 1)
        assert await make_room(house) == 0
        kept.jump(120)
        assert await make_room(house) == 1
        assert await states(kept, [old, young]) == ["evicted", "kept"]
        assert await kept.stored(old) == []
        await kept.assert_kept(young)
        await kept.assert_charged_once(old)
        assert [line["count"] for line in lines if line["event"] == "clips_evicted"] == [1]


async def test_for_room_the_clip_unused_longest_leaves_and_none_of_the_last_day(
    tmp_path: Path, vault_url: str | None
) -> None:
    vault = {"bytes_max": 2 * len(MP4), "clip_bytes_max": len(MP4)}
    async with keeping(tmp_path, vault_url, vault=vault) as kept:
        house = kept.proxy.house
        first, second = await some_kept(kept, 2)
        kept.jump(DAY + 60)
        house.archive.used(first)
        await show(house)
        third, fourth = await some_kept(kept, 2)
        assert await make_room(house) == 2
        assert await states(kept, [first, second, third, fourth]) == [
            "evicted",
            "evicted",
            "kept",
            "kept",
        ]
        (fifth,) = await some_kept(kept, 1)
        assert await make_room(house) == 0  # too much, and all of it young
        kept.jump(DAY + 60)
        house.archive.used(third)
        await show(house)
        assert await make_room(house) == 1
        assert await states(kept, [third, fourth, fifth]) == ["kept", "evicted", "kept"]


async def test_for_room_on_the_disk_all_but_the_last_days_clips_leave_if_they_must(
    tmp_path: Path,
) -> None:
    vault = {"bytes_max": "9999GiB", "clip_bytes_max": "9999GiB"}
    async with keeping(tmp_path, vault=vault) as kept:
        clip_ids = await some_kept(kept, 2)
        kept.clock.seconds += 2 * DAY
        clip_ids += await some_kept(kept, 1)
        async with unmounted(tmp_path):
            with pytest.raises(VaultUnavailable):
                await make_room(kept.proxy.house)
        assert await make_room(kept.proxy.house) == 2
        assert await states(kept, clip_ids) == ["evicted", "evicted", "kept"]


async def test_whoever_reads_a_clip_that_leaves_reads_on(
    tmp_path: Path, vault_url: str | None
) -> None:
    async with keeping(tmp_path, vault_url, vault={"retention_days": 1}) as kept:
        big = film(3 * 2**20)
        kept.host.does(clips(big))
        (clip_id,) = [await kept.deliver()]
        await kept.assert_kept(clip_id, big)
        (stored,) = await kept.stored(clip_id)
        reader = await kept.proxy.house.vault.reader(stored.kept)
        assert isinstance(reader, Reader)
        with reader:
            chunks = reader.chunks()
            begun = await anext(chunks)
            kept.jump(2 * DAY)
            assert await make_room(kept.proxy.house) == 1
            assert begun + b"".join([chunk async for chunk in chunks]) == big


async def test_bytes_that_nobody_is_to_have_are_swept_an_hour_after_they_came(
    tmp_path: Path, vault_url: str | None, lines: list[Any]
) -> None:
    async with keeping(tmp_path, vault_url) as kept:
        house = kept.proxy.house
        stays, evicted, deleted, lost = await some_kept(kept, 4)
        for clip_id, state in ((evicted, "evicted"), (deleted, "deleted"), (lost, "lost")):
            await kept.change(
                f"UPDATE keepings SET state = '{state}', sha256 = NULL WHERE clip_id = '{clip_id}'"
            )
        # Bytes from `/content` may be there before their clip is settled.
        early = await accepted(kept.proxy)
        await house.vault.put(early, Ready(MP4))
        assert await sweep(house) == 0
        kept.jump(3700)
        assert await sweep(house) == 3
        for clip_id in (evicted, deleted, lost):
            assert await kept.stored(clip_id) == []
        for clip_id in (stays, early):
            assert len(await kept.stored(clip_id)) == 1
        assert await sweep(house) == 0
        (line,) = [line for line in lines if line["event"] == "clips_swept"]
        assert set(line["clips"]) == {evicted, deleted, lost}


async def test_what_no_row_ever_named_may_be_anothers_and_stays_for_as_long_as_anything(
    tmp_path: Path, vault_url: str | None, lines: list[Any]
) -> None:
    async with keeping(tmp_path, vault_url, vault={"retention_days": 3}) as kept:
        house = kept.proxy.house
        await house.vault.put("video_of_another", Ready(MP4))
        kept.jump(3 * DAY - 60)
        assert await sweep(house) == 0
        assert len(await kept.stored("video_of_another")) == 1
        assert {line["event"]: line.get("count") for line in lines}["vault_strange"] == 1
        kept.jump(120)
        assert await sweep(house) == 1
        assert await kept.stored("video_of_another") == []


async def test_a_sweep_looks_through_more_than_one_list(tmp_path: Path) -> None:
    async with keeping(tmp_path) as kept:
        clip_ids = await some_kept(kept, 8)
        gone = clip_ids[::2]
        for clip_id in gone:
            await kept.change(f"UPDATE keepings SET state = 'deleted' WHERE clip_id = '{clip_id}'")
        kept.jump(3700)
        assert await sweep(kept.proxy.house, listed_at_once=3) == 4
        assert [len(await kept.stored(clip_id)) for clip_id in clip_ids] == [0, 1] * 4


async def test_what_died_on_its_way_in_is_swept(tmp_path: Path) -> None:
    async with keeping(tmp_path) as kept:
        left = tmp_path / "vault" / "incoming" / "left.part"
        left.write_bytes(MP4)
        assert await sweep(kept.proxy.house) == 1
        assert not left.exists()


async def test_a_scrub_mends_a_damaged_clip_while_its_link_lives(
    tmp_path: Path, vault_url: str | None, request: pytest.FixtureRequest
) -> None:
    async with keeping(tmp_path, vault_url) as kept:
        rounds = Rounds(kept.proxy.house)
        clip_ids = await some_kept(kept, 3)
        assert await rounds.scrub() == 0
        damaged = kept_of(clip_ids[1], await kept.row(clip_ids[1]))
        if vault_url is None:
            overwrite(tmp_path, damaged, flipped(MP4, 200_000))
        else:
            s3: S3 = request.getfixturevalue("s3")
            key = f"{vault_url.removeprefix('s3://')}/{damaged.key}"
            s3.send("PUT", key, flipped(MP4, 200_000))
        asked = len(kept.host.requests)
        assert await rounds.scrub() == 1
        await kept.assert_kept(clip_ids[1])
        assert len(kept.host.requests) == asked + 1
        assert kept.metric("clips_damaged_total") == 1
        assert await rounds.scrub() == 0


async def test_a_scrub_that_finds_damage_too_late_lists_the_clip_as_lost(tmp_path: Path) -> None:
    async with keeping(tmp_path) as kept:
        (clip_id,) = await some_kept(kept, 1)
        overwrite(tmp_path, kept_of(clip_id, await kept.row(clip_id)), MP4[:-1])
        kept.jump(2 * DAY)
        assert await Rounds(kept.proxy.house).scrub() == 1
        assert (await kept.row(clip_id))["state"] == "lost"
        assert kept.metric("clips_lost_total") == 1
        await kept.assert_charged_once(clip_id)


async def test_a_scrub_reads_others_each_time_and_comes_round(tmp_path: Path) -> None:
    async with keeping(tmp_path) as kept:
        clip_ids = sorted(await some_kept(kept, 5))
        rounds = Rounds(kept.proxy.house)
        for _ in range(3):
            assert await rounds.scrub(2) == 0
        # The first was read twice by now, and is next when all the others were.
        overwrite(tmp_path, kept_of(clip_ids[0], await kept.row(clip_ids[0])), flipped(MP4, 9))
        assert [await rounds.scrub(2) for _ in range(3)] == [0, 0, 1]


@asynccontextmanager
async def unmounted(data_dir: Path) -> AsyncIterator[None]:
    """The vault's disk is not there; what is under its place is empty."""
    mounted, away = data_dir / "vault" / "clips", data_dir / "unmounted"
    mounted.rename(away)
    mounted.mkdir()
    yield
    rmtree(mounted)
    away.rename(mounted)


async def test_a_vault_that_is_not_there_costs_no_clip(tmp_path: Path, lines: list[Any]) -> None:
    async with keeping(tmp_path) as kept:
        house, rounds = kept.proxy.house, Rounds(kept.proxy.house)
        clip_ids = await some_kept(kept, 3)
        kept.jump(2 * DAY)
        async with unmounted(tmp_path):
            for deed in (sweep(house), rounds.scrub(), rounds.scrub(1)):
                with pytest.raises(VaultUnavailable):
                    await deed
            answer = await kept.proxy.get(f"/v1/videos/{clip_ids[0]}/content")
            answer.assert_error(503, "vault_unavailable", retry=True)
            assert await states(kept, clip_ids) == ["kept"] * 3
            await rounds.tend()
            (line,) = [line for line in lines if "is not ours" in str(line.get("words"))][-1:]
            assert line["event"] == "vault_unavailable"
            clip_ids.append(await kept.deliver("late"))
            await kept.assert_kept(clip_ids[-1])
        # What was kept in the wrong place is gone with it, and is fetched again.
        assert await rounds.scrub() == 1
        for clip_id in clip_ids:
            await kept.assert_kept(clip_id)


async def test_a_vault_that_is_away_at_the_start_gets_its_mark_in_a_round(tmp_path: Path) -> None:
    class Away:
        async def mark(self) -> None:
            raise VaultUnavailable("away")

    async with keeping(tmp_path) as kept:
        house, rounds = kept.proxy.house, Rounds(kept.proxy.house)
        await kept.change("DELETE FROM installation WHERE key = 'vault'")
        vault, house.vault = house.vault, Away()  # type: ignore[assignment]
        await rounds.begin()
        house.vault = vault
        with pytest.raises(VaultUnavailable):
            await prove(house)
        await rounds.go_round()
        await prove(house)


async def test_a_lost_clip_that_is_there_again_is_kept_as_before(tmp_path: Path) -> None:
    async with keeping(tmp_path) as kept:
        (clip_id,) = await some_kept(kept, 1)
        row = await kept.row(clip_id)
        path = tmp_path / "vault" / "clips" / kept_of(clip_id, row).key
        path.rename(tmp_path / "taken")
        kept.jump(2 * DAY)
        await kept.proxy.house.archive.missed(kept_of(clip_id, row), Absence.MISSING)
        assert await states(kept, [clip_id]) == ["lost"]
        (tmp_path / "taken").rename(path)
        assert await sweep(kept.proxy.house) == 0
        await kept.assert_kept(clip_id)


async def test_nothing_is_swept_out_of_a_vault_that_is_not_ours(
    tmp_path: Path, bucket: str
) -> None:
    async with keeping(tmp_path / "theirs", f"{bucket}/one") as theirs:
        (clip_id,) = await some_kept(theirs, 1)
        async with keeping(tmp_path / "ours", f"{bucket}/two") as ours:
            house = ours.proxy.house
            (our_id,) = await some_kept(ours, 1)
            assert await sweep(house) == 0
            right, house.vault = house.vault, theirs.proxy.house.vault  # a slip of the pen
            ours.jump(100 * DAY)
            with pytest.raises(VaultUnavailable):
                await sweep(house)
            missed = kept_of(our_id, await ours.row(our_id))
            assert await house.vault.verify(missed) is Absence.MISSING
            with pytest.raises(VaultUnavailable):
                await house.archive.missed(missed, Absence.MISSING)
            house.vault = right
            await ours.assert_kept(our_id)
        await theirs.assert_kept(clip_id)


async def test_what_is_kept_and_what_waits_is_shown(tmp_path: Path) -> None:
    async with keeping(tmp_path) as kept:
        house = kept.proxy.house
        await show(house)
        names = ("vault_clips", "vault_bytes", "clips_unarchived", "clip_link_expiry_seconds_min")
        assert [kept.metric(name) for name in names] == [0, 0, 0, math.inf]
        await some_kept(kept, 2)
        kept.host.does(refusal(404))
        waits = await kept.deliver("waits")
        await kept.becomes(waits, "waiting", 1)
        kept.clock.seconds += 3600
        await show(house)
        *shown, expiry = (kept.metric(name) for name in names)
        assert shown == [2, 2 * len(MP4), 1]
        assert expiry is not None
        assert 22 * 3600 < expiry < 23 * 3600


async def test_when_a_clip_was_used_last_is_written_down_and_never_goes_back(
    tmp_path: Path,
) -> None:
    async with keeping(tmp_path) as kept:
        house = kept.proxy.house
        (clip_id,) = await some_kept(kept, 1)
        seen = []
        for seconds in (0, 100, -50):
            kept.clock.seconds += seconds
            house.archive.used(clip_id)
            await show(house)
            ((used_at,),) = await kept.proxy.rows("SELECT used_at FROM keepings")
            seen.append(used_at)
        assert seen[0] < seen[1] == seen[2]
        assert house.archive.take_used() == {}


async def test_the_chores_are_done_soon_after_the_start_and_then_by_the_hour(
    tmp_path: Path,
) -> None:
    limits = {"heartbeat_seconds": 0.05, "orphan_seconds": 1}
    async with keeping(tmp_path, limits=limits, vault={"retention_days": 1}) as kept:
        (clip_id,) = await some_kept(kept, 1)
        left = tmp_path / "vault" / "incoming" / "left.part"
        left.write_bytes(MP4)
        kept.clock.seconds += 3601
        await until(lambda: not left.exists())
        kept.clock.seconds += 2 * DAY
        await kept.becomes(clip_id, "evicted")
        await until(lambda: kept.metric("vault_clips") == 0)
        assert await kept.stored(clip_id) == []


async def test_chores_that_cannot_be_done_are_put_off(
    tmp_path: Path, bucket: str, s3: S3, lines: list[Any]
) -> None:
    async with keeping(tmp_path, bucket, vault={"retention_days": 1}) as kept:
        house = kept.proxy.house
        (clip_id,) = await some_kept(kept, 1)
        kept.jump(2 * DAY)
        rounds, name = Rounds(house), bucket.split("/")[2]
        s3.drop(bucket)
        await rounds.tend()
        assert "vault_unavailable" in {line["event"] for line in lines}
        s3.send("PUT", name)
        assert (await kept.row(clip_id))["state"] == "evicted"

        class Away:
            async def read(self, _: Any) -> None:
                raise LedgerUnavailable("away")

        database, house.database = house.database, Away()  # type: ignore[assignment]
        await rounds.tend()
        house.database = database
        assert "vault_chores_put_off" in {line["event"] for line in lines}
