"""`GET /v1/models`: what a team may ask for today, and what it costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai

from proxy.core.catalog import Catalog
from tests.running import Running, configured, running

FOUR_K = {
    "models": [{"name": "veo-3.1-4k", "size": "2160x3840", "seconds": 8, "images": 2}],
    "prices": [
        {"models": ["veo-3.1-4k"], "usd_per_clip": "1.2", "from": "2025-01-01"},
        {"models": ["veo-3.1-fast"], "usd_per_clip": "0.15", "from": "2025-01-01"},
        {"models": ["veo-3.1"], "usd_per_clip": "0.25", "from": "2999-01-01"},
    ],
    "aliases": {"sora-2": "veo-3.1-fast", "sora-2-pro": "veo-3.1"},
}


async def listed(proxy: Running, key: str | None = None) -> dict[str, dict[str, Any]]:
    answer = await proxy.get("/v1/models", key)
    assert answer.status == 200, answer.body
    body = json.loads(answer.body)
    assert body["object"] == "list"
    return {one["id"]: one for one in body["data"]}


async def test_the_documented_models_are_listed_with_their_price_and_shape(tmp_path: Path) -> None:
    async with running(configured(tmp_path, [("api", "http://127.0.0.1:9")])) as proxy:
        models = await listed(proxy)
    assert list(models) == [model.name for model in Catalog.documented()]
    assert models["veo-3.1-landscape-fast-fl"] == {
        "id": "veo-3.1-landscape-fast-fl",
        "object": "model",
        "created": 0,
        "owned_by": "apiyi",
        "usd_per_clip": "0.15",
        "size": "1280x720",
        "seconds": 8,
        "images_min": 1,
        "images_max": 2,
        "alias_of": None,
    }
    assert models["veo-3.1"]["usd_per_clip"] == "0.25"


async def test_what_has_no_price_today_is_not_offered(tmp_path: Path) -> None:
    config = configured(tmp_path, [("api", "http://127.0.0.1:9")], **FOUR_K)
    async with running(config) as proxy:
        models = await listed(proxy)
    assert set(models) == {"veo-3.1-fast", "veo-3.1-4k", "sora-2"}
    assert models["veo-3.1-4k"]["usd_per_clip"] == "1.20"
    assert models["veo-3.1-4k"]["size"] == "2160x3840"
    assert models["sora-2"]["alias_of"] == "veo-3.1-fast"


async def test_a_team_sees_the_models_it_may_use(tmp_path: Path) -> None:
    config = configured(tmp_path, [("api", "http://127.0.0.1:9")])
    async with running(config, models=["veo-3.1-landscape*", "veo-3.1"]) as proxy:
        models = await listed(proxy)
        assert "veo-3.1-landscape-fast" in models
        assert "veo-3.1-fast" not in models
        assert "veo-3.1-fl" not in models
        (await proxy.get("/v1/models/veo-3.1-fast")).assert_error(404, "model_not_found")
        found = await proxy.get("/v1/models/veo-3.1")
        assert (found.status, json.loads(found.body)) == (200, models["veo-3.1"])


async def test_an_unknown_model_is_absent_like_one_that_is_not_allowed(tmp_path: Path) -> None:
    config = configured(tmp_path, [("api", "http://127.0.0.1:9")])
    async with running(config, models=["veo-3.1"]) as proxy:
        unknown = await proxy.get("/v1/models/nothing")
        foreign = await proxy.get("/v1/models/veo-3.1-fl")
    assert unknown.status == foreign.status == 404
    assert unknown.body == foreign.body.replace(b"veo-3.1-fl", b"nothing")


async def test_the_openai_sdk_reads_the_list(tmp_path: Path) -> None:
    async with running(configured(tmp_path, [("api", "http://127.0.0.1:9")])) as proxy:
        base_url = f"{proxy.url}/v1"
        async with openai.AsyncOpenAI(base_url=base_url, api_key=proxy.key) as client:
            names = [model.id async for model in client.models.list()]
            one = await client.models.retrieve("veo-3.1-fast")
    assert len(names) == 8
    assert one.model_extra is not None
    assert one.model_extra["usd_per_clip"] == "0.15"
