"""Lines: one a request, fields from a list, and nothing on them that is nobody's business."""

from __future__ import annotations

import ast
import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from proxy import logs

KEY = "sk-cm-003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf26uNa5"
LINK = "https://cdn.example/clip.mp4?Signature=c4n4ry&Expires=1"
PROXY = Path(logs.__file__).parent


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Put back what `configure` changes for the whole process."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, logging.raiseExceptions)
    yield
    structlog.reset_defaults()
    root.handlers, root.level, logging.raiseExceptions = before
    for name in (*logs._QUIET, *logs._SILENT, *logs._LOUD):
        library = logging.getLogger(name)
        library.handlers, library.propagate, library.disabled = [], True, False
        library.setLevel(logging.NOTSET)


@pytest.fixture
def out() -> io.StringIO:
    stream = io.StringIO()
    logs.configure(stream)
    return stream


def line(out: io.StringIO) -> dict[str, Any]:
    text = out.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    found: dict[str, Any] = json.loads(text)
    return found


class TestOurLines:
    def test_a_request_is_one_json_line_that_begins_with_when_and_what(
        self, out: io.StringIO
    ) -> None:
        logs.request_line(status=200, route="/v1/models", clips=["video_1"], duration_ms=1.5)
        found = line(out)
        assert list(found)[:3] == ["timestamp", "level", "event"]
        assert found.pop("timestamp").endswith("Z")
        assert found == {
            "level": "info",
            "event": "request",
            "status": 200,
            "route": "/v1/models",
            "clips": ["video_1"],
            "duration_ms": 1.5,
        }

    def test_our_own_faults_are_warnings(self, out: io.StringIO) -> None:
        logs.request_line(status=503)
        assert line(out)["level"] == "warning"

    def test_an_event_has_a_name_and_a_level(self, out: io.StringIO) -> None:
        logs.event("gateway_opened", level="warning", gateway="vip", seconds=30)
        found = line(out)
        assert (found["event"], found["level"], found["gateway"]) == (
            "gateway_opened",
            "warning",
            "vip",
        )

    @pytest.mark.parametrize("name", ["", "Gateway", "two words", "a-b", "x" * 65])
    def test_an_events_name_is_a_word_of_ours(self, out: io.StringIO, name: str) -> None:
        with pytest.raises(AssertionError):
            logs.event(name)
        assert out.getvalue() == ""

    def test_a_field_that_is_not_on_the_list_is_left_out(self, out: io.StringIO) -> None:
        logs.request_line(status=200, prompt="c4n4ry", authorization=KEY)
        assert set(line(out)) == {"timestamp", "level", "event", "status"}

    def test_a_field_that_is_not_on_the_list_fails_a_test(self) -> None:
        out = io.StringIO()
        logs.configure(out, strict=True)
        with pytest.raises(AssertionError, match="prompt"):
            logs.request_line(status=200, prompt="c4n4ry")
        assert out.getvalue() == ""

    def test_a_field_cannot_take_the_place_of_a_lines_own(self, out: io.StringIO) -> None:
        logs.request_line(event="forged", level="forged")
        found = line(out)
        assert (found["event"], found["level"]) == ("request", "info")

    def test_every_field_that_the_program_names_is_on_the_list(self) -> None:
        named: dict[str, str] = {}
        for path in PROXY.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call):
                    continue
                function = node.func
                called = function.attr if isinstance(function, ast.Attribute) else ""
                called = function.id if isinstance(function, ast.Name) else called
                if called in {"event", "request_line"} and path.name != "logs.py":
                    named |= {word.arg: path.name for word in node.keywords if word.arg}
        assert {name: where for name, where in named.items() if name not in logs.FIELDS} == {}

    def test_nothing_is_printed_before_somebody_says_where(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        logs.request_line(status=200)
        logs.event("server_started")
        assert capsys.readouterr() == ("", "")

    def test_a_log_that_cannot_be_written_fails_no_request(self) -> None:
        stream = io.StringIO()
        logs.configure(stream)
        stream.close()
        logs.request_line(status=200)
        assert stream.closed


class TestValues:
    @given(st.text())
    def test_no_text_breaks_out_of_its_line(self, text: str) -> None:
        out = io.StringIO()
        logs.configure(out)
        logs.request_line(words=text, clips=[text])
        found = line(out)
        assert out.getvalue()[:-1].isascii()
        assert out.getvalue()[:-1].isprintable()
        assert found["words"].isprintable()
        assert len(found["words"]) <= logs.CHARS_MAX

    @pytest.mark.parametrize("forged", ["a\nb", "a\r\nb", "\x1b[31mred", "a\u2028b", "a\u202eb"])
    def test_line_ends_colours_and_turned_text_are_shown_as_what_they_are(
        self, forged: str
    ) -> None:
        out = Terminal()
        logs.configure(out, json=False)
        logs.event("gateway_opened", words=forged)
        assert out.getvalue().count("\n") == 1
        assert forged not in out.getvalue()
        assert logs.clean(forged) in out.getvalue()

    def test_a_terminal_gets_words_and_anything_else_json(self) -> None:
        terminal, pipe = Terminal(), io.StringIO()
        logs.configure(terminal)
        logs.event("gateway_opened", gateway="vip")
        logs.configure(pipe)
        logs.event("gateway_opened", gateway="vip")
        assert not terminal.getvalue().startswith("{")
        assert "vip" in terminal.getvalue()
        assert line(pipe)["gateway"] == "vip"

    @pytest.mark.parametrize(
        ("text", "kept"),
        [
            (KEY, "sk-cm-003a…"),
            (f"key {KEY}, twice {KEY}", "key sk-cm-003a…, twice sk-cm-003a…"),
            (f"api_key={KEY}", "api_key=sk-cm-003a…"),
            ("Bearer abc.def", "Bearer …"),
            ("authorization: basic dXNlcg==", "authorization: basic …"),
            (f"see {LINK}, now", "see https://cdn.example/clip.mp4?… now"),
            ("postgresql://u:secret@db/clips", "postgresql://…@db/clips"),
            ("HTTPS://x/y#c4n4ry", "HTTPS://x/y?…"),
            ("a task-0123456789 is none", "a task-0123456789 is none"),
            ("sk-cm-003a…", "sk-cm-003a…"),
        ],
    )
    def test_keys_credentials_and_queries_are_cut(self, text: str, kept: str) -> None:
        assert logs.clean(text) == kept

    @given(st.text(max_size=20), st.text(max_size=400))
    def test_a_key_is_cut_wherever_it_stands(self, before: str, after: str) -> None:
        cleaned = logs.clean(f"{before} {KEY} {after}")
        assert KEY[:11] not in cleaned

    def test_a_long_value_takes_no_long_time(self) -> None:
        assert len(logs.clean("a" * 10_000_000)) == logs.CHARS_MAX
        assert len(logs.clean("x://" * 1_000_000)) == logs.CHARS_MAX

    def test_what_is_not_a_plain_value_shows_its_type_alone(self, out: io.StringIO) -> None:
        @dataclass
        class Delivered:
            url: str

        logs.event("clip_news", outcome=Delivered(LINK), words=b"c4n4ry", clips={"a": "c4n4ry"})
        found = line(out)
        assert (found["outcome"], found["words"], found["clips"]) == ("Delivered", "bytes", "dict")

    def test_a_list_is_as_long_as_a_line_can_bear(self, out: io.StringIO) -> None:
        logs.event("clip_news", clips=[f"video_{number}" for number in range(1000)])
        assert len(line(out)["clips"]) == logs.ITEMS_MAX


def fail() -> None:
    raise KeyError("c4n4ry")


def fail_for_a_reason() -> None:
    try:
        fail()
    except KeyError as first:
        raise ValueError("c4n4ry") from first


class TestCrashes:
    def test_a_bug_shows_its_type_and_place_but_not_its_message(self, out: io.StringIO) -> None:
        with pytest.raises(ValueError, match="c4n4ry") as caught:
            fail_for_a_reason()
        logs.crash("late settlements", caught.value)
        found = line(out)
        assert (found["event"], found["level"]) == ("crashed", "error")
        assert (found["error"], found["task"]) == ("ValueError from KeyError", "late settlements")
        assert "tests/test_logs.py:" in found["where"][-1]
        assert found["where"][-1].endswith(" fail_for_a_reason")
        assert "c4n4ry" not in out.getvalue()


class TestLibraries:
    @pytest.mark.parametrize("name", ["uvicorn.access", "aiohttp.access"])
    def test_access_logs_are_silent_because_their_lines_hold_queries(
        self, out: io.StringIO, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        logging.getLogger(name).error("%s", LINK)
        assert (out.getvalue(), caplog.text) == ("", "")

    @pytest.mark.parametrize("name", ["httpx", "httpx2", "aiohttp.client", "sqlalchemy.engine"])
    def test_chatter_of_clients_and_databases_is_silent(self, out: io.StringIO, name: str) -> None:
        logging.getLogger(name).info('HTTP Request: GET %s "HTTP/1.1 200 OK"', LINK)
        assert out.getvalue() == ""

    @pytest.mark.parametrize("name", ["aiohttp.server", "sqlalchemy.pool", "somebody.else"])
    def test_a_librarys_warning_shows_its_words_without_the_values(
        self, out: io.StringIO, name: str
    ) -> None:
        logging.getLogger(name).warning("could not fetch %s for %r", LINK, "c4n4ry prompt")
        found = line(out)
        assert found["words"] == "could not fetch %s for %r"
        assert (found["event"], found["level"], found["logger"]) == ("library", "warning", name)

    def test_only_the_first_line_of_ready_made_words_is_shown(self, out: io.StringIO) -> None:
        logging.getLogger("asyncio").error(
            "Task exception was never retrieved\nfuture: <Task exception=ValueError('c4n4ry')>"
        )
        assert line(out)["words"] == "Task exception was never retrieved"

    def test_a_librarys_exception_shows_its_type_and_place(self, out: io.StringIO) -> None:
        try:
            fail()
        except KeyError:
            logging.getLogger("uvicorn.error").exception("Exception in ASGI application\n")
        found = line(out)
        assert (found["error"], found["words"]) == ("KeyError", "Exception in ASGI application")
        assert "c4n4ry" not in out.getvalue()

    def test_the_server_says_where_it_listens(self, out: io.StringIO) -> None:
        logging.getLogger("uvicorn.error").info("running on %s://%s:%d", "http", "127.0.0.1", 80)
        assert line(out)["words"] == "running on http://127.0.0.1:80"

    def test_a_record_that_does_not_fit_its_words_is_no_accident(
        self, out: io.StringIO, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = "%d and %d"
        logging.getLogger("uvicorn.error").warning(words, "c4n4ry")
        assert line(out)["words"] == "%d and %d"
        assert capsys.readouterr() == ("", "")
