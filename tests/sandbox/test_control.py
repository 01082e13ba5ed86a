"""The control route: rules that are set, shown, used up, removed, or refused with a reason."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from proxy.sandbox import DIRECTIVES, Sandbox
from tests.sandbox.dialling import Answer, accepted, ask, chat, make_video, running, until

Story = Callable[[Sandbox], Awaitable[None]]


def play(story: Story) -> None:
    async def run() -> None:
        async with running() as sandbox:
            await story(sandbox)

    asyncio.run(run())


async def put(sandbox: Sandbox, rule: Any, gateway: str = "b") -> Answer:
    return await ask(f"{sandbox.urls[gateway]}/sandbox/faults", rule, method="PUT")


def test_a_rule_bends_one_gateway_until_it_is_removed() -> None:
    async def story(sandbox: Sandbox) -> None:
        shown = await put(sandbox, {"gateway": "api", "fault": "status", "status": 502})
        assert shown.data == {
            "faults": [
                {"gateway": "api", "fault": "status", "status": 502, "on": "submit", "times": None}
            ]
        }
        for _ in range(2):
            assert (await chat(sandbox, "x", "api")).status == 502
        assert (await chat(sandbox, "x", "vip")).status == 200
        await ask(f"{sandbox.urls['vip']}/sandbox/faults", method="DELETE")
        assert (await chat(sandbox, "x", "api")).status == 200

    play(story)


def test_a_rule_with_times_is_used_up() -> None:
    async def story(sandbox: Sandbox) -> None:
        await put(sandbox, {"fault": "error", "name": "saturated-wait", "times": 2})
        answers = [await chat(sandbox, "x", name) for name in ("api", "vip", "b")]
        assert [answer.status for answer in answers] == [429, 429, 200]
        assert answers[0].headers["retry-after"] == "2"
        assert (await ask(f"{sandbox.control_url}/faults")).data == {"faults": []}

    play(story)


def test_a_rule_may_bend_other_operations() -> None:
    async def story(sandbox: Sandbox) -> None:
        await put(sandbox, [{"fault": "html", "on": "poll"}, {"fault": "status", "status": 500}])
        assert (await make_video(sandbox, "x")).status == 500
        await sandbox.clear()
        await put(sandbox, [{"fault": "html", "on": "poll"}, {"fault": "reset", "on": "models"}])
        job = (await make_video(sandbox, "x")).data["id"]
        poll = await ask(f"{sandbox.urls['api']}/v1/videos/{job}")
        assert poll.headers["content-type"].startswith("text/html")
        assert (await ask(f"{sandbox.urls['api']}/v1/models")).end == "reset"

    play(story)


def test_the_words_of_a_prompt_win_over_a_rule() -> None:
    async def story(sandbox: Sandbox) -> None:
        await put(sandbox, {"fault": "deliver", "clips": 0})
        assert len((await chat(sandbox, "[[deliver 2]]", n=3)).links()) == 2
        assert len((await chat(sandbox, "none", n=3)).links()) == 0

    play(story)


def test_a_rule_replaces_the_one_like_it_and_one_gateway_can_be_cleared() -> None:
    async def story(sandbox: Sandbox) -> None:
        await put(sandbox, {"gateway": "api", "fault": "status", "status": 500})
        await put(sandbox, {"gateway": "api", "fault": "status", "status": 503})
        await put(sandbox, {"gateway": "vip", "fault": "crlf"})
        left = await ask(f"{sandbox.control_url}/faults?gateway=vip", method="DELETE")
        assert [rule["status"] for rule in left.data["faults"]] == [503]

    play(story)


WRONG: dict[str, tuple[Any, str]] = {
    "not JSON": (b"{", "JSON"),
    "a number": (b"7", "object"),
    "no fault": ({"gateway": "api"}, "unknown fault"),
    "an unknown fault": ({"fault": "explode"}, "unknown fault 'explode'"),
    "a word for prompts": ({"fault": "gateway", "name": "api"}, "unknown fault"),
    "an unknown gateway": ({"fault": "html", "gateway": "cf"}, "api, vip, b, all"),
    "an unknown operation": ({"fault": "html", "on": "delete"}, "submit, poll"),
    "no argument": ({"fault": "status"}, "needs status"),
    "an argument of another": ({"fault": "html", "status": 502}, "does not take status"),
    "a status of success": ({"fault": "status", "status": 200}, "from 400 to 599"),
    "a status in words": ({"fault": "status", "status": "bad"}, "must be a number"),
    "a broken number": ({"fault": "status", "status": 500.5}, "whole number"),
    "true for a number": ({"fault": "status", "status": True}, "must be a number"),
    "not a number": (b'{"fault": "stall", "seconds": NaN}', "must be a number"),
    "endless": (b'{"fault": "stall", "seconds": Infinity}', "must be a number"),
    "an unknown error": ({"fault": "error", "name": "oops"}, "one of balance"),
    "a number for a word": ({"fault": "error", "name": 7}, "must be a word"),
    "a code with a line end": ({"fault": "policy", "code": "A\r\nB"}, "a code of letters"),
    "times 0": ({"fault": "html", "times": 0}, "times must be"),
    "times text": ({"fault": "html", "times": "1"}, "times must be"),
    "times for a door": ({"fault": "refuse", "gateway": "api", "times": 1}, "seconds, not times"),
    "every door": ({"fault": "refuse"}, "give seconds"),
    "every door in turn": (
        [{"fault": "refuse", "gateway": name} for name in ("api", "vip", "b")],
        "give seconds",
    ),
    "one of two wrong": ([{"fault": "html"}, {"fault": "explode"}], "unknown fault"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_rule_is_refused_with_a_reason_and_changes_nothing(case: str) -> None:
    rule, reason = WRONG[case]

    async def story(sandbox: Sandbox) -> None:
        answer = await put(sandbox, rule)
        assert answer.status == 400
        assert reason in answer.data["error"]["message"]
        assert (await ask(f"{sandbox.control_url}/faults")).data == {"faults": []}
        assert (await chat(sandbox, "x")).status == 200

    play(story)


def test_a_shut_door_opens_again_by_itself() -> None:
    async def story(sandbox: Sandbox) -> None:
        await put(sandbox, {"fault": "refuse", "seconds": 0.1})
        for name in sandbox.urls:
            with pytest.raises(ConnectionRefusedError):
                await chat(sandbox, "x", name)
        await until(lambda: opens(sandbox))
        assert (await ask(f"{sandbox.control_url}/faults")).data == {"faults": []}

    play(story)


async def opens(sandbox: Sandbox) -> bool:
    try:
        return (await chat(sandbox, "x")).status == 200
    except ConnectionRefusedError:
        return False


def test_a_shut_door_ends_idle_connections_and_lets_answers_finish() -> None:
    async def story(sandbox: Sandbox) -> None:
        host, port = sandbox.urls["api"].removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /v1/models HTTP/1.1\r\nAuthorization: sk-sandbox\r\n\r\n")
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        running_answer = asyncio.create_task(chat(sandbox, "[[seconds 0.3]]"))
        await until(lambda: accepted(sandbox))
        await put(sandbox, {"gateway": "api", "fault": "refuse"})
        assert sandbox.control_url.startswith(sandbox.urls["vip"])
        await reader.read()
        assert reader.at_eof()
        assert len((await running_answer).links()) == 1
        writer.close()
        await writer.wait_closed()

    play(story)


def test_the_route_explains_itself_on_every_gateway() -> None:
    async def story(sandbox: Sandbox) -> None:
        for url in sandbox.urls.values():
            text = (await ask(f"{url}/sandbox")).text
            assert "PUT    /sandbox/faults" in text
            assert "`[[cut BYTES]]`" in text
        listed = await ask(f"{sandbox.control_url}", headers={"Accept": "application/json"})
        assert [word["name"] for word in listed.data["directives"]] == list(DIRECTIVES)

    play(story)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/faults", 405),
        ("DELETE", "/bill", 405),
        ("GET", "/links/expire", 405),
        ("GET", "/nothing", 404),
        ("DELETE", "/faults?gateway=cf", 400),
    ],
)
def test_other_requests_to_the_route_are_refused(method: str, path: str, status: int) -> None:
    async def story(sandbox: Sandbox) -> None:
        answer = await ask(f"{sandbox.control_url}{path}", method=method)
        assert answer.status == status
        assert answer.data["error"]["message"]

    play(story)
