"""The typed routes: closed by default, described truly, every trouble in one envelope."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from proxy.core.caller import Role
from proxy.web.table import ID, ROUTES
from proxy.web.typed import ROUTERS
from tests.running import configured, running

OTHER_SEED = bytes(range(1, 33))

TYPED = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]

OPEN = {"/healthz", "/readyz"}
"""What anybody may ask."""


async def test_every_other_route_is_closed_to_whoever_has_no_key(tmp_path: Path) -> None:
    async with running(configured(tmp_path, [("api", "http://127.0.0.1:9")])) as proxy:
        paths = {route.path for route in TYPED}
        assert {"/v1/models", "/v1/usage", "/metrics", "/docs", "/openapi.json"} <= paths
        for path in sorted(paths):
            answer = await proxy.get(path.replace("{model}", "veo-3.1"), key="")
            if path in OPEN:
                assert answer.status == 200, path
            else:
                answer.assert_error(401, "invalid_api_key")


async def test_a_role_opens_its_own_doors_only(tmp_path: Path) -> None:
    doors = {
        "/v1/models": {Role.TENANT},
        "/v1/models/veo-3.1": {Role.TENANT},
        "/v1/usage": {Role.TENANT},
        "/metrics": {Role.METRICS},
        "/openapi.json": set(Role),
        "/docs": set(Role),
    }
    async with running(configured(tmp_path, [("api", "http://127.0.0.1:9")])) as proxy:
        for number, role in enumerate(Role):
            key = await proxy.add_key(role, bytes([number + 50]) * 32)
            for path, roles in doors.items():
                answer = await proxy.get(path, key)
                if role in roles:
                    assert answer.status == 200, (role, path)
                else:
                    answer.assert_error(403, "role_required")


async def test_the_document_describes_every_route_of_both_halves(tmp_path: Path) -> None:
    async with running(configured(tmp_path, [("api", "http://127.0.0.1:9")])) as proxy:
        document = json.loads((await proxy.get("/openapi.json")).body)
    typed = {route.path for route in TYPED if route.include_in_schema}
    assert set(document["paths"]) == typed | {route.path for route in ROUTES}
    assert document["openapi"].startswith("3.")
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation.get("summary"), path
            assert operation["responses"], path
    chat = document["paths"]["/v1/chat/completions"]["post"]
    assert set(chat["responses"]["200"]["content"]) == {"text/event-stream", "application/json"}
    for route in ROUTES:
        operation = document["paths"][route.path][route.method.lower()]
        named = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
        assert named == (["id"] if ID in route.path else [])
        assert ("requestBody" in operation) is (route.method == "POST")


def references(part: object) -> Iterator[str]:
    """Every schema that a part of the document refers to."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for each in part.values():
            yield from references(each)
    elif isinstance(part, list):
        for each in part:
            yield from references(each)


async def test_the_document_is_whole_and_its_operations_have_names_of_their_own(
    tmp_path: Path,
) -> None:
    async with running(configured(tmp_path, [("api", "http://127.0.0.1:9")])) as proxy:
        document = json.loads((await proxy.get("/openapi.json")).body)
    prefix = "#/components/schemas/"
    assert {each.removeprefix(prefix) for each in references(document)} <= set(
        document["components"]["schemas"]
    )
    operations = [one for path in document["paths"].values() for one in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    video = document["components"]["schemas"]["Video"]["properties"]
    assert video["status"]["enum"] == ["queued", "in_progress", "completed", "failed"]
    form = document["paths"]["/v1/videos"]["post"]["requestBody"]["content"]["multipart/form-data"]
    order = document["components"]["schemas"][form["schema"]["$ref"].removeprefix(prefix)]
    (files, _) = order["properties"]["input_reference"]["anyOf"]
    assert files["items"] == {"type": "string", "format": "binary"}
    content = document["paths"]["/v1/videos/{id}/content"]["get"]
    assert content["security"] == [{"key": []}, {}]


async def test_the_page_of_the_document_is_html(tmp_path: Path) -> None:
    async with running(configured(tmp_path, [("api", "http://127.0.0.1:9")])) as proxy:
        answer = await proxy.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert b"openapi.json" in answer.body


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/v1/models/", "//v1/models", "/..;/"])
async def test_an_unknown_path_is_an_error_of_openais_shape(tmp_path: Path, path: str) -> None:
    async with running(configured(tmp_path, [("api", "http://127.0.0.1:9")])) as proxy:
        answer = await proxy.get(path)
    answer.assert_error(404, "route_not_found")
    assert answer.headers["x-request-id"].startswith("req_")
