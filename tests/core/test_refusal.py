from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.refusal import Kind, Refusal, read_refusal

JSON = "application/json"


def read(status: int, value: object) -> Refusal:
    return read_refusal(status, JSON, orjson.dumps(value))


def error(message: str = "", **fields: object) -> dict[str, object]:
    return {"error": {"message": message, **fields}}


QUOTA = "user [25359] quota [50264897] preConsumedQuota [154753475] is not enough"


@pytest.mark.parametrize(
    ("status", "value", "expected"),
    [
        # The vendor's and its family's envelopes (wire facts, 6.1).
        (
            403,
            error(QUOTA, type="shell_api_error", param="", code="insufficient_user_quota"),
            Refusal(Kind.BALANCE, QUOTA, "insufficient_user_quota", recognised=True),
        ),
        (
            502,
            error(type="shell_api_error", param="502", code="bad_response_status_code"),
            Refusal(Kind.SERVER, "", "bad_response_status_code", recognised=True),
        ),
        (
            401,
            error("无效的令牌 (request id: 2024)", type="shell_api_error"),
            Refusal(Kind.AUTH, "无效的令牌 (request id: 2024)", "", recognised=True),
        ),
        (
            400,
            error("Missing required parameter: prompt", code="invalid_request"),
            Refusal(
                Kind.BAD_REQUEST,
                "Missing required parameter: prompt",
                "invalid_request",
                recognised=True,
            ),
        ),
        (
            401,
            error("Invalid API key provided", code="invalid_api_key", type="authentication_error"),
            Refusal(Kind.AUTH, "Invalid API key provided", "invalid_api_key", recognised=True),
        ),
        (
            500,
            {"code": "fail_to_fetch_task", "message": '{"error":{"message":"boom"}}', "data": None},
            Refusal(Kind.SERVER, "boom", "fail_to_fetch_task", recognised=True),
        ),
        (
            502,
            error("no luck", type="server_error", code="generation_failed", status_code=502),
            Refusal(Kind.SERVER, "no luck", "generation_failed", recognised=True),
        ),
        (500, {"detail": "it broke"}, Refusal(Kind.SERVER, "it broke", "", recognised=True)),
        (
            422,
            {"detail": [{"loc": ["n"], "msg": "too big"}, {"msg": "too odd"}]},
            Refusal(Kind.BAD_REQUEST, "too big; too odd", "", recognised=True),
        ),
        (500, {"error": "it broke"}, Refusal(Kind.SERVER, "it broke", "", recognised=True)),
        # Codes that are numbers, or nothing of use.
        (500, error("x", code=500), Refusal(Kind.SERVER, "x", "500", recognised=True)),
        (500, error("x", code=True), Refusal(Kind.SERVER, "x", "", recognised=True)),
        (500, error("x", code=[1]), Refusal(Kind.SERVER, "x", "", recognised=True)),
        (500, error("", type="t"), Refusal(Kind.SERVER, "", "", recognised=True)),
        # Envelopes with nothing in them, and bodies that are none.
        (500, error(), Refusal(Kind.SERVER, "{}", "", recognised=False)),
        (500, {"error": ""}, Refusal(Kind.SERVER, "{}", "", recognised=False)),
        (500, {"error": {}}, Refusal(Kind.SERVER, "{}", "", recognised=False)),
        (500, {"error": None}, Refusal(Kind.SERVER, "{}", "", recognised=False)),
        (500, {}, Refusal(Kind.SERVER, "{}", "", recognised=False)),
        (500, [], Refusal(Kind.SERVER, "{}", "", recognised=False)),
        (
            504,
            {"message": "Endpoint request timed out"},
            Refusal(Kind.SERVER, "Endpoint request timed out", "", recognised=False),
        ),
    ],
)
def test_each_envelope_is_read(status: int, value: object, expected: Refusal) -> None:
    if expected.message == "{}":  # stands for: the body as it is
        expected = Refusal(expected.kind, orjson.dumps(value).decode(), "", recognised=False)
    assert read(status, value) == expected


@pytest.mark.parametrize(
    ("status", "message", "code", "kind"),
    [
        # Balance, under whatever status.
        (403, QUOTA, "", Kind.BALANCE),
        (429, "Insufficient user quota", "", Kind.BALANCE),
        (429, "", "quota_exceeded", Kind.BALANCE),
        (402, "Pay up", "", Kind.BALANCE),
        (402, "", "insufficient_credits", Kind.BALANCE),
        (403, "用户余额不足", "", Kind.BALANCE),
        (403, "预扣费额度失败, 用户剩余额度: $0.1", "", Kind.BALANCE),
        (500, "", "pre_consume_token_quota_failed", Kind.BALANCE),
        (429, "You exceeded your current quota", "insufficient_quota", Kind.BALANCE),
        # Our key, and what it may do.
        (401, "Incorrect API key provided", "", Kind.AUTH),
        (401, "", "", Kind.AUTH),
        (403, "该令牌已过期", "", Kind.AUTH),
        (403, "该令牌无权使用模型：veo-3.1", "", Kind.GROUP),
        (403, "当前分组不支持此模型", "", Kind.GROUP),
        (403, "token has no access to model veo-3.1", "", Kind.GROUP),
        (403, "Forbidden", "", Kind.GROUP),
        # No channel, in both languages.
        (503, "当前分组 default 下对于模型 veo-3.1 无可用渠道", "", Kind.NO_CHANNEL),
        (503, "no available channels for model veo-3.1", "model_not_found", Kind.NO_CHANNEL),
        # Policy, where `PUBLIC_ERROR_` is not always policy.
        (403, "", "content_policy_violation", Kind.POLICY),
        (400, "Your request was rejected by our safety system", "", Kind.POLICY),
        (403, "内容违规", "", Kind.POLICY),
        (400, "PUBLIC_ERROR_UNSAFE_GENERATION", "", Kind.POLICY),
        (500, "PUBLIC_ERROR_AUDIO_FILTERED", "", Kind.POLICY),
        (500, "", "PUBLIC_ERROR_PROMINENT_PEOPLE_FILTER_FAILED", Kind.POLICY),
        (403, "PUBLIC_ERROR_MODEL_ACCESS_DENIED", "", Kind.SERVER),
        (500, "PUBLIC_ERROR_UNUSUAL_ACTIVITY_TOO_MUCH_TRAFFIC", "", Kind.SERVER),
        # Rate.
        (429, "", "", Kind.RATE),
        (429, "当前分组上游负载已饱和，请稍后再试", "", Kind.RATE),
        (503, "Rate limit reached", "", Kind.RATE),
        # The request.
        (400, "", "", Kind.BAD_REQUEST),
        (404, "Invalid URL (POST /v1/v1/videos)", "", Kind.BAD_REQUEST),
        (400, "", "image_too_large", Kind.BAD_REQUEST),
        (413, "", "", Kind.BAD_REQUEST),
        # The server, and the rest.
        (500, "upstream error", "", Kind.SERVER),
        (504, "Upstream model timed out", "", Kind.SERVER),
        (418, "short and stout", "", Kind.OTHER),
    ],
)
def test_codes_go_before_words_and_words_before_the_status(
    status: int, message: str, code: str, kind: Kind
) -> None:
    assert read(status, error(message, code=code)).kind is kind


def test_an_invalid_request_error_of_openai_keeps_the_meaning_of_its_status() -> None:
    for status, kind in ((400, Kind.BAD_REQUEST), (401, Kind.AUTH), (500, Kind.SERVER)):
        assert read(status, error("x", type="invalid_request_error")).kind is kind


@pytest.mark.parametrize(
    "prompt",
    [
        "insufficient user quota",
        "额度",
        "Invalid API key",
        "无效的令牌",
        "no available channels",
        "too many requests",
    ],
)
def test_an_echoed_prompt_cannot_pass_for_trouble_of_ours(prompt: str) -> None:
    """Or a caller could have the operator paged, and the key taken for empty."""
    message = f"prompt not accepted: {prompt}"
    assert read(400, error(message, code="parse_request_failed")).kind is Kind.BAD_REQUEST
    assert read(400, error(message)).kind is Kind.BAD_REQUEST


@pytest.mark.parametrize(
    ("code", "kind"), [(429, Kind.RATE), ("500", Kind.SERVER), (400, Kind.BAD_REQUEST)]
)
def test_a_200_with_an_error_in_it_is_read_by_the_status_its_code_names(
    code: object, kind: Kind
) -> None:
    assert read(200, error("x", code=code)).kind is kind


def test_messages_within_messages_are_unwrapped_three_deep() -> None:
    value: object = error("the heart", code="deep")
    for level in range(1, 6):
        value = {"code": f"level_{level}", "message": orjson.dumps(value).decode()}
        refusal = read(500, value)
        if level <= 3:
            assert (refusal.message, refusal.code) == ("the heart", "deep")
        else:
            assert "the heart" in refusal.message
            assert refusal.message.startswith("{")
        assert refusal.recognised


def test_a_message_that_is_a_quoted_text_is_unquoted() -> None:
    assert read(500, error('"plain"')).message == "plain"


def test_a_message_that_only_looks_like_json_is_left_alone() -> None:
    for message in ("{not json", '{"unknown": 1}', '"open', "{}"):
        assert read(500, error(message)).message == message


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("text/html", b"<html><head><title>504 Gateway Time-out</title>", "504 Gateway Time-out"),
        ("", b"<!DOCTYPE html><TITLE lang=x> cf </TITLE>", "cf"),
        ("text/html", b"<html><body>secret</body></html>", ""),
        ("text/plain", b"upstream connect error\n", "upstream connect error"),
        ("", b"", ""),
        ("", b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_pages_and_plain_words_are_not_recognised(
    content_type: str, body: bytes, message: str
) -> None:
    refusal = read_refusal(502, content_type, body)
    assert refusal == Refusal(Kind.SERVER, message, "", recognised=False)


def test_a_byte_order_mark_does_not_hide_an_envelope() -> None:
    assert read_refusal(500, JSON, b"\xef\xbb\xbf" + b'{"error":"x"}').recognised


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"error":' * 50_000,
        b'{"error":{"message":' + b"[" * 600 + b"]" * 600 + b"}}",
        b'{"error":{"message":"' + b"\\u0000" * 1000 + b'"}}',
        b'{"error":{"code":' + b"9" * 5000 + b"}}",
        b'{"detail":' + b"[" * 600 + b"]" * 600 + b"}",
    ],
    ids=["lists", "objects", "deep message", "nuls", "a huge number", "deep detail"],
)
def test_hostile_bodies_are_read_too(body: bytes) -> None:
    refusal = read_refusal(500, JSON, body)
    assert refusal.kind is Kind.SERVER
    assert len(refusal.message) <= 2000


def test_long_texts_are_cut() -> None:
    refusal = read(500, error("m" * 10_000, code="c" * 10_000))
    assert (len(refusal.message), len(refusal.code)) == (2000, 100)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "code", "type", "detail", "data", "status_code"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200)
@given(st.integers(200, 599), st.text(max_size=20), st.binary(max_size=200))
def test_any_bytes_are_read(status: int, content_type: str, body: bytes) -> None:
    assert isinstance(read_refusal(status, content_type, body).kind, Kind)


@settings(max_examples=200)
@given(st.integers(200, 599), VALUES)
def test_any_json_is_read_and_only_something_said_is_recognised(status: int, value: object) -> None:
    refusal = read(status, value)
    if refusal.recognised:
        assert isinstance(value, dict)
        assert value.get("error") or value.get("detail") or value.get("message") or "code" in value
        assert refusal.message or refusal.code or "type" in orjson.dumps(value).decode()
