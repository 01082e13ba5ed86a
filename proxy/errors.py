"""The refusals a caller can see: status, code, message.

`CODES` is the contract's table of errors, with the `type` word that OpenAI's API uses for each.
`x-should-retry: true` stands only on errors that waiting can cure and of which nothing may have
been accepted; on every other error the header says `false`, because the OpenAI SDK would
otherwise repeat a paid request by itself (wire facts, section 8).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NEVER: Final = 0
"""As `retry_after_seconds`: this one time, waiting does not cure it."""

_ECHO_CHARS_MAX: Final = 80
"""How much of what a caller sent is said back to it."""


@dataclass(frozen=True, slots=True)
class Code:
    """One row of the table; `retry_seconds` is the usual `retry-after`, None for never."""

    status: int
    type: str
    retry_seconds: int | None = None


CODES: Final[Mapping[str, Code]] = MappingProxyType(
    {
        "invalid_request": Code(400, "invalid_request_error"),
        "model_not_found": Code(400, "invalid_request_error"),
        "image_required": Code(400, "invalid_request_error"),
        "image_not_allowed": Code(400, "invalid_request_error"),
        "invalid_image": Code(400, "invalid_request_error"),
        "n_out_of_range": Code(400, "invalid_request_error"),
        "invalid_api_key": Code(401, "authentication_error"),
        "model_not_allowed": Code(403, "permission_error"),
        "role_required": Code(403, "permission_error"),
        "route_not_found": Code(404, "not_found_error"),
        "video_not_found": Code(404, "not_found_error"),
        "method_not_allowed": Code(405, "invalid_request_error"),
        "video_not_ready": Code(409, "invalid_request_error"),
        "video_failed": Code(409, "invalid_request_error"),
        "idempotency_in_progress": Code(409, "invalid_request_error", retry_seconds=5),
        "video_expired": Code(410, "not_found_error"),
        "request_too_large": Code(413, "invalid_request_error"),
        "idempotency_key_reused": Code(422, "invalid_request_error"),
        "rate_limit_exceeded": Code(429, "rate_limit_error", retry_seconds=15),
        "insufficient_quota": Code(429, "insufficient_quota"),
        "internal_error": Code(500, "server_error"),
        "upstream_unavailable": Code(502, "upstream_error", retry_seconds=5),
        "upstream_auth": Code(502, "upstream_error"),
        "upstream_balance": Code(502, "upstream_error"),
        "upstream_invalid": Code(502, "upstream_error"),
        "ledger_unavailable": Code(503, "server_error", retry_seconds=5),
        "draining": Code(503, "server_error", retry_seconds=5),
        "outcome_unknown": Code(504, "upstream_error"),
    }
)
"""Every code there is, in the order of its status."""


class ProxyError(Exception):
    """A refusal on its way to the caller; `message` says what the caller can do.

    `retry_after_seconds` replaces the table's, where the table allows a retry at all. Raises
    `KeyError` for a code that is not in the table.
    """

    def __init__(
        self,
        code: str,
        message: str,
        param: str | None = None,
        *,
        retry_after_seconds: int | None = None,
        more_headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = CODES[code].status
        self.type = CODES[code].type
        self.message = message
        self.param = param
        self.retry_after_seconds = CODES[code].retry_seconds
        if self.retry_after_seconds is not None and retry_after_seconds is not None:
            self.retry_after_seconds = retry_after_seconds if retry_after_seconds > NEVER else None
        self._more_headers = tuple(more_headers)

    def body(self) -> bytes:
        """OpenAI's error envelope as JSON, in plain ASCII."""
        error = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        return json.dumps({"error": error}, separators=(",", ":")).encode("ascii")

    def headers(self) -> list[tuple[str, str]]:
        """The headers that belong to this body; none of them holds anything a caller sent."""
        headers = [("content-type", "application/json"), ("cache-control", "no-store")]
        if self.retry_after_seconds is None:
            headers.append(("x-should-retry", "false"))
        else:
            headers.append(("x-should-retry", "true"))
            headers.append(("retry-after", str(self.retry_after_seconds)))
        return headers + list(self._more_headers)


def route_not_found() -> ProxyError:
    """Nothing is served at this path."""
    return ProxyError(
        "route_not_found", "Nothing is served here. Check the path; the base URL ends with /v1."
    )


def method_not_allowed(allowed: Sequence[str]) -> ProxyError:
    """The path exists, but not for this method."""
    methods = ", ".join(allowed)
    message = f"This path takes {methods}. Send one of those."
    return ProxyError("method_not_allowed", message, more_headers=[("allow", methods)])


def request_too_large(bytes_max: int) -> ProxyError:
    """The body has more than `bytes_max` bytes; the rest of it is not read."""
    message = f"The request may have {bytes_max:,} bytes. Send fewer, or smaller, images."
    return ProxyError("request_too_large", message, more_headers=[("connection", "close")])


def invalid_api_key() -> ProxyError:
    """The one answer to a missing, garbled, unknown, revoked or expired key."""
    return ProxyError(
        "invalid_api_key",
        "This needs a valid key: send 'Authorization: Bearer sk-cm-...', or ask the operator "
        "of this proxy for a new one.",
        more_headers=[("www-authenticate", 'Bearer realm="clipmeter"')],
    )


def model_not_allowed(model: str) -> ProxyError:
    """The tenant's list of models does not have this one."""
    message = f"Your team may not use {echo(model)}. Ask GET /v1/models which ones it may."
    return ProxyError("model_not_allowed", message, "model")


def role_required(role: str, needed: Sequence[str]) -> ProxyError:
    """The key is valid, but its role opens other doors."""
    message = (
        f"This needs a key with the role {' or '.join(needed)}; yours has the role {role}. "
        "Ask the operator of this proxy for one."
    )
    return ProxyError("role_required", message)


def model_without_price(model: str) -> ProxyError:
    """A known model that has no price on this day: refused, never free."""
    message = (
        f"{echo(model)} has no price yet. Use another model, or ask the operator to set its price."
    )
    return ProxyError("model_not_found", message, "model")


def video_not_found() -> ProxyError:
    """The one answer to an unknown, foreign or deleted clip."""
    return ProxyError(
        "video_not_found", "There is no such video. GET /v1/videos lists the ones you have."
    )


def video_not_ready(poll_seconds: int) -> ProxyError:
    """The clip is still being made; ask for its state, not for its bytes."""
    message = (
        "The video is not finished. Ask GET /v1/videos/{id} for its status every "
        f"{poll_seconds} seconds and fetch the content once it is completed."
    )
    pause = ("openai-poll-after-ms", str(poll_seconds * 1000))
    return ProxyError("video_not_ready", message, more_headers=[pause])


def video_failed(reason: str) -> ProxyError:
    """The clip ended without bytes; `reason` is from the closed list."""
    message = f"The video was not made ({reason}) and cost nothing. Make a new request for it."
    return ProxyError("video_failed", message)


def video_expired() -> ProxyError:
    """The clip's bytes were kept for as long as they are kept."""
    return ProxyError(
        "video_expired", "The video's bytes are no longer kept. Make a new request for it."
    )


def idempotency_in_progress() -> ProxyError:
    """The first request with this key has not ended."""
    return ProxyError(
        "idempotency_in_progress",
        "A request with this Idempotency-Key is still running. Send the same again in a moment.",
    )


def idempotency_key_reused() -> ProxyError:
    """The same key came with another body."""
    return ProxyError(
        "idempotency_key_reused",
        "This Idempotency-Key belongs to a request with another body. Use a new key.",
    )


def rate_limit_exceeded(limit: str, allowed: int, retry_after_seconds: int) -> ProxyError:
    """A limit that waiting cures: requests a minute, clips in flight."""
    message = (
        f"The limit {limit} is {allowed}. Send the same again in {retry_after_seconds} seconds."
    )
    return ProxyError("rate_limit_exceeded", message, retry_after_seconds=retry_after_seconds)


def insufficient_quota(limit: str, allowed: str) -> ProxyError:
    """The month's budget does not hold this request."""
    message = (
        f"The budget {limit} of {allowed} is used up or too small for this request. "
        "Ask for fewer clips, or ask the operator to raise it; GET /v1/usage says what is left."
    )
    return ProxyError("insufficient_quota", message)


def internal_error(request_id: str) -> ProxyError:
    """A fault of ours; the log line of `request_id` says which."""
    message = f"This proxy failed. Tell its operator the request id {request_id}."
    return ProxyError("internal_error", message)


def upstream_unavailable(generation_id: str, *, maybe_accepted: bool) -> ProxyError:
    """No gateway served the request; `maybe_accepted` when one of the attempts may have bought."""
    if maybe_accepted:
        message = (
            "No gateway of the vendor answered properly; the clips may still have been bought. "
            f"Do not repeat the request; ask the operator about {generation_id}."
        )
        return ProxyError("upstream_unavailable", message, retry_after_seconds=NEVER)
    return ProxyError(
        "upstream_unavailable",
        "No gateway of the vendor could be reached; nothing was bought. Send the same again soon.",
    )


def upstream_auth() -> ProxyError:
    """The vendor does not accept our own credentials."""
    return ProxyError(
        "upstream_auth",
        "The vendor refused this proxy's own key; nothing was bought. Tell the operator.",
    )


def upstream_balance() -> ProxyError:
    """The vendor account is empty."""
    return ProxyError(
        "upstream_balance",
        "This proxy's account at the vendor is used up; nothing was bought. Tell the operator.",
    )


def upstream_invalid(generation_id: str) -> ProxyError:
    """The vendor's answer was not one."""
    message = (
        "The vendor sent something that is not an answer. Do not repeat the request before "
        f"the operator has looked at {generation_id}: it may have been bought."
    )
    return ProxyError("upstream_invalid", message)


def outcome_unknown(generation_id: str) -> ProxyError:
    """The request was sent and not answered: it may be rendering, and may cost money."""
    message = (
        "The vendor took the request and did not answer; the clips may still be made. "
        f"Do not repeat it; the operator can tell you what became of {generation_id}."
    )
    return ProxyError("outcome_unknown", message)


def ledger_unavailable() -> ProxyError:
    """Nothing can be booked, so nothing may be bought."""
    return ProxyError(
        "ledger_unavailable",
        "The ledger cannot be written just now; nothing was bought. Send the same again soon.",
    )


def draining() -> ProxyError:
    """This process is stopping; another one, or this one restarted, will take the request."""
    return ProxyError(
        "draining",
        "This server is restarting; nothing was bought. Send the same again in a moment.",
        more_headers=[("connection", "close")],
    )


def echo(text: str) -> str:
    """A caller's own word, short and printable, for saying back in a message."""
    short = text if len(text) <= _ECHO_CHARS_MAX else f"{text[:_ECHO_CHARS_MAX]}…"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in short)
