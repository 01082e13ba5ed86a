"""Teams with clips in every state before one proxy, and what everybody hears of them.

Each team has words of its own in its prompts, in the vendor's ids and in the vendor's links; nobody
else may ever hear one of those.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from proxy.commands import operator_of
from proxy.flows import tenants
from proxy.flows.operator import Operator
from tests.gateways import Gateway, Request, answers, gateways
from tests.jobs import hasty, once, said
from tests.running import Answer, Running, read, running
from tests.store.vaults import clip as film

LINK_OF_OWNER = "a link of the owner's"
"""Who has no key, and a link that the owner was given."""


@dataclass
class Team:
    """A team, its key, its clips by their states, and words that are its own."""

    name: str
    id: str
    key: str
    clips: dict[str, str] = field(default_factory=dict)
    secrets: list[bytes] = field(default_factory=list)


@dataclass
class World:
    """A proxy with its teams; it keeps what everybody heard."""

    proxy: Running
    session: aiohttp.ClientSession
    operator: Operator
    teams: dict[str, Team] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    heard: list[tuple[str, Answer]] = field(default_factory=list)

    async def ask(self, who: str, method: str, path: str, **more: Any) -> Answer:
        """One request; the answer, without what differs between any two."""
        headers = {"authorization": f"Bearer {self.keys[who]}"} if self.keys[who] else {}
        headers |= more.pop("headers", {})
        url = URL(path if path.startswith("http") else self.proxy.url + path, encoded=True)
        async with self.session.request(method, url, headers=headers, **more) as response:
            answer = await read(response)
        for varying in ("date", "x-request-id"):
            answer.headers.pop(varying)
        self.heard.append((who, answer))
        return answer

    async def add_team(self, name: str, *states: str, **terms: Any) -> None:
        """A team with a clip in each of these states."""
        made = await tenants.add_tenant(self.operator, name, terms)
        key = (await tenants.add_key(self.operator, name))["key"]
        team = self.teams[name] = Team(name, made["id"], key)
        self.keys[name] = key
        team.secrets += [team.id.encode(), f"canary-{name}-".encode()]
        for state in states:
            order = {"model": "veo-3.1-fast", "prompt": f"canary-{name}-{state}"}
            created = await self.ask(name, "POST", "/v1/videos", json=order)
            assert created.status == 200, created.body
            generation = created.headers["x-clipmeter-generation"]
            clip_id = team.clips[state] = json.loads(created.body)["id"]
            team.secrets += [clip_id.encode(), generation.encode(), kept_bytes(order["prompt"])]
            await once(self.proxy, partial(self._state, clip_id), WHEN[state])
            if state == "deleted":
                assert (await self.ask(name, "DELETE", f"/v1/videos/{clip_id}")).status == 200
        self.heard.clear()

    async def _state(self, clip_id: str) -> tuple[str, str | None]:
        """What became of a clip, and of its bytes."""
        rows = await self.proxy.rows(
            "SELECT clips.state, keepings.state FROM clips LEFT JOIN keepings"
            f" ON keepings.clip_id = clips.id WHERE clips.id = '{clip_id}'"
        )
        return rows[0][0], rows[0][1]

    def assert_nobody_heard_of_others(self) -> None:
        """No answer has a word of another team's, and none has the vendor's names for things."""
        assert self.heard
        for who, answer in self.heard:
            all_of_it = repr(sorted(answer.headers.items())).encode() + answer.body
            for team in self.teams.values():
                if team.name != ("owner" if who == LINK_OF_OWNER else who):
                    assert not [each for each in team.secrets if each in all_of_it], (who, answer)
            assert b"job-of-" not in all_of_it, (who, answer)
            assert b"link-of-" not in all_of_it, (who, answer)


WHEN = {
    "queued": lambda found: found[0] == "queued",
    "kept": lambda found: found[1] == "kept",
    "failed": lambda found: found[0] == "failed",
    "deleted": lambda found: found[1] == "kept",
}


def kept_bytes(word: str) -> bytes:
    """What the clip of that prompt is made of, no other is, and looks like in the end."""
    return film(5000, seed=word)[100:140]


def pretends(gateway: Gateway) -> None:
    """Have the gateway make, or not make, clips as their prompts say."""

    async def act(request: Request, writer: asyncio.StreamWriter) -> None:
        found = re.search(rb"canary-[a-z]+-([a-z]+)", request.body or request.path.encode())
        if found is None:
            await answers(200, {})(request, writer)  # whether it is there at all
            return
        word, job = found[0].decode(), f"job-of-{found[0].decode()}"
        link = f"{gateway.url}/link-of-{word}.mp4"
        if request.method == "POST" or found[1] == b"queued":
            await said("queued", id=job)(request, writer)
        elif "link-of-" in request.path:
            await answers(200, film(5000, seed=word))(request, writer)
        elif found[1] == b"failed":
            await said("failed", id=job, error="Content policy violation")(request, writer)
        else:
            await said("completed", id=job, url=link)(request, writer)

    gateway.does(act)


@asynccontextmanager
async def world(data_dir: Path, **groups: Any) -> AsyncIterator[World]:
    """Two teams with clips in every state, one that is disabled, and keys of every kind."""
    async with gateways("api") as (api,):
        pretends(api)
        async with (
            running(hasty(data_dir, ("api", api.url), **groups)) as proxy,
            aiohttp.ClientSession(auto_decompress=False) as session,
        ):
            operator = operator_of(proxy.config, proxy.house.database)
            made = World(proxy, session, operator)
            await made.add_team("owner", *WHEN, models=["veo-3.1-fast*"])
            await made.add_team("other", *WHEN)
            await made.add_team("gone", "kept")
            made.keys |= {LINK_OF_OWNER: "", "no key": "", "garbage key": "sk-cm-garbage"}
            for role in ("finance", "admin", "metrics"):
                made.keys[role] = (await tenants.add_key(operator, role=role))["key"]
            revoked = await tenants.add_key(operator, "owner")
            await tenants.revoke_key(operator, revoked["id"])
            # Nobody has asked with this one, so no memory of it is in the way.
            disabled = (await tenants.add_key(operator, "gone"))["key"]
            await tenants.disable_tenant(operator, "gone")
            made.keys |= {"revoked key": revoked["key"], "disabled tenant": disabled}
            yield made
            made.assert_nobody_heard_of_others()
