"""`/v1/videos/{id}/content` as callers, players and browsers see it, over real sockets."""

from __future__ import annotations

import asyncio
import email.parser
import email.policy
import hashlib
import json
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from proxy.core import clip
from proxy.core.caller import Role
from proxy.core.failure import Reason
from proxy.core.playback import Disposition, Playback, sign
from proxy.store.tenants import disable_tenant
from tests.clip_host import (
    accepted,
    became,
    content,
    delivered,
    fetch,
    hosting,
    kept,
)
from tests.running import Answer, Running, until
from tests.s3 import S3
from tests.store.vaults import clip as film

DATA = film(300_000)
ETAG = f'"{hashlib.sha256(DATA).hexdigest()}"'
RIVAL = bytes([7]) * 32
GUARDED = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox",
    "referrer-policy": "no-referrer",
}


def own(answer: Answer) -> dict[str, str]:
    """The headers that do not change from request to request."""
    return {
        name: value
        for name, value in answer.headers.items()
        if name not in {"date", "x-request-id"}
    }


async def test_all_of_a_clip_comes_with_what_caches_and_browsers_must_know(
    tmp_path: Path, vault_url: str | None
) -> None:
    async with hosting(tmp_path, vault_url) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(DATA)))
        answer = await fetch(proxy, content(made))
        modified = answer.headers["last-modified"]
        assert (answer.status, answer.body, answer.broken) == (200, DATA, False)
        assert own(answer) == {
            "accept-ranges": "bytes",
            "etag": ETAG,
            "last-modified": modified,
            "content-type": "video/mp4",
            "content-length": str(len(DATA)),
            "content-disposition": f'inline; filename="{made}.mp4"',
            "cache-control": "private, max-age=31536000, immutable",
            "cache-status": "clipmeter; hit",
            **GUARDED,
        }
        assert (await fetch(proxy, content(made), **{"if-modified-since": modified})).status == 304


RANGES: list[tuple[str, tuple[int, int] | None]] = [
    ("bytes=0-1", (0, 2)),
    ("bytes=0-", (0, len(DATA))),
    ("bytes=100-199", (100, 200)),
    ("bytes=299999-", (299_999, 300_000)),
    ("bytes=-500", (299_500, 300_000)),
    ("bytes=-9999999", (0, len(DATA))),
    ("bytes=5-9999999", (5, len(DATA))),
    ("bytes=0-4,3-9", (0, 10)),
    ("bytes=0-0,2-2,4-4,6-6,8-8,10-10", None),
    ("bytes=9-1", None),
    ("bytes=x", None),
    ("seconds=0-1", None),
]


async def test_one_range_is_a_part_and_what_is_none_is_the_whole(
    tmp_path: Path, vault_url: str | None
) -> None:
    async with hosting(tmp_path, vault_url) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(DATA)))
        for value, span in RANGES:
            answer = await fetch(proxy, content(made), range=value)
            if span is None:
                assert (answer.status, answer.body) == (200, DATA), value
                assert "content-range" not in answer.headers
                continue
            start, stop = span
            assert (answer.status, answer.body) == (206, DATA[start:stop]), value
            assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(DATA)}"
            assert answer.headers["content-length"] == str(stop - start)
            assert answer.headers["etag"] == ETAG


async def test_several_ranges_come_in_one_body_with_their_places(tmp_path: Path) -> None:
    async with hosting(tmp_path) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(DATA)))
        answer = await fetch(proxy, content(made), range="bytes=0-9,-5,1000-1999")
        assert answer.status == 206
        assert int(answer.headers["content-length"]) == len(answer.body)
        head = f"content-type: {answer.headers['content-type']}\r\n\r\n".encode()
        parser = email.parser.BytesParser(policy=email.policy.HTTP)
        parts = list(parser.parsebytes(head + answer.body).iter_parts())
        found = [(part["content-range"], part.get_payload(decode=True)) for part in parts]
        assert found == [
            ("bytes 0-9/300000", DATA[:10]),
            ("bytes 299995-299999/300000", DATA[-5:]),
            ("bytes 1000-1999/300000", DATA[1000:2000]),
        ]


async def test_a_range_behind_the_end_is_told_where_the_end_is(tmp_path: Path) -> None:
    async with hosting(tmp_path) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(DATA)))
        answer = await fetch(proxy, content(made), range="bytes=300000-")
        answer.assert_error(416, "range_not_satisfiable")
        assert answer.headers["content-range"] == "bytes */300000"
        assert answer.headers["cache-control"] == "no-store"


CONDITIONS: list[tuple[dict[str, str], int]] = [
    ({"if-none-match": ETAG}, 304),
    ({"if-none-match": f'"x", W/{ETAG}'}, 304),
    ({"if-none-match": "*"}, 304),
    ({"if-none-match": '"x"'}, 200),
    ({"if-none-match": ETAG, "range": "bytes=0-1"}, 304),
    ({"if-modified-since": "Fri, 01 Jan 2100 00:00:00 GMT"}, 304),
    ({"if-modified-since": "Thu, 01 Jan 2026 00:00:00 GMT"}, 200),
    ({"if-match": ETAG}, 200),
    ({"if-match": '"x"'}, 412),
    ({"if-match": f"W/{ETAG}"}, 412),
    ({"if-unmodified-since": "Thu, 01 Jan 2026 00:00:00 GMT"}, 412),
    ({"if-range": ETAG, "range": "bytes=0-1"}, 206),
    ({"if-range": '"x"', "range": "bytes=0-1"}, 200),
    ({"if-range": f"W/{ETAG}", "range": "bytes=0-1"}, 200),
]


async def test_conditions_are_kept_and_head_says_what_get_would(tmp_path: Path) -> None:
    async with hosting(tmp_path) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(DATA)))
        for headers, status in CONDITIONS:
            answer = await fetch(proxy, content(made), **headers)
            assert answer.status == status, headers
            head = await fetch(proxy, content(made), "HEAD", **headers)
            assert head.body == b""
            if status == 206:  # a range is GET's alone
                answer = await fetch(proxy, content(made))
            assert (head.status, own(head)) == (answer.status, own(answer)), headers
            if status == 304:
                assert (answer.body, answer.headers["etag"]) == (b"", ETAG)
                assert "immutable" in answer.headers["cache-control"]
            elif status == 412:
                answer.assert_error(412, "precondition_failed")
                assert answer.headers["etag"] == ETAG


async def test_a_clip_without_bytes_says_why(tmp_path: Path) -> None:
    async with hosting(tmp_path) as (proxy, host):
        await proxy.add_key(seed=RIVAL)
        running = await accepted(proxy)
        lost = await became(proxy, await accepted(proxy), clip.Opened(), clip.Lost(Reason.LOST))
        failed = await became(
            proxy, await accepted(proxy), clip.Opened(), clip.Failed(Reason.POLICY_AUDIO)
        )
        given_up = await became(
            proxy,
            await accepted(proxy),
            clip.Opened(),
            clip.Lost(Reason.LOST),
            clip.GaveUp(),
        )
        gone = {}
        for state in ("evicted", "lost", "deleted"):
            gone[state] = await kept(proxy, await delivered(proxy, host.link(DATA)))
            await _becomes(proxy, gone[state], state)
        foreign = await kept(proxy, await delivered(proxy, host.link(DATA), RIVAL))
        expected = [
            (running, 409, "video_not_ready"),
            (lost, 409, "video_not_ready"),
            (failed, 409, "video_failed"),
            (given_up, 409, "video_failed"),
            (gone["evicted"], 410, "video_expired"),
            (gone["lost"], 410, "video_expired"),
            (gone["deleted"], 404, "video_not_found"),
            (foreign, 404, "video_not_found"),
            ("video_unknown", 404, "video_not_found"),
            ("%2e%2e", 404, "video_not_found"),
            ("a%00b", 404, "video_not_found"),
        ]
        for clip_id, status, code in expected:
            for path in (content(clip_id), content(clip_id, "variant=thumbnail")):
                answer = await fetch(proxy, path)
                answer.assert_error(status, code)
                head = await fetch(proxy, path, "HEAD")
                assert (head.status, head.body, own(head)) == (status, b"", own(answer))
        answer = await fetch(proxy, content(running))
        assert int(answer.headers["openai-poll-after-ms"]) >= 1000
        assert "policy_audio" in (await fetch(proxy, content(failed))).error["message"]
        one, other = [await fetch(proxy, content(each)) for each in (foreign, "video_unknown")]
        assert (one.body, own(one)) == (other.body, own(other))


async def _becomes(proxy: Running, clip_id: str, state: str) -> None:
    """What other parts of the program make of a kept clip."""
    deleted = ", deleted_at = '2026-01-01 00:00:00.000000'" if state == "deleted" else ""
    keepings = f"UPDATE keepings SET state = '{state}' WHERE clip_id = '{clip_id}'"
    clips = f"UPDATE clips SET url = url{deleted} WHERE id = '{clip_id}'"
    await proxy.house.database.write(lambda tx: tx.exec_driver_sql(keepings))
    await proxy.house.database.write(lambda tx: tx.exec_driver_sql(clips))
    proxy.house.standings.forget(clip_id)


async def test_only_a_tenants_key_or_a_link_opens_it(tmp_path: Path) -> None:
    async with hosting(tmp_path) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(DATA)))
        for role in (Role.FINANCE, Role.ADMIN, Role.METRICS):
            key = await proxy.add_key(role, hashlib.sha256(role.encode()).digest())
            (await fetch(proxy, content(made), key=key)).assert_error(403, "role_required")
        rival = await proxy.add_key(seed=RIVAL)
        (await fetch(proxy, content(made), key=rival)).assert_error(404, "video_not_found")
        for key in ("", "sk-cm-nonsense"):
            (await fetch(proxy, content(made), key=key)).assert_error(401, "invalid_api_key")
        (await fetch(proxy, content(made), "POST")).assert_error(405, "method_not_allowed")
        # A key that is shown counts, whatever link it stands beside.
        link = await link_of(proxy, made)
        (await fetch(proxy, link, key="sk-cm-nonsense")).assert_error(401, "invalid_api_key")
        (await fetch(proxy, link, key=rival)).assert_error(404, "video_not_found")


async def link_of(proxy: Running, clip_id: str, query: str = "", **headers: str) -> str:
    answer = await fetch(proxy, content(clip_id, query), accept="application/json", **headers)
    assert answer.status == 200, answer.body
    link: str = json.loads(answer.body)["url"]
    return link


async def test_the_link_form_gives_a_link_that_plays_without_a_key(
    tmp_path: Path, vault_url: str | None
) -> None:
    async with hosting(tmp_path, vault_url) as (proxy, host):
        made = await delivered(proxy, host.link(DATA))
        answer = await fetch(proxy, content(made), accept="application/json")
        form = json.loads(answer.body)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        assert set(form) == {"id", "object", "url", "expires_at"}
        assert (form["id"], form["object"]) == (made, "video.content")
        ahead = form["expires_at"] - proxy.house.clock.now().timestamp()
        assert 3500 < ahead <= 3600
        await kept(proxy, made)
        assert (await fetch(proxy, form["url"], key="")).body == DATA
        probe = await fetch(proxy, form["url"], key="", range="bytes=0-1")
        assert (probe.status, probe.body) == (206, DATA[:2])
        head = await fetch(proxy, form["url"], "HEAD", key="")
        assert (head.status, head.headers["content-length"]) == (200, str(len(DATA)))
        # Whoever has a link alone cannot have a longer one.
        assert (await fetch(proxy, form["url"], key="", accept="application/json")).body == DATA


async def test_the_link_leads_where_the_caller_came_to(tmp_path: Path) -> None:
    async with hosting(tmp_path) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(DATA)))
        link = await link_of(proxy, made, host="clips.example.com:8443")
        assert urlsplit(link).netloc == "clips.example.com:8443"
        sheet = await link_of(proxy, made, "variant=spritesheet")
        assert sheet.endswith("&variant=spritesheet")
    public = {"public_url": "https://clips.example.com"}
    async with hosting(tmp_path / "other", server=public) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(DATA)))
        assert (await link_of(proxy, made)).startswith("https://clips.example.com/v1/videos/")


async def test_a_link_that_was_changed_in_any_way_opens_nothing(tmp_path: Path) -> None:
    async with hosting(tmp_path) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(DATA)))
        other = await kept(proxy, await delivered(proxy, host.link(DATA)))
        await proxy.add_key(seed=RIVAL)
        rows = await proxy.rows("SELECT id FROM tenants ORDER BY created_at")
        link = await link_of(proxy, made)
        path, _, query = link.partition("?")
        fields = dict(parse_qsl(query))
        changed: list[str] = [query.replace(f"exp={fields['exp']}", "exp=99999999999")]
        for name, value in fields.items():
            rest = {each: value for each, value in fields.items() if each != name}
            changed.append(
                urlencode({**fields, name: value[:-1] + ("x" if value[-1] != "x" else "y")})
            )
            changed.append(urlencode({**fields, name: ""}))
            changed.append(f"{query}&{name}={value}")
            if name != "sig":
                changed.append(urlencode(rest))
        changed.append(urlencode({**fields, "for": rows[1][0]}))
        changed.append(urlencode({**fields, "as": "attachment"}))
        for each in changed:
            (await fetch(proxy, f"{path}?{each}", key="")).assert_error(403, "link_invalid")
        moved = link.replace(made, other)
        (await fetch(proxy, moved, key="")).assert_error(403, "link_invalid")
        assert (await fetch(proxy, f"{link}&utm=1", key="")).status == 200


async def test_a_link_dies_with_its_time_its_tenant_and_its_clip(tmp_path: Path) -> None:
    async with hosting(tmp_path) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(DATA)))
        ((tenant_id,),) = await proxy.rows("SELECT tenant_id FROM clips")
        now = proxy.house.clock.now()

        def link(seconds: float, keys: tuple[bytes, ...] = proxy.house.playback_keys) -> str:
            until = now + timedelta(seconds=seconds)
            return content(made, sign(Playback(made, tenant_id, until), keys))

        assert (await fetch(proxy, link(60), key="")).status == 200
        for dead in (link(-1), link(3700), link(60, (bytes(32),))):
            (await fetch(proxy, dead, key="")).assert_error(403, "link_invalid")
        saved = sign(
            Playback(made, tenant_id, now + timedelta(seconds=60), Disposition.ATTACHMENT),
            proxy.house.playback_keys,
        )
        answer = await fetch(proxy, content(made, saved), key="")
        assert answer.headers["content-disposition"].startswith("attachment; ")
        await _becomes(proxy, made, "deleted")
        (await fetch(proxy, link(60), key="")).assert_error(404, "video_not_found")
        team = (await proxy.rows("SELECT name FROM tenants"))[0][0]
        await proxy.house.database.write(lambda tx: disable_tenant(tx, team, now))
        (await fetch(proxy, link(60), key="")).assert_error(403, "link_invalid")


@pytest.mark.parametrize(
    "query", ["variant=poster", "variant=video&variant=thumbnail", "redirect=x"]
)
async def test_what_is_asked_for_must_be_clear(tmp_path: Path, query: str) -> None:
    async with hosting(tmp_path) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(DATA)))
        (await fetch(proxy, content(made, query))).assert_error(400, "invalid_request")


async def test_callers_are_sent_to_the_bucket_where_the_operator_wants_it(
    tmp_path: Path, bucket: str, s3: S3
) -> None:
    async with hosting(tmp_path, bucket, vault={"redirect": True}) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(DATA)))
        link = await link_of(proxy, made)
        for asked in ({"path": content(made)}, {"path": link, "key": ""}):
            answer = await fetch(proxy, **asked)
            assert (answer.status, answer.body) == (302, b"")
            assert answer.headers["cache-control"] == "no-store"
            lasts = dict(parse_qsl(urlsplit(answer.headers["location"]).query))["X-Amz-Expires"]
            assert 0 < int(lasts) <= 300
            headers, body = await asyncio.to_thread(s3.get, answer.headers["location"])
            assert (headers["content-type"], body) == ("video/mp4", DATA)
        assert (await fetch(proxy, content(made), range="bytes=0-1")).status == 302
        # What the bucket could not answer, or answers for GET alone, is answered here.
        head = await fetch(proxy, content(made), "HEAD")
        assert (head.status, head.headers["etag"]) == (200, ETAG)
        assert (await fetch(proxy, content(made), **{"if-none-match": ETAG})).status == 304
        same = await fetch(proxy, content(made), range="bytes=0-1", **{"if-match": ETAG})
        assert (same.status, same.body) == (206, DATA[:2])
        beyond = await fetch(proxy, content(made), range="bytes=300000-")
        beyond.assert_error(416, "range_not_satisfiable")
        streamed = await fetch(proxy, content(made, "redirect=0"))
        assert (streamed.status, streamed.body) == (200, DATA)


async def test_a_folder_sends_nobody_anywhere(tmp_path: Path) -> None:
    async with hosting(tmp_path, vault={"redirect": True}) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(DATA)))
        answer = await fetch(proxy, content(made))
        assert (answer.status, answer.body) == (200, DATA)


async def open_raw(proxy: Running, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for a path, and read nothing yet."""
    at = urlsplit(proxy.url)
    assert at.hostname is not None
    reader, writer = await asyncio.open_connection(at.hostname, at.port, limit=4096)
    head = f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {proxy.key}\r\n\r\n"
    writer.write(head.encode())
    return reader, writer


BIG = film(12 * 2**20)


@pytest.mark.parametrize("leaves", [False, True], ids=["a caller who stalls", "one who leaves"])
async def test_nothing_is_held_open_for(tmp_path: Path, leaves: bool) -> None:
    limits = {"listener_stall_seconds_max": 0.3} if not leaves else {}
    async with hosting(tmp_path, limits=limits) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(BIG)))
        before = open_files(tmp_path)
        reader, writer = await open_raw(proxy, content(made))
        assert (await reader.readexactly(12)) == b"HTTP/1.1 200"
        assert open_files(tmp_path) > before
        if leaves:
            writer.transport.abort()
        await until(lambda: open_files(tmp_path) <= before)
        writer.transport.abort()
        assert (await fetch(proxy, content(made))).body == BIG


def open_files(folder: Path) -> int:
    """How many of this process's open files are clips below `folder`."""
    links = Path("/proc/self/fd").iterdir()
    return sum(str(folder) in target and ".mp4" in target for target in map(_target, links))


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:
        return ""


async def test_a_reader_is_given_every_byte_of_what_was_evicted_meanwhile(tmp_path: Path) -> None:
    async with hosting(tmp_path) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(BIG)))
        reader, writer = await open_raw(proxy, content(made))
        await reader.readuntil(b"\r\n\r\n")
        await _becomes(proxy, made, "evicted")
        await proxy.house.vault.delete(made)
        assert await reader.readexactly(len(BIG)) == BIG
        writer.transport.abort()
        (await fetch(proxy, content(made))).assert_error(410, "video_expired")


async def test_what_was_asked_for_last_is_known(tmp_path: Path) -> None:
    async with hosting(tmp_path) as (proxy, host):
        made = await kept(proxy, await delivered(proxy, host.link(DATA)))
        proxy.house.archive.take_used()
        await fetch(proxy, content(made))
        used = set(proxy.house.archive.take_used())
        # A chore may have been quicker in writing it down.
        rows = await proxy.rows("SELECT clip_id FROM keepings WHERE used_at IS NOT NULL")
        assert used | {row[0] for row in rows} == {made}
