"""What machines ask of a server: does it answer, does it take paid work, what has it counted."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp

from proxy.core.caller import Role
from tests.running import ask, configured, running
from tests.web.test_typed import OTHER_SEED


async def test_health_says_only_that_the_process_answers(tmp_path: Path) -> None:
    async with running(configured(tmp_path, [("api", "http://127.0.0.1:9")])) as proxy:
        proxy.house.database.close()
        answer = await proxy.get("/healthz", key="")
    assert (answer.status, json.loads(answer.body)) == (200, {"status": "ok"})


async def test_a_server_is_ready_exactly_while_paid_work_is_taken(tmp_path: Path) -> None:
    async with running(configured(tmp_path, [("api", "http://127.0.0.1:9")])) as proxy:
        ready = await proxy.get("/readyz", key="")
        assert (ready.status, json.loads(ready.body)["reasons"]) == (200, [])
        proxy.house.draining = True
        draining = await proxy.get("/readyz", key="")
        assert draining.status == 503
        assert json.loads(draining.body) == {"status": "not_ready", "reasons": ["draining"]}
        (await proxy.chat(ask())).assert_error(503, "draining", retry=True)


async def test_a_ledger_that_is_away_makes_a_server_unready(tmp_path: Path) -> None:
    async with running(configured(tmp_path, [("api", "http://127.0.0.1:9")])) as proxy:
        assert (await proxy.get("/v1/models")).status == 200
        proxy.house.database.close()
        answer = await proxy.get("/readyz", key="")
        assert json.loads(answer.body)["reasons"] == ["ledger_unavailable"]
        (await proxy.chat(ask())).assert_error(503, "ledger_unavailable", retry=True)


async def test_the_series_need_a_metrics_key(tmp_path: Path) -> None:
    async with running(configured(tmp_path, [("api", "http://127.0.0.1:9")])) as proxy:
        (await proxy.get("/metrics", key="")).assert_error(401, "invalid_api_key")
        (await proxy.get("/metrics")).assert_error(403, "role_required")
        key = await proxy.add_key(Role.METRICS, OTHER_SEED)
        answer = await proxy.get("/metrics", key)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert b"clipmeter_http_requests_total" in answer.body


async def test_the_series_are_open_where_the_operator_says_so(tmp_path: Path) -> None:
    config = configured(tmp_path, [("api", "http://127.0.0.1:9")], server={"metrics_public": True})
    async with running(config) as proxy, aiohttp.ClientSession() as session:
        headers = {"accept": "application/openmetrics-text"}
        async with session.get(f"{proxy.url}/metrics", headers=headers) as response:
            body = await response.text()
    assert response.status == 200
    assert body.endswith("# EOF\n")
