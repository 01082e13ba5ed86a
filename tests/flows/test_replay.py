"""What a repeated request gets: the same operation, and nothing bought twice."""

from __future__ import annotations

import asyncio
import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy.core import clip
from proxy.core.failure import Reason
from proxy.flows.settle import Settlement
from proxy.flows.tend import sweep_orphans
from proxy.store.database import LedgerUnavailable
from tests.core.test_images import jpeg
from tests.gateways import Act, answers, closed_port, gateways, refusal, resets, streams
from tests.repeating import (
    FAST,
    QUEUED,
    QUICK,
    asks,
    assert_given_again,
    change,
    create,
    lasting,
    rate_limited,
    replayed,
    serving,
    until_state,
    usage,
    waits,
)
from tests.running import Answer, Running, configured, read, running, until
from tests.streams import chinese, chunk, frame, success
from tests.web.test_videos import form

BODY = chinese()
HALF = len(BODY) // 2
OTHER = bytes([9]) * 32
NEXT = bytes([7]) * 32
WHOLE: dict[str, Any] = {"choices": [{"message": {"content": success(1)}, "finish_reason": "stop"}]}


def halves(gate: asyncio.Event) -> Act:
    """A streamed clip, whose second half waits for the gate."""
    return streams(BODY[:HALF], BODY[HALF:], gate=gate)


async def settle(proxy: Running, clip_ids: str, *news: clip.Event) -> None:
    """Let it become known what became of the clips."""
    told = list(zip(clip_ids.split(","), news, strict=True))
    assert await proxy.house.settler.settle(Settlement(told, proxy.house.clock.now()))


FINISHED: dict[str, tuple[Act, dict[str, Any], int, int]] = {
    "streamed": (streams(BODY), {}, 200, 1),
    "unstreamed": (answers(200, WHOLE), {"stream": False}, 200, 1),
    "one of two": (streams(chinese(2, 1)), {"n": 2}, 200, 1),
    "failed in the stream": (streams(chinese(1, 0)), {}, 200, 0),
    "refused for its prompt": (
        refusal(403, "PUBLIC_ERROR_UNSAFE_GENERATION", "content_policy_violation"),
        {},
        403,
        0,
    ),
    "our account": (refusal(401, "无效的令牌"), {}, 502, 0),
}


@pytest.mark.parametrize(
    ("act", "fields", "status", "delivered"), FINISHED.values(), ids=FINISHED.keys()
)
async def test_a_finished_answer_is_given_again_byte_for_byte(
    tmp_path: Path, act: Act, fields: dict[str, Any], status: int, delivered: int
) -> None:
    async with serving(tmp_path, act) as (proxy, api):
        first = await proxy.chat(asks(**fields), idempotency_key="k")
        await proxy.settled()
        again = await proxy.chat(asks(**fields), idempotency_key="k")
        assert first.status == status
        assert_given_again(again, first)
        assert again.headers["cache-status"] == "clipmeter; hit"
        await until(lambda: len(proxy.house.background) == 0)
        assert await replayed(proxy) == [("idempotency", FAST)] * delivered
        assert (api.posts, await proxy.charged()) == (1, delivered * FAST)


async def test_every_gateways_5xx_is_given_again_and_not_sent_again(tmp_path: Path) -> None:
    async with gateways("api", "vip") as made:
        for one in made:
            one.does(answers(504, b"<html>time-out"))
        config = configured(tmp_path, [(one.name, one.url) for one in made], limits=QUICK)
        async with running(config) as proxy:
            first = await proxy.chat(asks(), idempotency_key="k")
            assert (first.status, first.headers["x-should-retry"]) == (504, "false")
            assert first.headers["x-clipmeter-generation"].startswith("gen_")
            assert_given_again(await proxy.chat(asks(), idempotency_key="k"), first)
            assert [one.posts for one in made] == [1, 1]


async def test_a_running_answer_is_joined_from_its_first_byte(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with serving(tmp_path, halves(gate)) as (proxy, api):
        async with (
            proxy.asking(asks(), idempotency_key="k") as one,
            proxy.asking(asks(), idempotency_key="k") as two,
        ):
            heard = await asyncio.wait_for(two.content.readexactly(HALF), 5)
            assert proxy.running == 1
            gate.set()
            first, again = await asyncio.gather(read(one), read(two))
        assert heard + again.body == BODY == first.body
        assert lasting(again) == lasting(first)
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["cache-status"] == "clipmeter; fwd=miss; collapsed"
        await until(lambda: len(proxy.house.background) == 0)
        assert await replayed(proxy) == [("idempotency", FAST)]
        assert (api.posts, await proxy.charged()) == (1, FAST)


@pytest.mark.parametrize(
    ("act", "fields"),
    [(streams(BODY), {}), (answers(200, WHOLE), {"stream": False}), (refusal(400), {})],
    ids=["streamed", "unstreamed", "refused"],
)
async def test_who_joins_before_there_is_a_head_waits_for_it(
    tmp_path: Path, act: Act, fields: dict[str, Any]
) -> None:
    gate = asyncio.Event()
    async with serving(tmp_path, waits(gate, act)) as (proxy, api):
        asking = [
            asyncio.create_task(proxy.chat(asks(**fields), idempotency_key="k")) for _ in range(3)
        ]
        await until(lambda: api.posts == 1)
        gate.set()
        first, *others = sorted(
            await asyncio.gather(*asking), key=lambda one: "idempotency-replayed" in one.headers
        )
        for other in others:
            assert_given_again(other, first)
        assert api.posts == 1


async def test_fifty_at_once_with_one_key_are_one_purchase(tmp_path: Path) -> None:
    async with serving(tmp_path, streams(BODY[:HALF], BODY[HALF:])) as (proxy, api):
        given = await asyncio.gather(*(proxy.chat(asks(), idempotency_key="k") for _ in range(50)))
        assert {(one.status, one.body, one.broken) for one in given} == {(200, BODY, False)}
        assert len({json.dumps(lasting(one)) for one in given}) == 1
        assert sum("idempotency-replayed" in one.headers for one in given) == 49
        assert await proxy.rows("SELECT COUNT(*) FROM entries WHERE kind = 'hold'") == [(1,)]
        assert (api.posts, await proxy.charged()) == (1, FAST)
        await until(lambda: len(proxy.house.background) == 0)
        assert len(await replayed(proxy)) == 49


async def test_who_joins_and_does_not_read_harms_nobody(tmp_path: Path) -> None:
    gate = asyncio.Event()
    filler = frame(chunk("y" * 50_000))
    act = streams(frame(chunk("x")), *[filler] * 200, BODY, gate=gate)
    limits = {"listener_bytes_max": 100_000}
    async with serving(tmp_path, act, limits=limits) as (proxy, api):
        async with proxy.asking(asks(), idempotency_key="k") as one:
            body = json.dumps(asks()).encode()
            host, port = proxy.url.removeprefix("http://").split(":")
            _, writer = await asyncio.open_connection(host, int(port), limit=1024)
            lines = f"Host: x\r\nAuthorization: {proxy.key}\r\nIdempotency-Key: k\r\n"
            lines += f"Content-Length: {len(body)}\r\n\r\n"
            writer.write(f"POST /v1/chat/completions HTTP/1.1\r\n{lines}".encode() + body)
            await until(lambda: len(_run(proxy)._audience._joined) == 1)
            async with proxy.asking(asks(), idempotency_key="k"):
                await until(lambda: len(_run(proxy)._audience._joined) == 2)
            gate.set()
            first = await read(one)
        assert (first.body[-len(BODY) :], first.broken) == (BODY, False)
        assert (await proxy.settled())[0] == "delivered"
        writer.transport.abort()
        assert api.posts == 1


def _run(proxy: Running) -> Any:
    return next(iter(proxy.house.runs.values()))


async def test_the_same_key_with_another_body_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, api):
        await proxy.chat(asks(), idempotency_key="k")
        turned = json.dumps(dict(reversed(asks().items())), indent=2).encode()
        assert (await proxy.chat(turned, idempotency_key="k")).status == 200
        for other in (asks(n=2), asks(stream=False), asks(seed=1)):
            answer = await proxy.chat(other, idempotency_key="k")
            answer.assert_error(422, "idempotency_key_reused")
        assert (await create(proxy, idempotency_key="k")).status != 422  # another route
        assert sum(request.path.endswith("completions") for request in api.requests) == 1


@pytest.mark.parametrize(
    ("headers", "param"),
    [
        ({"idempotency_key": "x" * 256}, "idempotency-key"),
        ({"idempotency_key": "clé"}, "idempotency-key"),
        ({"x_clipmeter_reuse": "maybe"}, "x-clipmeter-reuse"),
    ],
    ids=["too long", "not ASCII", "neither on nor off"],
)
async def test_a_malformed_wish_is_refused_before_anything_is_sent(
    tmp_path: Path, headers: dict[str, Any], param: str
) -> None:
    async with serving(tmp_path) as (proxy, api):
        for answer in (await proxy.chat(asks(), **headers), await create(proxy, **headers)):
            answer.assert_error(400, "invalid_request")
            assert answer.error["param"] == param
        assert api.posts == 0


async def test_a_key_is_its_own_teams(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, api):
        rival = await proxy.add_key(seed=OTHER)
        given = [
            await proxy.chat(asks(), idempotency_key="k"),
            await proxy.chat(asks()),
            await proxy.chat(asks(), key=rival, idempotency_key="k"),
            await proxy.chat(asks(), key=rival, x_stainless_retry_count="1"),
        ]
        assert not any("idempotency-replayed" in one.headers for one in given)
        assert api.posts == len({one.headers["x-clipmeter-generation"] for one in given}) == 4


@pytest.mark.parametrize("mode", ["chat", "video"])
async def test_an_error_that_may_be_tried_again_frees_its_key(tmp_path: Path, mode: str) -> None:
    then = streams(BODY) if mode == "chat" else answers(200, QUEUED)
    async with serving(tmp_path, rate_limited(), then) as (proxy, api):

        async def post() -> Answer:
            if mode == "chat":
                return await proxy.chat(asks(), idempotency_key="k")
            return await create(proxy, idempotency_key="k")

        first = await post()
        assert (first.status, first.headers["x-should-retry"]) == (429, "true")
        assert await proxy.rows("SELECT key FROM idempotency_keys") == []
        again = await post()
        assert (again.status, "idempotency-replayed" in again.headers) == (200, False)
        assert api.posts == 2


async def test_a_request_that_was_never_sent_frees_its_key(tmp_path: Path) -> None:
    config = configured(tmp_path, [("api", closed_port())], limits=QUICK)
    async with running(config, clips_per_month=1) as proxy:
        for _ in range(2):
            answer = await proxy.chat(asks(), idempotency_key="k")
            answer.assert_error(502, "upstream_unavailable", retry=True)
        over = await proxy.chat(asks(n=2), idempotency_key="k")
        over.assert_error(429, "insufficient_quota")
        assert await proxy.rows("SELECT key FROM idempotency_keys") == []
        assert await proxy.settled() == ["failed", "failed"]


async def test_an_unknown_outcome_is_the_same_504_until_it_is_known(tmp_path: Path) -> None:
    async with serving(tmp_path, resets()) as (proxy, api):
        first = await proxy.chat(asks(n=2), idempotency_key="k")
        for _ in range(2):
            again = await proxy.chat(asks(n=2), idempotency_key="k")
            again.assert_error(504, "outcome_unknown")
            assert (again.status, again.body) == (first.status, first.body)
            for name in ("x-clipmeter-generation", "x-clipmeter-clips"):
                assert again.headers[name] == first.headers[name]
        found = [clip.Found(clip.Delivered("https://cdn.example/a.mp4"))]
        found += [clip.Found(clip.Failed(Reason.NO_CLIP))]
        await settle(proxy, first.headers["x-clipmeter-clips"], *found)
        answer = await proxy.chat(asks(n=2), idempotency_key="k")
        one, _ = first.headers["x-clipmeter-clips"].split(",")
        assert answer.status == 200
        assert f"{proxy.url}/v1/videos/{one}/content?".encode() in answer.body
        assert answer.body.count("✅".encode()) == answer.body.count("❌".encode()) == 1
        assert api.posts == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_what_broke_off_is_made_afresh_once_its_clips_are_known(
    tmp_path: Path, stream: bool
) -> None:
    act = streams(frame(chunk(success(1))), end="reset")
    async with serving(tmp_path, act) as (proxy, api):
        first = await proxy.chat(asks(stream=stream), idempotency_key="k")
        assert first.broken or first.status == 504
        if not stream:
            return
        again = await proxy.chat(asks(stream=stream), idempotency_key="k")
        assert (again.status, again.broken) == (200, False)
        assert again.headers["content-type"] == "text/event-stream"
        assert again.body.endswith(b"data: [DONE]\n\n")
        assert api.posts == 1


async def test_a_key_whose_clip_was_never_made_says_so_and_buys_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, resets()) as (proxy, api):
        first = await proxy.chat(asks(), idempotency_key="k")
        news = clip.Found(clip.Failed(Reason.NO_CLIP))
        await settle(proxy, first.headers["x-clipmeter-clips"], news)
        again = await proxy.chat(asks(), idempotency_key="k")
        again.assert_error(409, "video_failed")
        assert "new Idempotency-Key" in again.error["message"]
        assert api.posts == 1


async def test_an_answer_whose_clip_was_deleted_is_gone_and_its_key_is_not(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (proxy, api):
        first = await proxy.chat(asks(), idempotency_key="k")
        await proxy.settled()
        clip_id = first.headers["x-clipmeter-clips"]
        await change(proxy, "DELETE FROM answers", "UPDATE keepings SET state = 'evicted'")
        again = await proxy.chat(asks(), idempotency_key="k")
        again.assert_error(410, "video_expired")
        assert (again.headers["x-clipmeter-clips"], api.posts) == (clip_id, 1)


RETRIES: dict[str, tuple[Act, str, bool]] = {
    "delivered": (streams(BODY), "1", True),
    "delivered, a later count": (streams(BODY), "2", True),
    "unknown": (resets(), "1", True),
    "failed": (streams(chinese(1, 0)), "1", False),
    "refused": (refusal(400), "1", False),
    "no count": (streams(BODY), "0", False),
    "an odd count": (streams(BODY), "x", False),
}


@pytest.mark.parametrize(("act", "count", "joins"), RETRIES.values(), ids=RETRIES.keys())
async def test_an_sdks_own_repeat_joins_what_may_have_been_bought(
    tmp_path: Path, act: Act, count: str, joins: bool
) -> None:
    async with serving(tmp_path, act) as (proxy, api):
        first = await proxy.chat(asks())
        await proxy.settled()
        again = await proxy.chat(asks(), x_stainless_retry_count=count)
        generation = "x-clipmeter-generation"
        assert (again.headers[generation] == first.headers[generation]) is joins
        assert (again.status, again.body) == (first.status, first.body)
        assert api.posts == (1 if joins else 2)


async def test_a_count_joins_a_request_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, api):
        retry = {"x_stainless_retry_count": "1"}
        given = [await proxy.chat(asks()), await proxy.chat(asks())]
        given += [await proxy.chat(asks(), **retry) for _ in range(3)]
        ids = [one.headers["x-clipmeter-generation"] for one in given]
        # The latest first, then the one before; who is left wants a clip of its own.
        assert ids[2:4] == [ids[1], ids[0]]
        assert (len(set(ids)), api.posts) == (3, 3)
        await until(lambda: len(proxy.house.background) == 0)
        assert await replayed(proxy) == [("retry", FAST)] * 2


async def test_a_running_request_is_joined_by_the_sdks_repeat(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with serving(tmp_path, halves(gate)) as (proxy, api):
        async with proxy.asking(asks()) as one:
            await one.content.readexactly(HALF)
            two = asyncio.create_task(proxy.chat(asks(), x_stainless_retry_count="1"))
            await until(lambda: len(_run(proxy)._audience._joined) == 1)
        gate.set()  # whoever was first has hung up
        assert (await two).body == BODY
        assert (await proxy.settled())[0] == "delivered"
        assert (api.posts, await proxy.charged()) == (1, FAST)


async def test_two_requests_alike_are_two_clips(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, api):
        await asyncio.gather(proxy.chat(asks()), proxy.chat(asks()))
        assert await proxy.settled() == ["delivered", "delivered"]
        assert (api.posts, await proxy.charged()) == (2, 2 * FAST)


async def test_usage_and_metrics_show_what_was_avoided(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, _):
        for _ in range(3):
            await proxy.chat(asks(n=1), idempotency_key="k")
        await proxy.settled()
        await until(lambda: len(proxy.house.background) == 0)
        told = await usage(proxy)
        totals = told["totals"]
        assert (totals["delivered"], totals["replayed"]) == (1, 2)
        assert (totals["amount_usd"], totals["avoided_usd"]) == ("0.15", "0.30")
        listed = json.loads((await proxy.get("/v1/videos")).body)["data"]
        assert len(listed) == 1
        registry = proxy.house.metrics.registry
        labels = {"tenant": "team-0", "model": "veo-3.1-fast"}
        asked = {**labels, "reason": "idempotency"}
        assert registry.get_sample_value("clipmeter_avoided_usd_total", asked) == pytest.approx(0.3)
        counted = {**labels, "outcome": "replayed"}
        assert registry.get_sample_value("clipmeter_clips_total", counted) == 2
        hits, misses = (
            registry.get_sample_value(
                "clipmeter_cache_requests_total", {"cache": "replay", "result": result}
            )
            for result in ("hit", "miss")
        )
        assert (hits, misses) == (2, 1)


async def test_an_answer_too_long_to_be_kept_is_made_afresh(tmp_path: Path) -> None:
    gate = asyncio.Event()
    replay = {"answer_bytes_max": 300}
    async with serving(tmp_path, halves(gate), replay=replay) as (proxy, api):
        async with proxy.asking(asks(), idempotency_key="k") as one:
            await one.content.readexactly(HALF)
            busy = await proxy.chat(asks(), idempotency_key="k")
            busy.assert_error(409, "idempotency_in_progress", retry=True)
            assert busy.headers["x-clipmeter-generation"].startswith("gen_")
            gate.set()
            await read(one)
        await proxy.settled()
        assert await proxy.rows("SELECT generation_id FROM answers") == []
        again = await proxy.chat(asks(), idempotency_key="k")
        assert (again.status, again.body.count("✅".encode())) == (200, 1)
        assert api.posts == 1


async def test_only_so_many_share_one_answer(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with serving(tmp_path, halves(gate), limits={"listeners_max": 1}) as (proxy, api):
        async with (
            proxy.asking(asks(), idempotency_key="k") as one,
            proxy.asking(asks(), idempotency_key="k") as two,
        ):
            await two.content.readexactly(HALF)
            third = await proxy.chat(asks(), idempotency_key="k")
            third.assert_error(409, "idempotency_in_progress", retry=True)
            gate.set()
            await asyncio.gather(read(one), read(two))
        assert api.posts == 1


async def test_a_key_works_across_processes_and_while_one_runs_elsewhere_is_told_to_wait(
    tmp_path: Path, postgres_url: str
) -> None:
    gate = asyncio.Event()
    groups: dict[str, Any] = {
        "database": {"url": postgres_url},
        "secrets": {"key": "0123456789abcdef" * 2},
        "limits": QUICK,
    }
    async with gateways("api") as (api,):
        api.does(halves(gate))
        urls = [("api", api.url)]
        async with (
            running(configured(tmp_path / "one", urls, **groups)) as one,
            running(configured(tmp_path / "two", urls, **groups), seed=NEXT) as two,
        ):
            async with one.asking(asks(), idempotency_key="k") as response:
                await response.content.readexactly(HALF)
                busy = await two.chat(asks(), key=one.key, idempotency_key="k")
                busy.assert_error(409, "idempotency_in_progress", retry=True)
                gate.set()
                first = await read(response)
            await one.settled()
            again = await two.chat(asks(), key=one.key, idempotency_key="k")
            assert (again.status, again.body) == (200, BODY)
            assert again.headers["x-clipmeter-clips"] == first.headers["x-clipmeter-clips"]


async def test_an_answer_is_given_again_after_a_restart(tmp_path: Path) -> None:
    async with gateways("api") as (api,):
        config = configured(tmp_path, [("api", api.url)], limits=QUICK)
        async with running(config) as proxy:
            key, first = proxy.key, await proxy.chat(asks(), idempotency_key="k")
        async with running(config, seed=NEXT) as proxy:
            again = await proxy.chat(asks(), key=key, idempotency_key="k")
            assert_given_again(again, first)
        assert api.posts == 1


async def test_what_a_killed_process_had_sent_is_told_as_unknown_and_never_sent_again(
    tmp_path: Path,
) -> None:
    gate = asyncio.Event()
    act = waits(gate, streams(BODY))
    async with serving(tmp_path / "running", act) as (proxy, api):
        asking = asyncio.create_task(proxy.chat(asks(), idempotency_key="k"))
        await until(lambda: api.posts == 1)
        # What a kill at this moment would leave behind.
        shutil.copytree(tmp_path / "running", tmp_path / "killed")
        gate.set()
        key, first = proxy.key, await asking
    async with gateways("api") as (api,):
        config = configured(tmp_path / "killed", [("api", api.url)], limits=QUICK)
        async with running(config, seed=NEXT) as proxy:
            for headers in ({"idempotency_key": "k"}, {"idempotency_key": "k"}):
                again = await proxy.chat(asks(), key=key, **headers)
                again.assert_error(504, "outcome_unknown")
                for name in ("x-clipmeter-generation", "x-clipmeter-clips"):
                    assert again.headers[name] == first.headers[name]
            assert api.posts == 0


async def test_until_a_dead_processes_work_is_swept_its_key_is_busy(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with serving(tmp_path, halves(gate)) as (proxy, api):
        async with proxy.asking(asks(), idempotency_key="k") as one:
            await one.content.readexactly(HALF)
            house = proxy.house
            # As another process would see it, whose run is not here and whose owner is dead.
            runs, house.runs = house.runs, {}
            living, house.process_id = house.process_id, "process_another"
            busy = await proxy.chat(asks(), idempotency_key="k")
            busy.assert_error(409, "idempotency_in_progress", retry=True)
            soon = house.clock.now() + timedelta(days=1)
            assert await sweep_orphans(house, soon) == 1
            unknown = await proxy.chat(asks(), idempotency_key="k")
            unknown.assert_error(504, "outcome_unknown")
            house.process_id, house.runs = living, runs
            gate.set()
            await read(one)
        assert api.posts == 1


class AwayForReads:
    """A database of which nothing can be read."""

    def __init__(self, database: Any) -> None:
        self.write = database.write

    async def read(self, fn: Any) -> Any:
        raise LedgerUnavailable("away")


async def test_a_repeat_that_cannot_be_looked_up_buys_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, api):
        await proxy.chat(asks(), idempotency_key="k")
        await proxy.settled()
        house, database = proxy.house, proxy.house.database
        house.database = AwayForReads(database)  # type: ignore[assignment]
        answer = await proxy.chat(asks(), idempotency_key="k")
        house.database = database
        answer.assert_error(503, "ledger_unavailable", retry=True)
        assert api.posts == 1


class AwayAfterAdmission:
    """A database that is away for every write but the first."""

    def __init__(self, database: Any) -> None:
        self.database, self.writes, self.read = database, 0, database.read

    async def write(self, fn: Any) -> Any:
        self.writes += 1
        if self.writes > 1:
            raise LedgerUnavailable("away")
        return await self.database.write(fn)


async def test_who_is_told_to_ask_again_may_although_the_settlement_was_late(
    tmp_path: Path,
) -> None:
    limits = {"settle_seconds_max": 0.3}
    acts = refusal(401, "无效的令牌"), streams(BODY)
    async with serving(tmp_path, *acts, limits=limits) as (proxy, api):
        house, database = proxy.house, proxy.house.database
        away: Any = AwayAfterAdmission(database)
        house.database = house.settler._database = away
        first = await proxy.chat(asks(), idempotency_key="k")
        first.assert_error(503, "ledger_unavailable", retry=True)
        house.database = house.settler._database = database
        await until(lambda: house.settler.late == 0)
        again = await proxy.chat(asks(), idempotency_key="k")
        assert (again.status, again.body) == (200, BODY)
        assert api.posts == 2


async def test_a_video_is_the_same_video_as_it_stands_now(tmp_path: Path) -> None:
    link = "https://cdn.example/clip.mp4"
    done = answers(200, {**QUEUED, "status": "completed", "url": link})
    follow = {"poll_seconds": 0.05}
    async with serving(tmp_path, answers(200, QUEUED), done, follow=follow) as (proxy, api):
        first = await create(proxy, idempotency_key="k")
        clip_id = json.loads(first.body)["id"]
        await until(lambda: api.posts < len(api.requests))
        await proxy.settled()
        await until_state(proxy, "delivered")
        again = await create(proxy, idempotency_key="k")
        video = json.loads(again.body)
        assert (video["id"], video["status"]) == (clip_id, "completed")
        for name in ("x-clipmeter-generation", "x-clipmeter-clips", "x-upstream-video-id"):
            assert again.headers[name] == first.headers[name]
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["cache-status"] == "clipmeter; hit"
        assert (api.posts, await proxy.charged()) == (1, FAST)


async def test_a_video_that_is_being_ordered_is_waited_for(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with serving(tmp_path, waits(gate, answers(200, QUEUED))) as (proxy, api):
        asking = [asyncio.create_task(create(proxy, idempotency_key="k")) for _ in range(5)]
        await until(lambda: api.posts == 1)
        gate.set()
        given = await asyncio.gather(*asking)
        assert len({one.body for one in given}) == 1
        assert {one.status for one in given} == {200}
        assert api.posts == 1


async def test_a_video_that_failed_is_shown_as_failed_to_its_key_and_bought_anew_by_a_retry(
    tmp_path: Path,
) -> None:
    failed = answers(200, {**QUEUED, "status": "failed", "fail_reason": "no luck"})
    async with serving(tmp_path, failed) as (proxy, api):
        first = await create(proxy, idempotency_key="k")
        again = await create(proxy, idempotency_key="k")
        assert json.loads(again.body) == json.loads(first.body)
        assert json.loads(again.body)["status"] == "failed"
        assert api.posts == 1
        await create(proxy)
        await create(proxy, x_stainless_retry_count="1")
        assert api.posts == 3


async def test_an_unanswered_order_is_the_same_504(tmp_path: Path) -> None:
    async with serving(tmp_path, resets()) as (proxy, api):
        first = await create(proxy, idempotency_key="k")
        again = await create(proxy, idempotency_key="k")
        again.assert_error(504, "outcome_unknown")
        assert (again.body, again.headers["x-clipmeter-clips"]) == (
            first.body,
            first.headers["x-clipmeter-clips"],
        )
        assert api.posts == 1


async def test_an_order_is_known_by_its_content_not_by_its_boundaries(tmp_path: Path) -> None:
    fields = ("model", "veo-3.1-fast-fl"), ("prompt", "turn")
    image = jpeg(720, 1280)
    changed = image[:-3] + bytes([image[-3] ^ 1]) + image[-2:]

    def body(data: bytes, name: str = "input_reference", boundary: str = "xYz") -> bytes:
        return form(*fields, images=[(name, data)], boundary=boundary)

    async with serving(tmp_path, answers(200, QUEUED)) as (proxy, api):
        first = await create(proxy, body(image), idempotency_key="k")
        other = "multipart/form-data; boundary=another"
        again = await create(
            proxy,
            body(image, "input_reference[]", "another"),
            idempotency_key="k",
            content_type=other,
        )
        assert json.loads(again.body)["id"] == json.loads(first.body)["id"]
        refused = await create(proxy, body(changed), idempotency_key="k")
        refused.assert_error(422, "idempotency_key_reused")
        assert api.posts == 1
