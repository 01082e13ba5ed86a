"""Who may see what: every route with an id, asked by everybody, for ids of every kind.

What the matrix says is asked for in one world of teams (`tests.teams`), on either database.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi.routing import iter_route_contexts

from proxy.core.caller import Role
from proxy.core.playback import Playback, sign
from proxy.web.table import ID, ROUTES
from proxy.web.typed import typed_app
from tests.postgres import Postgres
from tests.running import Answer
from tests.teams import LINK_OF_OWNER, World, world

Cell = tuple[int, str]
"""The status and the code of an answer; no code where it is none of ours, or has no body."""

OK: Cell = (200, "")
NOBODY: Cell = (401, "invalid_api_key")
CLOSED: Cell = (403, "role_required")
ABSENT: Cell = (404, "video_not_found")
NOT_READY: Cell = (409, "video_not_ready")


@dataclass(frozen=True)
class Row:
    """What a route answers, by the kind of id; what is not named there is as `absent` says.

    `owner` and `other` are teams whose tenant is let in, `owner` the one whose ids these are.
    """

    owner: Mapping[str, Cell]
    other: Mapping[str, Cell] = field(default_factory=dict)
    absent: Cell = ABSENT
    roles: tuple[Role, ...] = (Role.TENANT,)


CONTENT = Row({"queued": NOT_READY, "kept": OK, "failed": (409, "video_failed")})
MATRIX = {
    ("GET", "/v1/videos/{id}"): Row({"queued": OK, "kept": OK, "failed": OK}),
    ("GET", "/v1/videos/{id}/content"): CONTENT,
    ("HEAD", "/v1/videos/{id}/content"): CONTENT,
    ("GET", "/v1/models/{model}"): Row(
        owner={"offered": OK},
        other={"offered": OK, "barred": OK},
        absent=(404, "model_not_found"),
    ),
    # The last, as its owner's own requests are the only ones that change anything.
    ("DELETE", "/v1/videos/{id}"): Row({"queued": NOT_READY, "kept": OK, "failed": OK}),
}
CALLERS = (
    *("other", "revoked key", "disabled tenant", "no key", "garbage key", "finance", "admin"),
    *("metrics", "owner"),
)


def expected(row: Row, method: str, who: str, what: str) -> Cell:
    """What the matrix says; a code has no room in the answer to HEAD."""
    if who in ("owner", "other"):
        cell = (row.owner if who == "owner" else row.other).get(what, row.absent)
    else:
        known = who in set(Role)
        assert not known or Role(who) not in row.roles
        cell = CLOSED if known else NOBODY
    return (cell[0], "") if method == "HEAD" else cell


def ids_of(made: World, path: str) -> dict[str, str]:
    """Ids as they stand in a path, by their kind; those of clips are the owner's."""
    if "{model}" in path:
        return {"offered": "veo-3.1-fast", "barred": "veo-3.1", "unknown": "veo-9", "odd": "%FF"}
    own = made.teams["owner"].clips
    kept = own["kept"]
    return {
        **own,
        "foreign": made.teams["gone"].clips["kept"],
        "unknown": unknown_like(kept),
        "upper case": kept.upper(),
        "cut": kept[:-1],
        "longer": kept + "a",
        "with a blank": kept + "%20",
        "the vendor's": "job-of-canary-owner-kept",
        "dots": "%2e%2e",
        "a zero byte": "a%00b",
        "no UTF-8": "%FF",
        "very long": "x" * 3000,
        "a quote": "'%20OR%20'1'='1",
    }


def unknown_like(clip_id: str) -> str:
    """An id of the same form that nothing has."""
    return clip_id[:-6] + ("000000" if clip_id[-6:] != "000000" else "111111")


Heard = dict[tuple[str, str, str, str], Answer]
"""What a method, a path, a caller and a kind of id came to."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def heard(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Heard]:
    """The answers to everything that the matrix can ask; nobody has heard of others in them."""
    groups: dict[str, Any] = {}
    data_dir = tmp_path_factory.mktemp("tenancy")
    if request.param == "sqlite":
        yield asyncio.run(ask_everything(data_dir, groups))
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.create()
    groups = {"database": {"url": url}, "secrets": {"key": "0123456789abcdef" * 2}}
    yield asyncio.run(ask_everything(data_dir, groups))
    server.drop(url)


async def ask_everything(data_dir: Path, groups: dict[str, Any]) -> Heard:
    """Every cell of the matrix; the owner's own requests come last, and its deletions after all."""
    heard: Heard = {}
    async with world(data_dir, **groups) as made:
        for clip_id in made.teams["owner"].clips.values():
            await made.ask("owner", "GET", f"/v1/videos/{clip_id}")  # remembered, for nobody else
        for who, (method, path) in itertools.product(CALLERS, MATRIX):
            before, after = re.split(r"\{\w+\}", path)
            for what, an_id in ids_of(made, path).items():
                answer = await made.ask(who, method, before + an_id + after)
                heard[method, path, who, what] = answer
    return heard


def test_every_route_with_an_id_has_a_row() -> None:
    relayed = {(route.method, route.path) for route in ROUTES if ID in route.path}
    app = typed_app(cast("Any", None), cast("Any", None))
    typed = {
        (method, route.path)
        for route in iter_route_contexts(app.routes)
        for method in route.methods or {"any"}
        if "{" in (route.path or "{")
    }
    assert relayed | typed == set(MATRIX)


def test_everybody_gets_what_the_matrix_says(heard: Heard) -> None:
    found = {cell: told(answer) for cell, answer in heard.items()}
    wanted = {
        (method, path, who, what): expected(MATRIX[method, path], method, who, what)
        for method, path, who, what in heard
    }
    assert len(found) > 500
    assert found == wanted


def told(answer: Answer) -> Cell:
    refused = answer.status >= 400 and answer.body
    return answer.status, answer.error["code"] if refused else ""


def test_what_is_foreign_is_byte_for_byte_as_what_never_was(heard: Heard) -> None:
    absent: dict[tuple[str, str], list[Answer]] = {}
    for (method, path, _, _), answer in heard.items():
        # A model's name is no secret: the refusal repeats it.
        if answer.status == 404 and "{id}" in path:
            absent.setdefault((method, path), []).append(answer)
    assert set(absent) == {cell for cell in MATRIX if "{id}" in cell[1]}
    for asked, given in absent.items():
        assert len(given) > 20, asked
        assert all(answer == given[0] for answer in given), asked


def test_who_is_not_let_in_hears_the_same_whatever_it_asked_for(heard: Heard) -> None:
    closed: dict[tuple[str, str], list[Answer]] = {}
    for (method, _, who, _), answer in heard.items():
        if who not in ("owner", "other"):
            named = who if answer.status == 403 else ""  # it says for what another key is needed
            closed.setdefault((named, "HEAD" if method == "HEAD" else ""), []).append(answer)
    assert len(closed) == 2 * len(["nobody", "finance", "admin", "metrics"])
    for asked, given in closed.items():
        assert all(answer == given[0] for answer in given), asked


def test_head_is_get_without_the_body(heard: Heard) -> None:
    heads = [cell for cell in heard if cell[0] == "HEAD"]
    assert heads
    for _, path, who, what in heads:
        head, answer = heard["HEAD", path, who, what], heard["GET", path, who, what]
        assert (head.status, head.headers, head.body) == (answer.status, answer.headers, b"")


ALONG: list[tuple[str, dict[str, str]]] = [
    ("", {"range": "bytes=0-1"}),
    ("", {"if-none-match": "*"}),
    ("", {"if-match": '"x"'}),
    ("", {"accept": "application/json"}),
    ("?variant=thumbnail", {}),
    ("?variant=thumbnail", {"accept": "application/json"}),
    ("?variant=nonsense", {}),
    ("?redirect=0", {}),
]


async def test_nothing_that_is_asked_along_tells_a_foreign_clip_from_none(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        ids = ids_of(made, ID).values()
        for method, (query, headers) in itertools.product(("GET", "HEAD"), ALONG):
            paths = [f"/v1/videos/{an_id}/content{query}" for an_id in ids]
            given = [await made.ask("other", method, each, headers=headers) for each in paths]
            assert given[0].status == (400 if "nonsense" in query else 404), (query, headers)
            assert all(answer == given[0] for answer in given), (query, headers)


async def listed(made: World, who: str, query: str) -> list[str]:
    """The ids on a page."""
    answer = await made.ask(who, "GET", f"/v1/videos?{query}")
    assert answer.status == 200, answer.body
    return [video["id"] for video in json.loads(answer.body)["data"]]


async def test_lists_and_cursors_are_each_teams_own(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        for team, stranger in (("owner", "other"), ("other", "owner")):
            mine, foreign = made.teams[team].clips, made.teams[stranger].clips
            own = [mine[state] for state in ("queued", "kept", "failed")]
            assert await listed(made, team, "order=asc&limit=100") == own
            assert await listed(made, team, "limit=100") == own[::-1]
            page, seen = await listed(made, team, "order=asc&limit=1"), []
            while page:
                seen += page
                page = await listed(made, team, f"order=asc&limit=1&after={page[-1]}")
            assert seen == own
            # One's own deleted clip still says where a page ended, a stranger's says nothing.
            assert await listed(made, team, f"after={mine['deleted']}") == own[::-1]
            odd = (unknown_like(mine["kept"]), "job-of-canary-other-kept", "", "%00")
            refused = [
                await made.ask(team, "GET", f"/v1/videos?{order}&after={cursor}")
                for cursor in (*foreign.values(), *odd)
                for order in ("order=asc", "order=desc", "limit=1")
            ]
            assert told(refused[0]) == (400, "invalid_request")
            assert all(answer == refused[0] for answer in refused)


def signed(made: World, clip_id: str, of: str) -> str:
    """The path of a clip with a link that this proxy signed for a team; it should not have."""
    until = made.proxy.house.clock.now() + timedelta(seconds=60)
    query = sign(Playback(clip_id, made.teams[of].id, until), made.proxy.house.playback_keys)
    return f"/v1/videos/{clip_id}/content?{query}"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_link_to_one_teams_clip_opens_no_other(tmp_path: Path, method: str) -> None:
    async with world(tmp_path) as made:
        owner, other = made.teams["owner"], made.teams["other"]
        kept, nowhere = owner.clips["kept"], unknown_like(owner.clips["kept"])
        form = {"accept": "application/json"}
        path = f"/v1/videos/{kept}/content"
        link = json.loads((await made.ask("owner", "GET", path, headers=form)).body)["url"]
        assert (await made.ask(LINK_OF_OWNER, method, link)).status == 200

        async def all_alike(status: int, who: str, *paths: str) -> None:
            given = [await made.ask(who, method, each) for each in paths]
            assert given[0].status == status, given[0]
            assert all(answer == given[0] for answer in given)

        elsewhere = [link.replace(kept, each) for each in (*other.clips.values(), nowhere)]
        renamed = [each.replace(owner.id, other.id) for each in (link, *elsewhere)]
        gone = signed(made, made.teams["gone"].clips["kept"], "gone")
        await all_alike(403, "no key", *elsewhere, *renamed, gone)
        foreign = [signed(made, each, "owner") for each in (*other.clips.values(), nowhere)]
        await all_alike(404, "no key", *foreign, signed(made, owner.clips["deleted"], "owner"))
        # A key that is shown counts, and the link beside it opens nothing.
        unlinked = f"/v1/videos/{nowhere}/content"
        await all_alike(404, "other", unlinked, link, signed(made, nowhere, "other"))
        await all_alike(401, "revoked key", unlinked, link)
        await all_alike(401, "disabled tenant", unlinked, link, gone)
        await all_alike(403, "admin", unlinked, link)
