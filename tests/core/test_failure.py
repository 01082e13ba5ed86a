"""The vendor's codes and words give one of a closed list of reasons."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.core.failure import Reason, classify

SAID = {
    "Video generation failed: PUBLIC_ERROR_AUDIO_FILTERED": Reason.POLICY_AUDIO,
    "PUBLIC_ERROR_PROMINENT_PEOPLE_FILTER_FAILED": Reason.POLICY_PEOPLE,
    "PUBLIC_ERROR_UNSAFE_GENERATION": Reason.POLICY_OTHER,
    "PUBLIC_ERROR_MODEL_ACCESS_DENIED": Reason.VENDOR_ACCOUNT,
    "PUBLIC_ERROR_UNUSUAL_ACTIVITY": Reason.VENDOR_ACCOUNT,
    "PUBLIC_ERROR_UNUSUAL_ACTIVITY_TOO_MUCH_TRAFFIC": Reason.VENDOR_CAPACITY,
    "当前分组上游负载已饱和，请稍后再试": Reason.VENDOR_CAPACITY,
    "No available channel for this model": Reason.VENDOR_CAPACITY,
    "Too Many Requests": Reason.VENDOR_CAPACITY,
    "用户余额不足": Reason.VENDOR_ACCOUNT,
    "Incorrect API key provided": Reason.VENDOR_ACCOUNT,
    "content policy violation": Reason.POLICY_OTHER,
    "提示词包含敏感内容": Reason.POLICY_OTHER,
    "something nobody has seen": Reason.VENDOR_ERROR,
    "": Reason.VENDOR_ERROR,
}


@pytest.mark.parametrize(("words", "reason"), SAID.items())
def test_the_vendors_words_have_their_reason(words: str, reason: Reason) -> None:
    assert classify(words) is reason


def test_a_public_code_is_believed_before_any_word_beside_it() -> None:
    words = "insufficient capacity, rate limit: PUBLIC_ERROR_AUDIO_FILTERED"
    assert classify(words) is Reason.POLICY_AUDIO


@given(st.text())
def test_any_text_at_all_has_a_reason_of_the_list(text: str) -> None:
    assert classify(text) in Reason


@given(st.text(), st.text())
def test_a_code_is_found_wherever_it_stands(before: str, after: str) -> None:
    assume("PUBLIC_ERROR_" not in before)
    assert classify(f"{before} PUBLIC_ERROR_MINOR {after}") is Reason.POLICY_OTHER
