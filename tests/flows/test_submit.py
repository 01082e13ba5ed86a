"""One video job, from its admission until it is followed or ended: the caller, and the ledger."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy import errors
from proxy.core.caller import Caller, Role
from proxy.core.catalog import Catalog
from proxy.core.replay import fingerprint_video
from proxy.core.video_request import Image, VideoRequest
from proxy.flows.follow import Follower
from proxy.flows.reply import CallerGone, Reply
from proxy.flows.submit import PROMPT_CHARS_MAX, submit
from proxy.flows.tend import sweep_orphans
from proxy.remote.gateway import Call
from proxy.sandbox import Sandbox
from proxy.store.database import LedgerUnavailable
from proxy.store.jobs import JobRow
from tests.core.test_images import jpeg, png
from tests.core.test_submission import parted
from tests.gateways import (
    Act,
    Gateway,
    Request,
    answers,
    bytes_then,
    closed_port,
    gateways,
    head,
    refusal,
    resets,
    stalls,
)
from tests.running import Answer, Running, configured, read, running, until

FAST = 150_000
MODELS = Catalog.documented().models
QUICK = {"stall_seconds_max": 1, "submit_head_seconds_max": 1, "connect_seconds_max": 1}
LINK = "https://cdn.example/clip.mp4"
QUEUED = {"id": "video_abc123", "object": "video", "created": 1762181811, "status": "queued"}


class Noted:
    """Stands before the follower and notes what it is given, so that nobody polls."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self.jobs: list[JobRow] = []

    def follow(self, job: JobRow) -> None:
        self.jobs.append(job)

    async def take_over(self, dead_before: object) -> None:
        """Nothing here outlives its process."""

    def renewed(self, at: object) -> None:
        """Nothing here is leased."""

    async def let_go(self) -> None:
        await self._follower.let_go()


class Desk:
    """A running proxy, and a tenant who orders videos of it."""

    def __init__(self, proxy: Running) -> None:
        self.proxy = proxy
        self.noted = Noted(proxy.house.follower)
        proxy.house.follower = self.noted  # type: ignore[assignment]
        self.caller: Caller | None = None

    async def order(self, prompt: str = "a cat", gone: bool = False) -> Answer:
        """What the caller gets for a request for a fast clip."""
        return await self.send(wanted(prompt), gone)

    async def send(self, request: VideoRequest, gone: bool = False) -> Answer:
        """What the caller gets for `request`."""

        async def left() -> bool:
            return gone

        house = self.proxy.house
        sent = [(b"accept", b"application/json"), (b"cookie", b"session=1")]
        asking = submit(house, await self.who(), request, sent, left, "http://us.example")
        del request
        try:
            return whole(await asking)
        except errors.ProxyError as refused:
            return Answer(refused.status, dict(refused.headers()), refused.body())

    async def who(self) -> Caller:
        if self.caller is None:
            [(key_id, tenant_id)] = await self.proxy.rows("SELECT id, tenant_id FROM keys")
            self.caller = Caller(key_id, tenant_id, "team", Role.TENANT)
        return self.caller

    async def jobs(self) -> list[tuple[Any, ...]]:
        """The jobs that are written down and not ended: gateway, the vendor's id, percent."""
        query = "SELECT gateway, upstream_id, percent FROM jobs WHERE ended_at IS NULL"
        return await self.proxy.rows(query)


def wanted(prompt: str = "a cat", model: str = "veo-3.1-fast", *images: Image) -> VideoRequest:
    return VideoRequest(MODELS[model], model, prompt, images)


def whole(reply: Reply) -> Answer:
    """The reply as its caller gets it."""
    assert isinstance(reply.body, bytes)
    headers = {name.decode(): value.decode() for name, value in reply.headers}
    return Answer(reply.status, {**headers, **dict(reply.generation.headers())}, reply.body)


def video(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    shown: dict[str, Any] = json.loads(answer.body)
    return shown


@asynccontextmanager
async def serving(
    tmp_path: Path, *acts: Act, limits: dict[str, Any] | None = None, **terms: Any
) -> AsyncIterator[tuple[Desk, list[Gateway]]]:
    """A proxy before three gateways, each of which takes the job unless the first is told other."""
    async with gateways("api", "vip", "b") as made:
        for one in made:
            one.does(answers(200, QUEUED))
        if acts:
            made[0].does(*acts)
        urls = [(one.name, one.url) for one in made]
        config = configured(tmp_path, urls, limits={**QUICK, **(limits or {})})
        async with running(config, **terms) as proxy:
            yield Desk(proxy), made


async def test_a_job_is_bought_once_and_followed_from_then_on(tmp_path: Path) -> None:
    named = ("X-Shellapi-Request-Id", "shell-1"), ("X-Request-Id", "origin-1")
    async with serving(tmp_path, answers(200, QUEUED, *named)) as (desk, (api, *_)):
        answer = await desk.order()
        shown = video(answer)
        clip_id = answer.headers["x-clipmeter-clips"]
        assert (shown["id"], shown["status"], shown["model"]) == (clip_id, "queued", "veo-3.1-fast")
        assert shown["prompt"] == "a cat"
        assert shown["clipmeter"]["generation"] == answer.headers["x-clipmeter-generation"]
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        assert int(answer.headers["openai-poll-after-ms"]) > 0
        assert answer.headers["x-upstream-video-id"] == "video_abc123"
        assert answer.headers["x-upstream-request-id"] == "shell-1"
        assert answer.headers["x-upstream-origin-request-id"] == "origin-1"
        assert await desk.proxy.settled() == ["queued"]
        assert await desk.proxy.charged() == 0
        assert await desk.jobs() == [("api", "video_abc123", 0)]
        assert [(job.clip_id, job.fence) for job in desk.noted.jobs] == [(clip_id, 0)]
        assert api.posts == 1
        rows = await desk.proxy.rows(
            "SELECT mode, gateway, upstream_id, upstream_request_id, status, ended_at "
            "FROM generations"
        )
        assert rows == [("video", "api", "video_abc123", "shell-1", 200, None)]
        attempts = await desk.proxy.rows("SELECT outcome, status, exposure_micros FROM attempts")
        assert attempts == [("answered", 200, 0)]


async def test_a_job_is_followed_on_postgresql_too(tmp_path: Path, postgres_url: str) -> None:
    groups: dict[str, Any] = {
        "database": {"url": postgres_url},
        "secrets": {"key": "0123456789abcdef" * 2},
    }
    begun = {**QUEUED, "status": "processing", "progress": 10}
    async with gateways("api") as (api,):
        api.does(refusal(502), answers(200, begun))
        urls = [("api", api.url), ("vip", api.url)]
        async with running(configured(tmp_path, urls, limits=QUICK, **groups)) as proxy:
            desk = Desk(proxy)
            assert video(await desk.order())["status"] == "in_progress"
            assert await desk.jobs() == [("vip", "video_abc123", 10)]
            assert [(job.percent, job.fence) for job in desk.noted.jobs] == [(10, 0)]
            assert await proxy.settled() == ["in_progress"]


async def test_the_vendor_gets_model_and_prompt_and_nothing_of_the_callers(tmp_path: Path) -> None:
    async with serving(tmp_path) as (desk, (api, *_)):
        await desk.order("a cat, “purring”")
        sent = api.requests[0]
        assert (sent.method, sent.path) == ("POST", "/v1/videos")
        assert json.loads(sent.body) == {"model": "veo-3.1-fast", "prompt": "a cat, “purring”"}
        assert sent.headers["content-type"] == "application/json"
        assert sent.headers["authorization"] == "Bearer sk-test-vendor-key-0123456789"
        assert "cookie" not in sent.headers
        rows = await desk.proxy.rows("SELECT body_hash, clips, stream FROM generations")
        assert rows == [(fingerprint_video(sent.body), 1, 0)]


async def test_two_images_go_as_repeated_files_start_frame_first(tmp_path: Path) -> None:
    images = Image(jpeg(720, 1280), "image/jpeg"), Image(png(720, 1280), "image/png")
    async with serving(tmp_path) as (desk, (api, *_)):
        video(await desk.send(wanted("turn", "veo-3.1-fl", *images)))
        sent = api.requests[0]
        files = parted(sent.headers["content-type"], sent.body)[2:]
        assert [(name, data) for name, data, _ in files] == [
            ("input_reference", image.data) for image in images
        ]


ACCEPTED: dict[str, tuple[Any, int, str]] = {
    "documented": (QUEUED, 200, "queued"),
    "a task": ({"id": "video_abc123", "object": "task", "status": "submitted"}, 200, "queued"),
    "with an early end": (
        {"task_id": "video_abc123", "status": "queued", "completed_at": 1775025090},
        200,
        "queued",
    ),
    "nested": ({"code": "success", "data": {"task_id": "video_abc123"}}, 201, "queued"),
    "without a state": ({"id": "video_abc123"}, 202, "queued"),
    "in capitals": ({"id": "video_abc123", "status": "NOT_START"}, 200, "queued"),
    "begun": ({"id": "video_abc123", "status": "PROCESSING"}, 200, "in_progress"),
    "a state nobody knows": ({"id": "video_abc123", "status": "x"}, 200, "in_progress"),
    "completed without a link": (
        {"id": "video_abc123", "status": "completed"},
        200,
        "in_progress",
    ),
    "completed with a link for our key": (
        {"id": "video_abc123", "status": "completed", "url": "/v1/videos/video_abc123/content"},
        200,
        "in_progress",
    ),
    "an error beside its name": (
        {"id": "video_abc123", "error": {"message": "busy", "code": "x"}},
        200,
        "queued",
    ),
    "JSON that breaks off": (b'{"id":"video_abc123","object":"vid', 200, "queued"),
}


@pytest.mark.parametrize(("body", "status", "state"), ACCEPTED.values(), ids=ACCEPTED.keys())
async def test_a_job_with_a_name_is_followed_whatever_its_answer_looks_like(
    tmp_path: Path, body: Any, status: int, state: str
) -> None:
    async with serving(tmp_path, answers(status, body)) as (desk, _):
        shown = video(await desk.order())
        assert shown["status"] == state
        assert await desk.proxy.settled() == [state]
        [(gateway, upstream_id, _)] = await desk.jobs()
        assert (gateway, upstream_id) == ("api", "video_abc123")
        assert [str(job.state) for job in desk.noted.jobs] == [state]
        assert await desk.proxy.charged() == 0


async def test_what_the_vendor_calls_its_job_by_a_number_is_followed_by_it(tmp_path: Path) -> None:
    async with serving(tmp_path, answers(200, {"id": 4711, "status": "queued"})) as (desk, _):
        assert (await desk.order()).headers["x-upstream-video-id"] == "4711"
        assert await desk.jobs() == [("api", "4711", 0)]


async def test_progress_told_at_once_is_where_the_follower_begins(tmp_path: Path) -> None:
    begun = {**QUEUED, "status": "in_progress", "progress": "45%"}
    async with serving(tmp_path, answers(200, begun)) as (desk, _):
        assert video(await desk.order())["progress"] == 45
        assert await desk.jobs() == [("api", "video_abc123", 45)]
        assert [job.percent for job in desk.noted.jobs] == [45]


JSON = ("Content-Type", "application/json")
LONGER = head(200, JSON, ("Content-Length", "500"))
NAMED = LONGER + b'{"id":"video_abc123","object":"vid'
NAMELESS = LONGER + b'{"object":"video","id":"vid'


@pytest.mark.parametrize("end", ["close", "reset", "stall"])
async def test_an_answer_that_broke_off_behind_the_jobs_name_is_followed(
    tmp_path: Path, end: str
) -> None:
    async with serving(tmp_path, bytes_then(NAMED, end)) as (desk, (api, vip, b)):
        assert video(await desk.order())["status"] == "queued"
        assert await desk.proxy.settled() == ["queued"]
        assert await desk.jobs() == [("api", "video_abc123", 0)]
        assert [one.posts for one in (api, vip, b)] == [1, 0, 0]


async def test_an_answer_without_end_is_read_as_far_as_its_limit(tmp_path: Path) -> None:
    endless = answers(200, b'{"id":"video_abc123","x":"' + b"y" * 500_000 + b'"}')
    async with serving(tmp_path, endless) as (desk, _):
        assert video(await desk.order())["status"] == "queued"
        assert await desk.jobs() == [("api", "video_abc123", 0)]


async def test_an_encoded_answer_is_read(tmp_path: Path) -> None:
    body = gzip.compress(json.dumps(QUEUED).encode())
    act = answers(200, body, JSON, ("Content-Encoding", "gzip"))
    async with serving(tmp_path, act) as (desk, _):
        assert video(await desk.order())["status"] == "queued"
        assert await desk.jobs() == [("api", "video_abc123", 0)]


UNANSWERED: dict[str, Act] = {
    "silence": stalls(),
    "a reset": resets(),
    "a closed connection": bytes_then(b""),
    "half a status line": bytes_then(b"HTTP/1.1 20"),
    "junk": bytes_then(b"nonsense\r\n\r\n"),
    "half a body": bytes_then(NAMELESS),
    "half a body, reset": bytes_then(NAMELESS, "reset"),
    "half a body, stalled": bytes_then(NAMELESS, "stall"),
    "half of an error": bytes_then(LONGER + b'{"error":{"message":"quota is'),
    "an encoding nobody knows": answers(200, QUEUED, ("Content-Encoding", "br")),
}


@pytest.mark.parametrize("act", UNANSWERED.values(), ids=UNANSWERED.keys())
async def test_an_unanswered_submit_is_unknown_and_never_sent_again(
    tmp_path: Path, act: Act
) -> None:
    async with serving(tmp_path, act) as (desk, made):
        answer = await desk.order()
        answer.assert_error(504, "outcome_unknown")
        assert "GET /v1/videos/" in answer.error["message"]
        assert answer.headers["x-clipmeter-clips"].startswith("video_")
        assert await desk.proxy.settled() == ["unknown"]
        assert [one.posts for one in made] == [1, 0, 0]
        assert (await desk.jobs(), desk.noted.jobs) == ([], [])
        assert await desk.proxy.charged() == 0
        assert await desk.proxy.rows("SELECT ending FROM generations") == [("untold",)]


NO_ANSWER: dict[str, Act] = {
    "a web page": answers(200, b"<!doctype html>"),
    "no name": answers(200, {"object": "video", "status": "queued"}),
    "a name that cannot be asked for": answers(200, {"id": "..", "status": "queued"}),
    "completed, without name and link": answers(200, {"status": "completed"}),
    "a job that is not there": answers(200, {"error": {"code": "video_not_found"}}),
    "nothing": answers(200, b"", JSON),
    "no content": bytes_then(head(204)),
}


@pytest.mark.parametrize("act", NO_ANSWER.values(), ids=NO_ANSWER.keys())
async def test_an_answer_that_names_no_job_is_unknown_and_never_a_failure(
    tmp_path: Path, act: Act
) -> None:
    async with serving(tmp_path, act) as (desk, made):
        (await desk.order()).assert_error(502, "upstream_invalid")
        assert await desk.proxy.settled() == ["unknown"]
        assert [one.posts for one in made] == [1, 0, 0]
        assert await desk.proxy.charged() == 0


async def test_a_clip_that_is_finished_at_once_is_charged_once(tmp_path: Path) -> None:
    async with serving(tmp_path, answers(200, {**QUEUED, "status": "SUCCESS", "url": LINK})) as (
        desk,
        _,
    ):
        answer = await desk.order()
        shown = video(answer)
        assert (shown["status"], shown["progress"]) == ("completed", 100)
        assert shown["clipmeter"]["cost_usd"] == "0.15"
        assert "openai-poll-after-ms" not in answer.headers
        assert LINK not in answer.body.decode()
        assert await desk.proxy.settled() == ["delivered"]
        assert await desk.proxy.charged() == FAST
        assert (await desk.jobs(), desk.noted.jobs) == ([], [])
        rows = await desk.proxy.rows("SELECT ending, upstream_id FROM generations")
        assert rows == [("told", "video_abc123")]
        assert await desk.proxy.rows("SELECT state FROM keepings") == [("waiting",)]


async def test_a_job_that_failed_at_once_is_a_failed_video_and_costs_nothing(
    tmp_path: Path,
) -> None:
    failed = {**QUEUED, "status": "failed", "fail_reason": "PUBLIC_ERROR_UNSAFE_GENERATION"}
    async with serving(tmp_path, answers(200, failed)) as (desk, _):
        shown = video(await desk.order())
        assert (shown["status"], shown["error"]["code"]) == ("failed", "policy_other")
        assert "PUBLIC_ERROR_UNSAFE_GENERATION" in shown["error"]["message"]
        assert await desk.proxy.settled() == ["failed"]
        assert (await desk.jobs(), desk.noted.jobs) == ([], [])
        assert await desk.proxy.rows("SELECT exposure_micros FROM attempts") == [(0,)]


async def test_an_error_under_a_status_of_success_fails_and_is_listed_as_exposure(
    tmp_path: Path,
) -> None:
    error = {"error": {"message": "当前负载已饱和", "type": "shell_api_error"}}
    async with serving(tmp_path, answers(200, error)) as (desk, made):
        shown = video(await desk.order())
        assert (shown["status"], shown["error"]["code"]) == ("failed", "vendor_capacity")
        assert await desk.proxy.settled() == ["failed"]
        assert await desk.proxy.rows("SELECT exposure_micros FROM attempts") == [(FAST,)]
        assert [one.posts for one in made] == [1, 0, 0]


OURS: dict[str, tuple[Act, str]] = {
    "our key": (refusal(401, "无效的令牌"), "upstream_auth"),
    "our group": (refusal(403, "当前分组不支持此模型"), "upstream_auth"),
    "our balance": (
        refusal(403, "quota is not enough", "insufficient_user_quota"),
        "upstream_balance",
    ),
    "our balance as 429": (refusal(429, "余额不足"), "upstream_balance"),
    "our key under 200": (answers(200, {"error": {"message": "无效的令牌"}}), "upstream_auth"),
    "our balance under 200": (
        answers(200, {"error": {"message": "no", "code": "insufficient_user_quota"}}),
        "upstream_balance",
    ),
}


@pytest.mark.parametrize(("act", "code"), OURS.values(), ids=OURS.keys())
async def test_trouble_with_our_account_stays_ours(tmp_path: Path, act: Act, code: str) -> None:
    async with serving(tmp_path, act) as (desk, made):
        answer = await desk.order()
        answer.assert_error(502, code)
        assert "quota" not in answer.body.decode()
        assert await desk.proxy.settled() == ["failed"]
        assert [one.posts for one in made] == [1, 0, 0]


@pytest.mark.parametrize(
    ("act", "status", "retry"),
    [
        (refusal(400, "bad parameters", "invalid_request"), 400, False),
        (refusal(403, "PUBLIC_ERROR_UNSAFE_GENERATION", "content_policy_violation"), 403, False),
        (refusal(429, "当前分组上游负载已饱和,请稍后再试"), 429, True),
    ],
    ids=["bad request", "policy", "rate"],
)
async def test_what_is_about_the_caller_is_passed_on_as_it_came(
    tmp_path: Path, act: Act, status: int, retry: bool
) -> None:
    async with serving(tmp_path, act) as (desk, made):
        answer = await desk.order()
        assert answer.status == status
        assert answer.error["type"] == "shell_api_error"
        assert answer.headers["x-should-retry"] == ("true" if retry else "false")
        assert await desk.proxy.settled() == ["failed"]
        assert [one.posts for one in made] == [1, 0, 0]


async def test_a_failing_gateway_is_followed_by_the_next_which_has_the_job(tmp_path: Path) -> None:
    async with serving(tmp_path, refusal(502)) as (desk, made):
        answer = await desk.order()
        shown = video(answer)
        assert (shown["clipmeter"]["gateway"], shown["clipmeter"]["attempts"]) == ("vip", 2)
        assert answer.headers["x-clipmeter-gateway"] == "vip"
        assert await desk.jobs() == [("vip", "video_abc123", 0)]
        assert [one.posts for one in made] == [1, 1, 0]
        assert made[0].requests[0].body == made[1].requests[0].body


async def test_when_every_gateway_fails_the_last_answer_is_passed_on(tmp_path: Path) -> None:
    async with serving(tmp_path, refusal(500, "one")) as (desk, (_, vip, b)):
        vip.does(refusal(502, "two"))
        b.does(refusal(503, "three"))
        answer = await desk.order()
        assert (answer.status, answer.error["message"]) == (503, "three")
        assert await desk.proxy.settled() == ["failed"]


async def test_when_no_gateway_can_be_reached_nothing_is_bought(tmp_path: Path) -> None:
    urls = [(name, closed_port()) for name in ("api", "vip")]
    async with running(configured(tmp_path, urls, limits=QUICK)) as proxy:
        (await Desk(proxy).order()).assert_error(502, "upstream_unavailable", retry=True)
        assert await proxy.settled() == ["failed"]


async def test_a_new_job_is_waited_for_as_long_as_its_own_limit_says(tmp_path: Path) -> None:
    limits = {"submit_head_seconds_max": 0.2, "head_seconds_max": 60}
    async with serving(tmp_path, stalls(), limits=limits) as (desk, _):
        async with asyncio.timeout(10):
            (await desk.order()).assert_error(504, "outcome_unknown")


async def test_the_intent_is_durable_before_the_gateway_is_asked(tmp_path: Path) -> None:
    found: list[Any] = []
    async with serving(tmp_path) as (desk, (api, *_)):

        async def looks(request: Request, writer: asyncio.StreamWriter) -> None:
            found.extend(await desk.proxy.rows("SELECT kind, amount_micros FROM entries"))
            found.extend(await desk.proxy.rows("SELECT gateway, outcome FROM attempts"))
            await answers(200, QUEUED)(request, writer)

        api.does(looks)
        await desk.order()
        assert found == [("hold", FAST), ("api", "dispatching")]


@pytest.mark.parametrize("length", [PROMPT_CHARS_MAX, PROMPT_CHARS_MAX + 1])
async def test_a_prompt_is_kept_for_its_tenant_unless_it_is_endless(
    tmp_path: Path, length: int
) -> None:
    prompt = "y" * length
    async with serving(tmp_path) as (desk, _):
        kept = prompt if length == PROMPT_CHARS_MAX else None
        assert video(await desk.order(prompt))["prompt"] == kept
        assert await desk.proxy.rows("SELECT prompt FROM generations") == [(kept,)]


def held(prompt: str) -> list[object]:
    """What is in memory of requests with this prompt, as they came and as they are sent."""
    gc.collect()
    found = [one for one in gc.get_objects() if isinstance(one, VideoRequest | Call)]
    return [
        one
        for one in found
        if prompt in (one.prompt if isinstance(one, VideoRequest) else one.body.decode("latin-1"))
    ]


def gated(gate: asyncio.Event, first: bytes, then: bytes) -> Act:
    """Sends `first` at once, and the rest when the gate opens."""

    async def act(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        await gate.wait()
        writer.write(then)
        await writer.drain()

    return act


async def test_a_request_is_not_kept_once_it_was_sent(tmp_path: Path) -> None:
    prompt, gate = "a lighthouse nobody else asks for", asyncio.Event()
    raw = json.dumps(QUEUED).encode()
    headed = gated(gate, head(200, JSON, ("Content-Length", str(len(raw)))), raw)
    headless = gated(gate, b"", head(200, JSON, ("Content-Length", str(len(raw)))) + raw)
    limits = {"stall_seconds_max": 20, "submit_head_seconds_max": 20}
    async with serving(tmp_path, headless, headed, limits=limits) as (desk, (api, *_)):
        waiting = asyncio.create_task(
            desk.send(wanted(prompt, "veo-3.1-fl", Image(jpeg(9, 9), "image/jpeg")))
        )
        await until(lambda: api.posts == 1)
        kept = [type(one) for one in held(prompt)]
        reading = asyncio.create_task(desk.order(f"{prompt}, again"))
        house = desk.proxy.house
        await until(lambda: "2xx" in attempts_of(house.metrics.render("")[0].decode()))
        gone = held(f"{prompt}, again")
        gate.set()
        assert [video(one)["status"] for one in await asyncio.gather(waiting, reading)] == [
            "queued"
        ] * 2
        # Until a gateway answers the next one may have to be asked.
        assert (kept, gone) == ([Call], [])


def attempts_of(shown: str) -> list[str]:
    """The classes of the answers that were counted."""
    counted = [line for line in shown.splitlines() if line.startswith("clipmeter_upstream_req")]
    videos = [line for line in counted if 'operation="video"' in line and not line.endswith(" 0.0")]
    return [line.partition('outcome="')[2].partition('"')[0] for line in videos]


@pytest.mark.parametrize(
    ("terms", "code", "retry"),
    [
        ({"clips_per_month": 0}, "insufficient_quota", False),
        ({"micros_per_month": FAST - 1}, "insufficient_quota", False),
        ({"clips_in_flight": 0}, "rate_limit_exceeded", True),
    ],
    ids=str,
)
async def test_a_request_over_a_limit_is_refused_before_anything_is_sent(
    tmp_path: Path, terms: dict[str, Any], code: str, retry: bool
) -> None:
    async with serving(tmp_path, **terms) as (desk, made):
        (await desk.order()).assert_error(429, code, retry=retry)
        assert sum(one.posts for one in made) == 0
        assert await desk.proxy.rows("SELECT id FROM generations") == []


async def test_a_running_job_is_in_flight(tmp_path: Path) -> None:
    async with serving(tmp_path, clips_in_flight=1) as (desk, _):
        video(await desk.order())
        (await desk.order()).assert_error(429, "rate_limit_exceeded", retry=True)


async def test_a_draining_server_takes_no_new_job(tmp_path: Path) -> None:
    async with serving(tmp_path) as (desk, (api, *_)):
        desk.proxy.house.draining = True
        (await desk.order()).assert_error(503, "draining", retry=True)
        assert api.posts == 0


async def test_a_caller_who_left_before_anything_was_written_buys_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as (desk, (api, *_)):
        with pytest.raises(CallerGone):
            await desk.order(gone=True)
        assert api.posts == 0
        assert await desk.proxy.rows("SELECT id FROM generations") == []


async def test_the_job_of_a_caller_who_leaves_is_followed(tmp_path: Path) -> None:
    gate, raw = asyncio.Event(), json.dumps(QUEUED).encode()
    act = gated(gate, b"", head(200, JSON, ("Content-Length", str(len(raw)))) + raw)
    async with serving(tmp_path, act) as (desk, (api, *_)):
        ordering = asyncio.create_task(desk.order())
        await until(lambda: api.posts == 1)
        ordering.cancel()
        await asyncio.wait([ordering])
        gate.set()
        assert await desk.proxy.settled() == ["queued"]
        assert len(await desk.jobs()) == len(desk.noted.jobs) == 1


class AwayAfter:
    """A database that takes so many of a request's writes, and is away for all that follow."""

    def __init__(self, database: Any, writes: int) -> None:
        self.database, self.left, self.refused = database, writes, 0

    async def write(self, fn: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        if task.get_name().startswith(("gen_", "late settlements")):
            if self.left <= 0:
                self.refused += 1
                raise LedgerUnavailable("away")
            self.left -= 1
        return await self.database.write(fn)

    async def read(self, fn: Any) -> Any:
        return await self.database.read(fn)


@asynccontextmanager
async def away_after(desk: Desk, writes: int) -> AsyncIterator[AwayAfter]:
    """The database is away after so many writes, and comes back at the end."""
    house, database = desk.proxy.house, desk.proxy.house.database
    await desk.who()
    away = AwayAfter(database, writes)
    house.database = house.settler._database = away  # type: ignore[assignment]
    yield away
    house.database = house.settler._database = database
    await until(lambda: house.settler.late == 0)


LATE = {"settle_seconds_max": 0.2}


async def test_without_a_ledger_nothing_is_sent(tmp_path: Path) -> None:
    async with serving(tmp_path) as (desk, made):
        async with away_after(desk, 0):
            (await desk.order()).assert_error(503, "ledger_unavailable", retry=True)
        assert sum(one.posts for one in made) == 0


@pytest.mark.parametrize("written", [True, False])
async def test_a_hold_whose_writing_was_not_heard_of_is_not_held_for_ever(
    tmp_path: Path, written: bool
) -> None:
    class Deaf:
        """A database whose first commit nobody hears of."""

        def __init__(self, database: Any) -> None:
            self.database = database

        async def write(self, fn: Any) -> Any:
            if written:
                await self.database.write(fn)
            raise LedgerUnavailable("the connection broke", maybe_committed=True)

    async with serving(tmp_path) as (desk, made):
        house = desk.proxy.house
        await desk.who()
        database = house.database
        house.database = Deaf(database)  # type: ignore[assignment]
        answer = await desk.order()
        house.database = database
        answer.assert_error(503, "ledger_unavailable", retry=True)
        await until(lambda: house.settler.late == 0)
        assert await desk.proxy.settled() == (["failed"] if written else [])
        assert sum(one.posts for one in made) == 0
        attempts = await desk.proxy.rows("SELECT outcome, exposure_micros FROM attempts")
        assert attempts == ([("unreachable", 0)] if written else [])


@pytest.mark.parametrize(
    ("first", "status", "code", "retry"),
    [
        (refusal(502), 503, "ledger_unavailable", True),
        (answers(504, b"<html>"), 502, "upstream_unavailable", False),
    ],
    ids=["surely not bought", "maybe bought"],
)
async def test_a_rotation_that_cannot_be_booked_is_not_sent(
    tmp_path: Path, first: Act, status: int, code: str, retry: bool
) -> None:
    async with serving(tmp_path, first, limits=LATE) as (desk, (_, vip, b)):
        async with away_after(desk, 1):
            (await desk.order()).assert_error(status, code, retry=retry)
        assert (vip.posts, b.posts) == (0, 0)
        assert await desk.proxy.settled() == ["failed"]


async def test_a_job_that_cannot_be_written_in_time_is_not_told_and_followed_later(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, limits=LATE) as (desk, (api, *_)):
        async with away_after(desk, 1):
            answer = await desk.order()
            answer.assert_error(504, "outcome_unknown")
            assert answer.headers["x-upstream-video-id"] == "video_abc123"
            assert desk.noted.jobs == []
        assert await desk.proxy.settled() == ["queued"]
        assert await desk.jobs() == [("api", "video_abc123", 0)]
        assert [job.upstream_id for job in desk.noted.jobs] == ["video_abc123"]
        assert api.posts == 1


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        ({**QUEUED, "status": "completed", "url": LINK}, "delivered"),
        ({**QUEUED, "status": "failed", "error": "no"}, "failed"),
        ({"error": {"message": "无效的令牌"}}, "failed"),
        ({"status": "queued"}, "unknown"),
    ],
    ids=["delivered", "failed", "refused", "lost"],
)
async def test_an_end_that_cannot_be_written_in_time_is_not_told(
    tmp_path: Path, reply: Any, state: str
) -> None:
    async with serving(tmp_path, answers(200, reply), limits=LATE) as (desk, _):
        async with away_after(desk, 1):
            (await desk.order()).assert_error(504, "outcome_unknown")
        assert await desk.proxy.settled() == [state]
        assert await desk.proxy.charged() == (FAST if state == "delivered" else 0)


async def test_a_job_is_durable_with_all_it_needs_before_its_caller_is_answered(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, limits={"settle_seconds_max": 3}) as (desk, _):
        # Two writes: the intent, and all that is to know of the job.
        async with away_after(desk, 2):
            answer = await desk.order()
        assert video(answer)["status"] == "queued"
        assert await desk.jobs() == [("api", "video_abc123", 0)]


async def test_what_is_known_of_a_job_outlives_a_shutdown_that_waits_no_longer(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (desk, _):
        async with away_after(desk, 1) as away:
            ordering = asyncio.create_task(desk.order())
            await until(lambda: away.refused > 0)
            background = desk.proxy.house.background
            [run] = [task for task in background._tasks if task.get_name().startswith("gen_")]
            run.cancel()
            (await ordering).assert_error(500, "internal_error")
        assert await desk.proxy.settled() == ["queued"]
        assert await desk.jobs() == [("api", "video_abc123", 0)]
        assert [job.upstream_id for job in desk.noted.jobs] == ["video_abc123"]


async def test_a_process_killed_before_the_answer_leaves_an_unknown_clip(tmp_path: Path) -> None:
    gate, raw = asyncio.Event(), json.dumps(QUEUED).encode()
    act = gated(gate, b"", head(200, JSON, ("Content-Length", str(len(raw)))) + raw)
    async with serving(tmp_path / "running", act) as (desk, (api, *_)):
        ordering = asyncio.create_task(desk.order())
        await until(lambda: api.posts == 1)
        # What a kill at this moment would leave behind.
        shutil.copytree(tmp_path / "running", tmp_path / "killed")
        gate.set()
        await ordering
    async with serving(tmp_path / "killed", seed=bytes([7]) * 32) as (restarted, made):
        assert await restarted.proxy.settled() == ["unknown"]
        assert sum(one.posts for one in made) == 0


async def test_a_process_killed_after_the_answer_leaves_a_job_to_follow(tmp_path: Path) -> None:
    async with serving(tmp_path / "running") as (desk, _):
        video(await desk.order())
        shutil.copytree(tmp_path / "running", tmp_path / "killed")
    async with serving(tmp_path / "killed", seed=bytes([7]) * 32) as (restarted, made):
        house = restarted.proxy.house
        assert await sweep_orphans(house, house.clock.now()) == 0
        assert await restarted.proxy.settled() == ["queued"]
        assert await restarted.jobs() == [("api", "video_abc123", 0)]
        assert sum(one.posts for one in made) == 0


async def test_a_job_whose_process_was_taken_for_dead_is_followed_all_the_same(
    tmp_path: Path,
) -> None:
    gate, raw = asyncio.Event(), json.dumps({**QUEUED, "status": "processing"}).encode()
    act = gated(gate, b"", head(200, JSON, ("Content-Length", str(len(raw)))) + raw)
    limits = {"submit_head_seconds_max": 20}
    async with serving(tmp_path, act, limits=limits) as (desk, (api, *_)):
        house = desk.proxy.house
        ordering = asyncio.create_task(desk.order())
        await until(lambda: api.posts == 1)
        living, house.process_id = house.process_id, "process_another"
        later = house.clock.now().replace(year=house.clock.now().year + 1)
        assert await sweep_orphans(house, later) == 1
        house.process_id = living
        assert await desk.proxy.states() == ["unknown"]
        gate.set()
        assert video(await ordering)["status"] == "in_progress"
        assert await desk.proxy.settled() == ["in_progress"]
        assert len(desk.noted.jobs) == 1


@asynccontextmanager
async def pretending(tmp_path: Path) -> AsyncIterator[tuple[Desk, Sandbox]]:
    """A proxy before the sandbox's gateways."""
    async with Sandbox.start(speed=100) as sandbox:
        upstream = {"api_key": sandbox.api_key}
        config = configured(tmp_path, list(sandbox.urls.items()), limits=QUICK, upstream=upstream)
        async with running(config) as proxy:
            yield Desk(proxy), sandbox


@pytest.mark.parametrize("shape", ["a", "b", "c", "d", "e"])
async def test_each_recorded_shape_of_a_new_job_is_followed(tmp_path: Path, shape: str) -> None:
    async with pretending(tmp_path) as (desk, sandbox):
        answer = await desk.order(f"a cat [[created {shape}]]")
        assert video(answer)["status"] == "queued"
        [job] = sandbox.vendor.jobs.values()
        assert answer.headers["x-upstream-video-id"] == job.id
        assert await desk.jobs() == [("api", job.id, 0)]
        assert await desk.proxy.settled() == ["queued"]


@pytest.mark.parametrize(
    ("words", "status", "states", "accepted"),
    [
        ("[[reset-after]]", 504, ["unknown"], 1),
        ("[[reset]]", 504, ["unknown"], 0),
        ("[[cut 3]]", 504, ["unknown"], 1),
        ("[[cut 60]]", 200, ["queued"], 1),
        ("[[gzip]]", 200, ["queued"], 1),
        ("[[close-delimited]]", 200, ["queued"], 1),
        ("[[html]]", 502, ["unknown"], 0),
        ("[[json-error]]", 200, ["failed"], 0),
        ("[[policy]]", 403, ["failed"], 0),
        ("[[error balance]]", 502, ["failed"], 0),
        ("[[gateway api]] [[status 502]]", 200, ["queued"], 1),
    ],
    ids=str,
)
async def test_the_pretended_vendor_accepts_no_job_twice(
    tmp_path: Path, words: str, status: int, states: list[str], accepted: int
) -> None:
    async with pretending(tmp_path) as (desk, sandbox):
        assert (await desk.order(words)).status == status
        assert await desk.proxy.settled() == states
        assert sandbox.tally(words).accepted == accepted


@asynccontextmanager
async def posting(proxy: Running, **sent: Any) -> AsyncIterator[Answer]:
    """The whole answer to a `POST /v1/videos`."""
    async with (
        aiohttp.ClientSession(headers={"authorization": f"Bearer {proxy.key}"}) as session,
        session.post(f"{proxy.url}/v1/videos", **sent) as response,
    ):
        yield await read(response)


async def test_an_order_over_the_wire_is_answered_with_each_header_once(tmp_path: Path) -> None:
    order = {"model": "veo-3.1-fast", "prompt": "a cat", "seconds": "8", "n": 4}
    async with serving(tmp_path) as (desk, (api, *_)):
        async with posting(desk.proxy, json=order) as answer:
            assert video(answer)["id"] == answer.headers["x-clipmeter-clips"]
            assert answer.headers["x-upstream-video-id"] == "video_abc123"
        assert json.loads(api.requests[0].body) == {"model": "veo-3.1-fast", "prompt": "a cat"}
        assert await desk.proxy.settled() == ["queued"]


async def test_a_form_with_two_images_over_the_wire_goes_on_with_both(tmp_path: Path) -> None:
    form = aiohttp.FormData({"model": "veo-3.1-fl", "prompt": "turn"})
    images = jpeg(720, 1280), png(720, 1280)
    for image in images:
        form.add_field("input_reference[]", image, filename="frame")
    async with serving(tmp_path) as (desk, (api, *_)):
        async with posting(desk.proxy, data=form) as answer:
            assert video(answer)["model"] == "veo-3.1-fl"
        sent = api.requests[0]
        files = parted(sent.headers["content-type"], sent.body)[2:]
        assert [(name, data) for name, data, _ in files] == [
            ("input_reference", image) for image in images
        ]


async def test_an_unanswered_order_over_the_wire_says_what_to_do(tmp_path: Path) -> None:
    order = {"model": "veo-3.1-fast", "prompt": "a cat"}
    async with (
        serving(tmp_path, resets()) as (desk, _),
        posting(desk.proxy, json=order) as answer,
    ):
        answer.assert_error(504, "outcome_unknown")
        assert await desk.proxy.settled() == ["unknown"]
