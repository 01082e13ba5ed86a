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
        "link_invalid": Code(403, "permission_error"),
        "route_not_found": Code(404, "not_found_error"),
        "video_not_found": Code(404, "not_found_error"),
        "method_not_allowed": Code(405, "invalid_request_error"),
        "video_not_ready": Code(409, "invalid_request_error"),
        "video_failed": Code(409, "invalid_request_error"),
        "picture_failed": Code(409, "invalid_request_error"),
        "idempotency_in_progress": Code(409, "invalid_request_error", retry_seconds=5),
        "video_expired": Code(410, "not_found_error"),
        "precondition_failed": Code(412, "invalid_request_error"),
        "request_too_large": Code(413, "invalid_request_error"),
        "range_not_satisfiable": Code(416, "invalid_request_error"),
        "idempotency_key_reused": Code(422, "invalid_request_error"),
        "rate_limit_exceeded": Code(429, "rate_limit_error", retry_seconds=15),
        "insufficient_quota": Code(429, "insufficient_quota"),
        "internal_error": Code(500, "server_error"),
        "upstream_unavailable": Code(502, "upstream_error", retry_seconds=5),
        "upstream_auth": Code(502, "upstream_error"),
        "upstream_balance": Code(502, "upstream_error"),
        "upstream_invalid": Code(502, "upstream_error"),
        "ledger_unavailable": Code(503, "server_error", retry_seconds=5),
        "vault_unavailable": Code(503, "server_error", retry_seconds=5),
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


def link_invalid() -> ProxyError:
    """The one answer to a signed link that is forged, changed, too old, or a disabled tenant's."""
    return ProxyError(
        "link_invalid",
        "This link is not valid, or its time is over. GET /v1/videos/{id} with a key gives a new "
        "one.",
    )


def picture_failed() -> ProxyError:
    """The clip is kept, but nothing can be drawn from it."""
    return ProxyError(
        "picture_failed",
        "No picture can be made of this video. Fetch the video itself, without variant.",
        "variant",
    )


def precondition_failed(more_headers: Sequence[tuple[str, str]] = ()) -> ProxyError:
    """The caller insists on another version than the one there is."""
    return ProxyError(
        "precondition_failed",
        "The video is not the version that If-Match or If-Unmodified-Since asks for. "
        "Ask without it.",
        more_headers=more_headers,
    )


def range_not_satisfiable(
    size_bytes: int, more_headers: Sequence[tuple[str, str]] = ()
) -> ProxyError:
    """Every range asked for lies beyond the end; `more_headers` say where that is."""
    return ProxyError(
        "range_not_satisfiable",
        f"The video has {size_bytes:,} bytes, and the range begins behind them. Ask for an "
        "earlier one.",
        more_headers=more_headers,
    )


def clip_not_fetched(retry_after_seconds: int) -> ProxyError:
    """A delivered clip's bytes have not come from the vendor yet; fetching them costs nothing."""
    return ProxyError(
        "upstream_unavailable",
        "The video is made, but its bytes have not come from the vendor yet; this proxy goes on "
        "trying. Ask for them again soon; asking costs nothing.",
        retry_after_seconds=retry_after_seconds,
    )


def vault_unavailable() -> ProxyError:
    """The clip is kept, and what it is kept in cannot be read just now."""
    return ProxyError(
        "vault_unavailable",
        "The video is kept, but cannot be read just now. Ask for it again soon; asking costs "
        "nothing.",
    )


def idempotency_in_progress() -> ProxyError:
    """The request that this one repeats has not ended, and cannot be joined from here."""
    return ProxyError(
        "idempotency_in_progress",
        "The request that this one repeats is still running. Send the same again in a moment; "
        "nothing is bought twice.",
    )


def answer_gone(generation_id: str, *, delivered: bool) -> ProxyError:
    """The request that this one repeats has ended, and what it was answered is not kept."""
    if delivered:
        return ProxyError(
            "video_expired",
            f"The request that this one repeats, {generation_id}, was answered, and the answer is "
            "no longer kept. Use a new Idempotency-Key to buy it anew.",
        )
    return ProxyError(
        "video_failed",
        f"The request that this one repeats, {generation_id}, made no video and cost nothing. "
        "Use a new Idempotency-Key to try anew.",
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


def upstream_auth(unsure_of: str = "") -> ProxyError:
    """The vendor does not accept our own credentials.

    `unsure_of` names a generation of which an attempt before may have been accepted.
    """
    return ProxyError(
        "upstream_auth", f"The vendor refused this proxy's own key; {_bought(unsure_of)}"
    )


def upstream_balance(unsure_of: str = "") -> ProxyError:
    """The vendor account is empty; `unsure_of` as for its credentials."""
    return ProxyError(
        "upstream_balance",
        f"This proxy's account at the vendor is used up; {_bought(unsure_of)}",
    )


def _bought(unsure_of: str) -> str:
    if not unsure_of:
        return "nothing was bought. Tell the operator."
    return (
        "the clips may have been bought all the same. Do not repeat the request; ask the operator "
        f"about {unsure_of}."
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
        "The vendor took the request and did not answer; the clips may still be made. Do not "
        "repeat it: ask GET /v1/videos/{id} for each id in x-clipmeter-clips, or the operator "
        f"what became of {generation_id}."
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
