"""Why a clip was not delivered: a closed list, read from the vendor's codes and words.

The vendor passes Google Flow's `PUBLIC_ERROR_*` codes on; most are content policy, some are
trouble with the vendor's own accounts or capacity (wire facts, section 6). The vendor's words come
in Chinese and English. The list is closed so that it can be a metric label and a finance column;
the vendor's own text stays on the clip.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """The closed list; the values stand in exports, metrics and usage."""

    POLICY_AUDIO = "policy_audio"
    POLICY_PEOPLE = "policy_people"
    POLICY_OTHER = "policy_other"
    VENDOR_CAPACITY = "vendor_capacity"
    VENDOR_ERROR = "vendor_error"
    VENDOR_ACCOUNT = "vendor_account"
    BAD_REQUEST = "bad_request"
    UNREACHABLE = "unreachable"
    NO_CLIP = "no_clip"
    LOST = "lost"


_PUBLIC_CODE: Final = re.compile(r"PUBLIC_ERROR_([A-Z_]+)")

_ACCOUNT_CODES: Final = ("MODEL_ACCESS_DENIED", "UNUSUAL_ACTIVITY")

# First match wins, so the narrow words stand before the wide ones.
_WORDS: Final[tuple[tuple[Reason, re.Pattern[str]], ...]] = tuple(
    (reason, re.compile(words, re.IGNORECASE))
    for reason, words in (
        (
            Reason.VENDOR_ACCOUNT,
            r"insufficient|not enough|余额不足|额度|invalid api key|incorrect api key|无效的令牌"
            r"|invalid token|HTTP Error 401|无权|不支持此模型",
        ),
        (
            Reason.VENDOR_CAPACITY,
            r"heavy.?load|overload|saturat|too many requests|rate.?limit|no available channel"
            r"|capacity|负载|饱和|无可用渠道|稍后再试|try again later",
        ),
        (
            Reason.POLICY_OTHER,
            r"content.?policy|content.?violation|policy violation|safety|unsafe|moderation"
            r"|违规|敏感|审核|安全策略",
        ),
    )
)


def classify(text: str) -> Reason:
    """The reason that `text`, the vendor's own words, gives; `VENDOR_ERROR` when none is known."""
    code = _PUBLIC_CODE.search(text)
    if code is not None:
        return _public(code.group(1))
    for reason, words in _WORDS:
        if words.search(text):
            return reason
    return Reason.VENDOR_ERROR


def _public(code: str) -> Reason:
    if code.startswith(_ACCOUNT_CODES):
        capacity = code.endswith("TOO_MUCH_TRAFFIC")
        return Reason.VENDOR_CAPACITY if capacity else Reason.VENDOR_ACCOUNT
    if "AUDIO" in code:
        return Reason.POLICY_AUDIO
    if "PEOPLE" in code or "PERSON" in code:
        return Reason.POLICY_PEOPLE
    return Reason.POLICY_OTHER
