"""Every error body the vendor, its sibling and their kin are known to send.

Shapes and statuses are those of the wire facts, sections 6.1 and 6.2. `{model}` and `{request_id}`
are filled in when a body is sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from proxy.sandbox.http import Reply


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """One recorded error: `body` is JSON data, or text that is sent as it is."""

    status: int
    about: str
    body: Any
    media_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    def reply(self, model: str, request_id: str) -> Reply:
        """The error as it goes out for this model and request."""
        text = self.body if isinstance(self.body, str) else dumps(self.body)
        text = text.replace("{model}", dumps(model)[1:-1]).replace("{request_id}", request_id)
        headers = (("Content-Type", self.media_type), *self.headers)
        return Reply(self.status, headers, text.encode())


def dumps(data: object) -> str:
    """`data` as compact JSON with its letters unescaped, as the vendor writes it."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def shell(message: str, code: str, localized: str | None = None, param: str = "") -> dict[str, Any]:
    """The gateway's own envelope, of type `shell_api_error`."""
    error: dict[str, Any] = {"message": message}
    if localized is not None:
        error["localized_message"] = localized
    return {"error": {**error, "type": "shell_api_error", "param": param, "code": code}}


def failure(status: int, message: str, code: str) -> Reply:
    """An error of the gateway itself, in its own envelope."""
    headers = (("Content-Type", "application/json; charset=utf-8"),)
    return Reply(status, headers, dumps(shell(message, code)).encode())


_PAGE: Final = (
    "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>"
    "\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)

_INNER: Final = {"error": {"message": "upstream returned 500", "type": "server_error", "code": 500}}

_BALANCE: Final = "user [25359] quota [50264] preConsumedQuota [125000] is not enough"

_ACCOUNT: Final = {
    "balance": ErrorBody(
        403,
        "the vendor account's balance is used up",
        shell(_BALANCE, "insufficient_user_quota", "Insufficient user quota"),
    ),
    "balance-429": ErrorBody(
        429,
        "the same, as the vendor's page has it",
        shell("You exceeded your current quota", "quota_exceeded"),
    ),
    "balance-402": ErrorBody(
        402,
        "the same, at the vendor's sibling",
        {
            "error": {
                "code": "insufficient_balance",
                "message": "Insufficient balance, please top up",
                "type": "billing_error",
            }
        },
    ),
    "balance-words": ErrorBody(
        403,
        "the same, told by Chinese words only",
        shell("预扣费额度失败, 用户剩余额度: $0.02", ""),
    ),
    "bad-key": ErrorBody(
        401,
        "the vendor refuses the key",
        {
            "error": {
                "code": "invalid_api_key",
                "message": "Invalid API key provided",
                "type": "authentication_error",
            }
        },
    ),
    "bad-key-words": ErrorBody(
        401,
        "the same, older, in Chinese",
        {"error": {"message": "无效的令牌 (request id: {request_id})", "type": "shell_api_error"}},
    ),
    "group": ErrorBody(
        403, "the key's group has not this model", shell("当前分组不支持此模型", "group_forbidden")
    ),
    "key-model": ErrorBody(
        403, "the key may not use this model", shell("该令牌无权使用模型：{model}", "")
    ),
}

_ROUTING: Final = {
    "no-channels": ErrorBody(
        503, "the model cannot be routed here", {"error": {"message": "no available channels"}}
    ),
    "no-channels-words": ErrorBody(
        503,
        "the same, in Chinese",
        shell("当前分组 default 下对于模型 {model} 无可用渠道", "model_not_found"),
    ),
    "saturated": ErrorBody(
        429,
        "too much load, no hint when to return",
        shell("当前分组上游负载已饱和，请稍后再试", ""),
    ),
    "saturated-wait": ErrorBody(
        429,
        "too much load, `Retry-After: 2`",
        shell("Rate limit reached for {model}", "rate_limit_exceeded"),
        headers=(("Retry-After", "2"),),
    ),
    "heavy-load": ErrorBody(
        503,
        "too much load, at the vendor's sibling",
        {
            "error": {
                "message": "We're under heavy load, please try again later",
                "type": "server_error",
                "code": "heavy_load",
            }
        },
    ),
    "empty-502": ErrorBody(
        502,
        "the gateway lost its own upstream; no words",
        shell("", "bad_response_status_code", param="502"),
    ),
    "timeout-504": ErrorBody(
        504,
        "the engine took too long: may be running still",
        shell("Upstream model timed out", "upstream_timeout"),
    ),
    "html-502": ErrorBody(
        502,
        "a web server's error page",
        _PAGE.replace("{title}", "502 Bad Gateway"),
        "text/html",
    ),
    "html-524": ErrorBody(
        524,
        "a content network gave up waiting",
        _PAGE.replace("{title}", "524: A timeout occurred"),
        "text/html; charset=UTF-8",
    ),
    "plain-500": ErrorBody(500, "plain text", "Internal Server Error", "text/plain"),
    "empty-500": ErrorBody(500, "no body at all", "", "application/json"),
}

_SHAPES: Final = {
    "nested": ErrorBody(
        500,
        "an envelope inside a string inside an envelope",
        {"code": "fail_to_fetch_task", "message": dumps(_INNER), "data": None},
    ),
    "detail": ErrorBody(500, "`detail` instead of `error`", {"detail": "Internal server error"}),
    "error-string": ErrorBody(500, "`error` is a string", {"error": "服务内部异常"}),
    "code-number": ErrorBody(500, "`code` is a number", _INNER),
    "flow2api": ErrorBody(
        502,
        "the engine's kin",
        {
            "error": {
                "message": "Flow API request failed",
                "type": "server_error",
                "code": "generation_failed",
                "status_code": 502,
            }
        },
    ),
    "one-api": ErrorBody(
        500,
        "the gateway's ancestor",
        {"error": {"message": "bad response (request id: {request_id})", "type": "one_api_error"}},
    ),
    "new-api": ErrorBody(
        500,
        "the ancestor's other child",
        {
            "error": {
                "message": "do request failed",
                "type": "new_api_error",
                "param": "",
                "code": "do_request_failed",
            }
        },
    ),
}

_CALLER: Final = {
    "manual": ErrorBody(
        400,
        "the vendor's manual",
        {"error": {"code": "invalid_request", "message": "Missing required parameter: prompt"}},
    ),
    "policy-sibling": ErrorBody(
        400,
        "a policy refusal, at the vendor's sibling",
        {
            "error": {
                "message": "Your request was rejected due to content policy violation",
                "type": "content_violation",
                "code": "content_policy_violation",
            }
        },
    ),
    "model-not-found": ErrorBody(
        400, "no such model", shell("model {model} not found", "model_not_found")
    ),
    "image-fetch": ErrorBody(
        400, "an image link cannot be read", shell("failed to fetch image", "image_fetch_failed")
    ),
    "image-format": ErrorBody(
        400, "not JPEG or PNG", shell("unsupported image format", "invalid_image_format")
    ),
    "image-large": ErrorBody(400, "too big", shell("image exceeds 5 MB", "image_too_large")),
    "image-model": ErrorBody(
        400,
        "an image for a model that takes none",
        shell("model {model} does not support image input", "model_not_support_image"),
    ),
    "video-not-found": ErrorBody(
        404, "unknown or expired job", shell("video not found", "video_not_found")
    ),
    "task-not-exist": ErrorBody(
        400,
        "the same, elsewhere",
        {"code": "task_not_exist", "message": "task_not_exist", "data": None},
    ),
    "not-ready": ErrorBody(
        400,
        "the job has not ended",
        {
            "error": {
                "message": "Task is not completed yet, current status: IN_PROGRESS",
                "type": "invalid_request_error",
            }
        },
    ),
}

ERRORS: Final[Mapping[str, ErrorBody]] = MappingProxyType(
    {**_ACCOUNT, **_ROUTING, **_SHAPES, **_CALLER}
)

_STATUS_WORDS: Final = {
    400: ("parse_request_failed: invalid request", "parse_request_failed"),
    401: ("Incorrect API key provided", "invalid_api_key"),
    402: ("Insufficient balance", "insufficient_balance"),
    403: ("Forbidden", "forbidden"),
    404: ("Not found", "not_found"),
    408: ("Request timed out", "request_timeout"),
    413: ("Request body too large", "request_too_large"),
    429: ("Too many requests, please try again later", "rate_limit_exceeded"),
    504: ("Upstream model timed out", "upstream_timeout"),
}


def by_status(status: int) -> Reply:
    """The gateway's own envelope for a bare status."""
    words = (f"bad response status code {status}", "bad_response_status_code")
    message, code = _STATUS_WORDS.get(status, words)
    param = str(status) if status >= 500 else ""
    headers = (("Content-Type", "application/json; charset=utf-8"),)
    return Reply(status, headers, dumps(shell(message, code, param=param)).encode())


def policy(code: str) -> Reply:
    """The refusal of a prompt before anything was started."""
    message = f"Your request was rejected due to content policy violation: {code}"
    return failure(403, message, "content_policy_violation")
