"""What the vendor says of a video job: every envelope on record, read totally.

Gateways of the vendor's family answer with a bare video, with a task around it, or with one or two
more objects around that; in any case of letters, with numbers as texts and links under ten names
(wire facts, 4.3 to 4.6 and 10.13 to 10.22). Their `model`, `seconds`, `size` and times are not
read: they are wrong often enough, and what the caller asked for is known.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import orjson

from proxy.core.failure import Reason, classify
from proxy.core.wire import error_words, sound

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WORDS_CHARS_MAX: Final = 2_000
"""How much of the vendor's own words is kept."""

_NESTED_MAX: Final = 4


class JobState(StrEnum):
    """The four states of OpenAI's `Video`; the SDK waits on the first two only."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Job:
    """What one reply says.

    `id` is the vendor's, if the reply names it. `percent` is 0 to 100, and 0 where the reply says
    nothing or has failed; it may be less than an earlier reply's. `url` is set only on a completed
    job, and only for a link that needs no key; a completed job without one `needs_content`: its
    bytes are had from `/content`, with our key. `words` and `reason` tell why a job failed.
    """

    id: str | None
    state: JobState
    percent: int = 0
    url: str | None = None
    needs_content: bool = False
    words: str = ""
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Absent:
    """The gateway does not know the job, or no longer; another gateway may (wire facts, 10.20)."""

    words: str = ""


@dataclass(frozen=True, slots=True)
class Garbled:
    """Nothing that tells a job's state: an error, a page, a broken body.

    `id` is what stands where a job's id would, so that an accepted job whose reply broke off can
    still be asked for.
    """

    words: str = ""
    id: str | None = None


_STATES: Final[dict[str, JobState]] = {
    **dict.fromkeys(("queued", "pending", "submitted", "not_start", "created"), JobState.QUEUED),
    **dict.fromkeys(("processing", "in_progress", "running", "generating"), JobState.IN_PROGRESS),
    **dict.fromkeys(
        ("completed", "complete", "success", "succeeded", "finished"), JobState.COMPLETED
    ),
    **dict.fromkeys(
        ("failed", "failure", "fail", "error", "cancelled", "canceled", "expired"),
        JobState.FAILED,
    ),
}

_IDS: Final = ("id", "task_id")
_LINKS: Final = ("url", "video_url", "result_url")
_LINK_HOLDERS: Final = ("output", "result", "metadata")

_ID: Final = re.compile(r"(?!\.{1,2}$)[\x21-\x7e]{1,200}")
_LINK: Final = re.compile(r"https?://[^\s\x00-\x1f\x7f\ud800-\udfff]{1,8000}", re.IGNORECASE)
_SELF_LINK: Final = re.compile(r"/v1/videos/[^/]+/content/*$")
_PERCENT: Final = re.compile(r"\s*(-?[0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(%?)\s*")
_GONE: Final = re.compile(r"\b(?:video_not_found|task_not_exist|task_not_found)\b")
_BROKEN_ID: Final = re.compile(r'"(?:task_)?id"\s*:\s*"([\x21\x23-\x5b\x5d-\x7e]{1,200})"')

_Object = dict[str, object]


def read_job(body: bytes, status: int) -> Job | Absent | Garbled:
    """What a reply to a create, a poll or a `/content` request says; total over any bytes.

    `status` is the HTTP status. Only a 2xx tells a state; a 404, and the vendor's codes for an
    unknown job under any status, make it `Absent`.
    """
    value = _parse(body)
    objects = tuple(_objects(value))
    words = _words(objects)
    if status == 404 or any(map(_says_gone, objects)):
        return Absent(words)
    job_id = _first_id(objects)
    if not objects:
        return Garbled(_plain(body), _broken_id(body))
    if not 200 <= status < 300:
        return Garbled(words, job_id)
    link = _first_link(objects)
    state = _state(objects, link)
    if state is None:
        if job_id is None or _error_words(objects):
            return Garbled(words, job_id)
        state = JobState.QUEUED  # a create reply need not name a state (wire facts, 10.13)
    return _job(job_id, state, objects, link)


def _job(job_id: str | None, state: JobState, objects: Sequence[_Object], link: str | None) -> Job:
    if state is JobState.COMPLETED:
        return Job(job_id, state, 100, link, needs_content=link is None)
    if state is JobState.FAILED:
        words = _words(objects) or _told_state(objects)
        return Job(job_id, state, words=words, reason=classify(words))
    return Job(job_id, state, _percent(objects))


def _parse(body: bytes) -> object:
    raw = body.removeprefix(b"\xef\xbb\xbf")
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        pass
    try:  # half a surrogate pair, NaN or a raw line end: another writer's JSON, and a paid job
        return json.loads(raw.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None


def _objects(value: object) -> Iterator[_Object]:
    """The reply's object and those nested in its `data`, outermost first."""
    for _ in range(_NESTED_MAX):
        if isinstance(value, str) and value.lstrip().startswith("{"):
            value = _parse(value.encode("utf-8", "replace"))
        if not isinstance(value, dict):
            return
        yield value
        value = value.get("data")


def _state(objects: Sequence[_Object], link: str | None) -> JobState | None:
    """The state that the reply tells; None when it tells none.

    The outermost object decides: a gateway that gave up leaves the engine's last words inside.
    Only its success may mean the reply and not the job, so without a link an inner object that
    says otherwise is believed.
    """
    told = [text for each in objects if (text := _status(each))]
    known = [_STATES[text] for text in told if text in _STATES]
    if not known:
        if link is not None:
            return JobState.COMPLETED
        return JobState.IN_PROGRESS if told else None
    if known[0] is JobState.COMPLETED and link is None:
        return next((state for state in known if state is not JobState.COMPLETED), known[0])
    return known[0]


def _status(each: _Object) -> str:
    text = each.get("status")
    return re.sub(r"[\s-]+", "_", text.strip().lower()) if isinstance(text, str) else ""


def _told_state(objects: Sequence[_Object]) -> str:
    """The vendor's own word for a failure of which it says no more."""
    told = (text for each in objects if (text := _status(each)))
    return _clean(next((text for text in told if _STATES.get(text) is JobState.FAILED), ""))


def _first_id(objects: Sequence[_Object]) -> str | None:
    for kind in (str, int):  # a number is the row of somebody's table, if there is a text at all
        for each in objects:
            for name in _IDS:
                found = each.get(name)
                if isinstance(found, kind) and not isinstance(found, bool):
                    text = str(found)
                    if _ID.fullmatch(text):
                        return text
    return None


def _broken_id(body: bytes) -> str | None:
    """The id in JSON that breaks off further on."""
    text = body[:20_000].decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    found = _BROKEN_ID.search(text) if text.startswith("{") else None
    return found[1] if found is not None and _ID.fullmatch(found[1]) else None


def _first_link(objects: Sequence[_Object]) -> str | None:
    """The first link that anybody may follow; `/content`, whoever's, needs the key."""
    for each in objects:
        inner = (each.get(name) for name in _LINK_HOLDERS)
        for holder in (each, *(found for found in inner if isinstance(found, dict))):
            for name in _LINKS:
                if (link := _link(holder.get(name))) is not None:
                    return link
    # Older gateways of the family write the link of a success where a failure has its reason.
    reasons = (_link(each.get("fail_reason")) for each in objects)
    return next((link for link in reasons if link is not None), None)


def _link(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    text = value.strip()
    path = text.partition("#")[0].partition("?")[0]
    return text if _LINK.fullmatch(text) and not _SELF_LINK.search(path) else None


def _percent(objects: Sequence[_Object]) -> int:
    for each in objects:
        found = _number(each.get("progress"))
        if found is not None:
            return int(min(100.0, max(0.0, found)))
    return 0


def _number(value: object) -> float | None:
    """A progress in percent; a fraction between 0 and 1 is taken for a share of one."""
    share = True
    if isinstance(value, str):
        match = _PERCENT.fullmatch(value)
        if match is None:
            return None
        number, share = float(match[1]), not match[2]
    elif isinstance(value, bool) or not isinstance(value, int | float):
        return None
    else:
        number = float(max(-1, min(value, 1_000)))  # NaN, too, comes out as -1
    return round(number * 100, 6) if share and 0 < number < 1 else number


def _words(objects: Sequence[_Object]) -> str:
    """Why, in the vendor's words; empty when it says nothing."""
    errors = _error_words(objects)
    return errors or next((words for each in objects if (words := _message(each))), "")


def _error_words(objects: Sequence[_Object]) -> str:
    """The words of an error, however it is told."""
    for each in objects:
        if (error := each.get("error")) and (words := _clean(error_words(error))):
            return words
    for each in objects:
        reason = each.get("fail_reason")
        if isinstance(reason, str) and _link(reason) is None and (words := _clean(reason)):
            return words
    coded = (each for each in objects if isinstance(each.get("code"), str) and each["code"])
    refusals = (_message(each) for each in coded)
    return next((words for words in refusals if words), "")


def _message(each: _Object) -> str:
    """What an object says beside its error; an envelope that reports its own success is mute."""
    code, message = each.get("code"), each.get("message") or each.get("detail")
    if isinstance(code, str) and code.lower() == "success":
        return ""
    return _clean(error_words({"code": code, "message": message}))


def _says_gone(each: _Object) -> bool:
    error = each.get("error")
    kinds = [each.get("type"), error.get("type") if isinstance(error, dict) else None]
    said = [error_words(each), *(kind for kind in kinds if isinstance(kind, str))]
    return any(_GONE.search(text.lower()) for text in said)


def _plain(body: bytes) -> str:
    return _clean(body[:WORDS_CHARS_MAX].decode("utf-8", "replace"))


def _clean(text: str) -> str:
    """Words that can be stored and shown, and not too many of them."""
    return sound(text).strip()[:WORDS_CHARS_MAX]
