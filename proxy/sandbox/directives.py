"""The words by which a caller bends the sandbox: one table for the parser, the help and the README.

A word stands in the prompt, `[[status 502]]`, with its arguments in order, or in a rule sent to
`/sandbox/faults`, `{"fault": "status", "status": 502}`, with its arguments by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from proxy.sandbox.errors import ERRORS
from proxy.sandbox.grammar import BYTES_MAX, SECONDS_MAX, Directive, Parameter, Place


def _seconds(default: float | None = None) -> Parameter:
    return Parameter("seconds", float, default, least=0, most=SECONDS_MAX)


def _bytes(default: int | None = None) -> Parameter:
    return Parameter("bytes", int, default, least=0, most=BYTES_MAX)


def _code(default: str) -> Parameter:
    return Parameter("code", str, default)


def _one_of(name: str, default: str | None, *choices: str) -> Parameter:
    return Parameter(name, str, default, choices=choices)


_STATUS: Final = Parameter("status", int, least=400, most=599)
_UNSAFE: Final = "PUBLIC_ERROR_UNSAFE_GENERATION"

_INSTEAD: Final = (
    Directive(
        "status",
        "answers with this status and the gateway's own envelope; nothing is accepted or billed",
        "the status, `X-Shellapi-Request-Id`, a `shell_api_error`",
        (_STATUS,),
    ),
    Directive(
        "error",
        "answers with one of the recorded error bodies (listed below); nothing is billed",
        "that body, byte for byte the same shape as recorded",
        (_one_of("name", None, *ERRORS),),
    ),
    Directive(
        "policy",
        "refuses the prompt before the stream starts; free",
        "403 `content_policy_violation` with the code in its message",
        (_code("PUBLIC_ERROR_PROMINENT_PEOPLE_FILTER_FAILED"),),
    ),
    Directive("html", "answers 200 with a web page; nothing is billed", "200 `text/html`"),
    Directive(
        "json-error",
        "answers 200 with an error body; nothing is billed",
        "200 `application/json` with `error`",
    ),
    Directive(
        "redirect",
        "sends the caller to the same path of another gateway; nothing is billed",
        "307 with `Location`",
    ),
    Directive(
        "junk", "answers with bytes that are not HTTP; nothing is billed", "a protocol error"
    ),
    Directive(
        "reset",
        "reads the request, accepts nothing, resets the connection",
        "a connection reset after sending; never billed",
    ),
    Directive(
        "reset-after",
        "accepts the job, resets the connection; the clip is made and billed",
        "a connection reset after sending: the outcome is unknown",
    ),
    Directive(
        "accept-then",
        "accepts the job, then answers with an error status; the clip is made and billed",
        "the status, `Upstream model timed out`",
        (Parameter("status", int, 504, least=400, most=599),),
    ),
)

_SOCKET: Final = (
    Directive(
        "stall",
        "says nothing for so long, before the head or after so many bytes of the body",
        "silence, then the rest",
        (_seconds(), Parameter("bytes", int, -1, least=-1, most=BYTES_MAX)),
    ),
    Directive(
        "cut",
        "closes the connection after so many bytes of the body; the job goes on and is billed",
        "a body that ends early, without the last chunk",
        (_bytes(),),
    ),
    Directive(
        "reset-at",
        "resets the connection after so many bytes of the body; the job goes on and is billed",
        "a connection reset in the middle of the body",
        (_bytes(),),
    ),
    Directive("slow", "waits so long before every chunk", "a slow body", (_seconds(0.2),)),
    Directive("one-byte", "sends the body one byte a chunk", "many tiny chunks"),
    Directive(
        "close-delimited",
        "sends the body without length or chunks; its end is the end of the connection",
        "`Connection: close`; a cut cannot be told from the end",
    ),
    Directive("gzip", "compresses the body whatever was asked for", "`Content-Encoding: gzip`"),
    Directive(
        "refuse",
        "closes the gateway's listening socket, for so many seconds or until the rule is removed",
        "connection refused",
        (_seconds(0),),
        Place.CONTROL,
    ),
    Directive(
        "black-hole",
        "leaves connection attempts unanswered, for so many seconds or until removed (Linux)",
        "a connect that never completes",
        (_seconds(0),),
        Place.CONTROL,
    ),
    Directive(
        "reset-before",
        "resets each connection as it is accepted, before the request is read",
        "a connection reset; nothing accepted, nothing billed",
        place=Place.CONTROL,
    ),
)

_ENDINGS: Final = (
    Directive(
        "deliver",
        "makes only so many of the n clips; the others fail and are free",
        "so many success lines, and a `❌` line for each other clip",
        (Parameter("clips", int, least=0, most=4),),
    ),
    Directive(
        "fail",
        "fails inside the stream; free",
        "200, progress, then a `❌` line in `content`, a normal end",
        (_code(_UNSAFE),),
    ),
    Directive(
        "fail-reasoning",
        "fails inside the stream, as captured from a similar gateway; free",
        "200, progress and `❌` in `reasoning_content`, usage with no choices, no `finish_reason`",
        (_code(_UNSAFE),),
    ),
    Directive(
        "error-frame",
        "fails inside the stream; free",
        '200, progress, then `data: {"error": …}` and `[DONE]`; 500 when not streamed',
        (_code(_UNSAFE),),
    ),
    Directive("silent", "fails without a word; free", "200, a normal end, no link"),
    Directive(
        "bare",
        "fails, and the stream just ends; free",
        "200, end of file without `[DONE]`, `finish_reason` or link",
    ),
    Directive(
        "no-done",
        "delivers, then ends the stream without `[DONE]`",
        "links, then end of file; no `finish_reason`",
    ),
    Directive(
        "json",
        "delivers as one JSON body although a stream was asked for",
        "200 `application/json`, a `chat.completion`",
    ),
)

_TEXT: Final = (
    Directive(
        "english",
        "writes the stream as the vendor's English page shows it: sparse chunks, no echo",
        "`Progress: 45.0%`, `Video 1 complete, [click here](…)`",
    ),
    Directive(
        "reasoning",
        "writes progress into `reasoning_content` and the link as a `<video>` tag",
        "no text but the tag in `content`",
    ),
    Directive("choices", "gives each clip its own choice", "`choices[].index` 0 to n-1"),
    Directive("unnumbered", "leaves the numbers out of the success lines", "the same line n times"),
    Directive(
        "link",
        "writes the links in another form seen in the wild",
        "the link as `click`, `generated`, `download`, `watch` (two links to one clip), `video` "
        "(a tag), `signed` (no `.mp4`) or `bare`",
        (
            _one_of(
                "form", None, "click", "generated", "download", "watch", "video", "signed", "bare"
            ),
        ),
    ),
    Directive(
        "usage",
        "moves the token usage: on the last choice's chunk, on its own chunk, or nowhere",
        "`usage` there",
        (_one_of("where", None, "last", "own", "none"),),
    ),
    Directive(
        "escape",
        "escapes more than JSON needs: `\\u003e` as Go does, or `\\/`",
        "the same text after decoding",
        (_one_of("kind", "html", "html", "slashes"),),
    ),
    Directive("split", "spreads every line over several chunks", "links cut in the middle"),
    Directive("broken-frame", "adds one frame of broken JSON", "`data:` that does not parse"),
    Directive("ping", "adds comment lines", "`: PING`"),
    Directive("ids", "adds `id:` lines", "`id: 7`"),
    Directive("crlf", "ends lines with CR LF", "the same events"),
    Directive("bom", "starts with a byte order mark", "the same events"),
    Directive("no-space", "leaves out the space after `data:`", "the same events"),
)

_GENERAL: Final = (
    Directive("seconds", "makes the clip in so many seconds", "as said", (_seconds(),)),
    Directive(
        "gateway",
        "binds the words after it, up to the next such word, to one gateway",
        "the other gateways behave",
        (_one_of("name", None, "api", "vip", "b"),),
        Place.PROMPT,
    ),
)

_JOBS: Final = (
    Directive(
        "created",
        "answers `POST /v1/videos` in one of the shapes on record",
        "`created` or `created_at`, `queued` or `submitted`, `id` or `task_id`",
        (_one_of("shape", None, "a", "b", "c", "d", "e"),),
    ),
    Directive(
        "polled",
        "answers the status of a job in another envelope",
        "as `documented`, as `captured`, as a `task`, or as `newapi`",
        (_one_of("shape", None, "documented", "captured", "task", "newapi"),),
    ),
    Directive(
        "content",
        "answers `/content` in another way",
        "`json` with `url`, `video-url`, the `bytes`, or a `redirect` to the link",
        (_one_of("form", None, "json", "video-url", "bytes", "redirect"),),
    ),
    Directive(
        "not-ready",
        "refuses the first requests for the content of a finished job",
        "400 so many times, then the content",
        (Parameter("times", int, 2, least=1, most=1000),),
    ),
    Directive(
        "unshared",
        "lets only the gateway that took the job know its id",
        "404 `video_not_found` elsewhere",
    ),
)

GROUPS: Final[Mapping[str, tuple[Directive, ...]]] = MappingProxyType(
    {
        "Instead of an answer": _INSTEAD,
        "On the wire": _SOCKET,
        "How it ends": _ENDINGS,
        "How a stream is written": _TEXT,
        "In general": _GENERAL,
        "Jobs (`/v1/videos`)": _JOBS,
    }
)

DIRECTIVES: Final[Mapping[str, Directive]] = MappingProxyType(
    {directive.name: directive for group in GROUPS.values() for directive in group}
)


def markdown() -> str:
    """The table as Markdown, for `GET /sandbox` and the README."""
    parts = []
    for title, group in GROUPS.items():
        parts += [f"**{title}**", "", *_rows(group), ""]
    parts += ["**Error bodies** (`[[error NAME]]`)", "", "| name | status | what it is |"]
    parts += ["|---|---|---|"]
    parts += [f"| `{name}` | {row.status} | {row.about} |" for name, row in ERRORS.items()]
    return "\n".join(parts) + "\n"


def _rows(group: Iterable[Directive]) -> list[str]:
    rows = ["| word | what happens | what a caller sees |", "|---|---|---|"]
    for directive in group:
        word = f"`[[{directive.usage}]]`"
        if directive.place is Place.CONTROL:
            word = f"`{directive.usage}` (control route only)"
        rows.append(f"| {word} | {directive.does} | {directive.caller_sees} |")
    return rows
