"""What kind of refusal an answer is: the vendor's error envelopes, codes and words, read totally.

The vendor family answers with half a dozen envelopes, in two languages, with codes that are words,
numbers, empty or missing, and with statuses that do not mean what they say: an empty balance comes
as 402, 403 or 429 (wire facts, 6.1 and 6.2). So codes are read first, words second, the status
last. A message may echo the caller's prompt, so words are not believed where the status says that
the request itself was wrong: nobody can talk the proxy into thinking that its balance is gone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import orjson

from proxy.core.failure import Reason, classify

NESTED_MAX: Final = 3
"""How many times a message is unwrapped that is itself a JSON string (wire facts, 6.1)."""

_MESSAGE_CHARS_MAX: Final = 2_000
_CODE_CHARS_MAX: Final = 100


class Kind(StrEnum):
    """Whose trouble a refusal is; a closed list."""

    BAD_REQUEST = "bad_request"
    AUTH = "auth"
    GROUP = "group"
    BALANCE = "balance"
    POLICY = "policy"
    RATE = "rate"
    NO_CHANNEL = "no_channel"
    SERVER = "server"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal read: `message` and `code` are the vendor's own, "" where it gave none.

    `recognised` tells that the body is an error envelope of the vendor's family with something in
    it; a page from a CDN or a bare "Bad Gateway" is not, so nobody knows what became of the
    request behind it.
    """

    kind: Kind
    message: str
    code: str
    recognised: bool


@dataclass(frozen=True, slots=True)
class _Envelope:
    message: str = ""
    code: str = ""
    words: str = ""
    """Every code and type met on the way in, outermost first."""
    known: bool = False


# The first match wins in both tables. Codes and types are the vendor's alone to write.
_CODES: Final[tuple[tuple[Kind, re.Pattern[str]], ...]] = tuple(
    (kind, re.compile(words, re.IGNORECASE))
    for kind, words in (
        (Kind.NO_CHANNEL, r"no_available_channel|get_channel_failed"),
        (
            Kind.BALANCE,
            r"insufficient_(user_)?(quota|balance|credit|fund)|quota_exceeded"
            r"|quota_not_enough|pre_consume\w*_failed|billing_(hard_limit|not_active)",
        ),
        (Kind.POLICY, r"content_policy|content_filter|policy_violation|moderation|safety"),
        (Kind.AUTH, r"invalid_api_key|invalid_token|token_(expired|disabled)|authentication_error"),
        (Kind.GROUP, r"model_not_allowed|access_denied|permission_(denied|error)|group_not"),
        (Kind.RATE, r"rate_?limit|too_many_requests|overloaded|saturated"),
        (
            Kind.BAD_REQUEST,
            r"invalid_request(?!_error)|invalid_param|missing_\w*param|parse_request|bad_request"
            r"|image_fetch_failed|invalid_image|image_too_large|not_support_image",
        ),
    )
)

_WORDS: Final[tuple[tuple[Kind, re.Pattern[str]], ...]] = tuple(
    (kind, re.compile(words, re.IGNORECASE))
    for kind, words in (
        (Kind.NO_CHANNEL, r"no available channel|无可用渠道"),
        (
            Kind.BALANCE,
            r"insufficient[\w ]{0,24}(quota|balance|credit|fund)|quota.{0,80}not enough"
            r"|not enough (quota|balance|credit)|exceeded your current quota|余额不足|额度|欠费",
        ),
        (Kind.GROUP, r"无权|不支持此模型|not allowed to use|no access to|does not have access"),
        (
            Kind.POLICY,
            r"content.?policy|policy violation|content violation|safety|unsafe|moderation"
            r"|prohibited|违规|敏感|审核|安全策略",
        ),
        (Kind.RATE, r"rate.?limit|too many requests|saturat|overload|饱和|负载|频繁|稍后再试"),
        (
            Kind.AUTH,
            r"(incorrect|invalid) (api.?key|token)|无效的令牌|令牌.{0,8}(过期|禁用|不可用)",
        ),
    )
)

_PUBLIC: Final = re.compile(r"PUBLIC_ERROR_[A-Z_]+")
_POLICY: Final = frozenset({Reason.POLICY_AUDIO, Reason.POLICY_PEOPLE, Reason.POLICY_OTHER})

_ABOUT_THE_REQUEST: Final = frozenset({400, 404, 405, 406, 409, 411, 413, 414, 415, 422})

_BY_STATUS: Final[dict[int, Kind]] = {
    **dict.fromkeys(_ABOUT_THE_REQUEST, Kind.BAD_REQUEST),
    401: Kind.AUTH,
    402: Kind.BALANCE,
    # A 403 without words could be policy or our own key. Taking it for ours keeps the vendor's
    # text from a team that it may not be about (decision 21).
    403: Kind.GROUP,
    429: Kind.RATE,
}

_TITLE: Final = re.compile(r"<title[^>]*>([^<]{0,200})", re.IGNORECASE)


def read_refusal(status: int, content_type: str, body: bytes) -> Refusal:
    """What an answer that is not the asked-for success says; total over any bytes.

    `status` and `content_type` are the answer's; a 2xx whose body is an error envelope is read by
    the status that its code names, if it names one.
    """
    parsed = _parse(body)
    envelope = _read(parsed, 0)
    message = envelope.message
    if not envelope.known and not message:
        message = _plain(content_type, body)
    kind = _kind(_effective(status, envelope), envelope, message)
    return Refusal(kind, message[:_MESSAGE_CHARS_MAX], envelope.code, envelope.known)


def _kind(status: int, envelope: _Envelope, message: str) -> Kind:
    text = message[:_MESSAGE_CHARS_MAX]
    public = _PUBLIC.search(f"{envelope.words} {text}")
    if public is not None:
        return Kind.POLICY if classify(public.group()) in _POLICY else Kind.SERVER
    for kind, codes in _CODES:
        if codes.search(envelope.words):
            return kind
    for kind, words in _WORDS:
        believed = kind is Kind.POLICY or status not in _ABOUT_THE_REQUEST
        if believed and words.search(text):
            return kind
    if "invalid_request_error" in envelope.words and status < 500:
        return _BY_STATUS.get(status, Kind.BAD_REQUEST)
    if status >= 500 or "server_error" in envelope.words:
        return Kind.SERVER
    return _BY_STATUS.get(status, Kind.OTHER)


def _effective(status: int, envelope: _Envelope) -> int:
    named = envelope.code
    if status < 400 and len(named) == 3 and named.isascii() and named.isdigit():
        return int(named)
    return status


def _parse(body: bytes | str) -> object:
    try:
        return orjson.loads(body.removeprefix(b"\xef\xbb\xbf") if isinstance(body, bytes) else body)
    except orjson.JSONDecodeError:
        return None


def _read(value: object, depth: int) -> _Envelope:
    """The envelope in a parsed body, following messages that are JSON strings themselves."""
    if not isinstance(value, dict):
        return _Envelope()
    inner, outer = value.get("error"), value
    if isinstance(inner, dict) and inner:
        return _unwrapped(_fields(inner, known=True), depth)
    if isinstance(inner, str) and inner.strip():
        found = _fields(outer, known=True)
        return _unwrapped(_Envelope(inner, found.code, found.words, known=True), depth)
    detail = value.get("detail")
    if detail:
        return _unwrapped(_Envelope(_detail(detail), _text(value.get("code")), known=True), depth)
    # A bare {"message"} is what API gateways of any make send: only with a code is it the vendor's.
    return _unwrapped(_fields(outer, known="code" in outer and "message" in outer), depth)


def _fields(value: dict[str, object], *, known: bool) -> _Envelope:
    message = value.get("message") or value.get("localized_message")
    code = _text(value.get("code"))
    kind = _text(value.get("type"))
    text = _detail(message) if isinstance(message, str | list | dict) else ""
    said_something = bool(text.strip() or code or kind)
    status = _text(value.get("status_code"))
    return _Envelope(text, code or status, f"{code} {kind}", known=known and said_something)


def _unwrapped(envelope: _Envelope, depth: int) -> _Envelope:
    if depth >= NESTED_MAX or not envelope.message.lstrip().startswith(("{", '"')):
        return envelope
    nested = _parse(envelope.message)
    if isinstance(nested, str):
        return _unwrapped(
            _Envelope(nested, envelope.code, envelope.words, envelope.known), depth + 1
        )
    inner = _read(nested, depth + 1)
    if not (inner.message or inner.code):
        return envelope
    return _Envelope(
        inner.message,
        inner.code or envelope.code,
        f"{envelope.words} {inner.words}",
        envelope.known or inner.known,
    )


def _detail(value: object) -> str:
    """A FastAPI `detail`: a text, or a list of `{"msg": …}`; anything else as its JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        said = [item.get("msg") for item in value if isinstance(item, dict)]
        if said and all(isinstance(text, str) for text in said):
            return "; ".join(str(text) for text in said)
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # nested deeper than it writes, though not than it reads
        return ""


def _text(value: object) -> str:
    """A code as text: a word, or a number; anything else is none."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value).strip()[:_CODE_CHARS_MAX]


def _plain(content_type: str, body: bytes) -> str:
    """The words of a page or of plain text; a page's title is all that is worth passing on."""
    text = body[: 4 * _MESSAGE_CHARS_MAX].decode("utf-8", "replace").strip()
    if "html" in content_type.lower() or text[:1] == "<":
        title = _TITLE.search(text)
        return title.group(1).strip() if title is not None else ""
    return text
