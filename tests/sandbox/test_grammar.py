"""Arguments of words: what they may be, and how a person is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sandbox import DIRECTIVES
from proxy.sandbox.grammar import Directive, Parameter

SECONDS = Parameter("seconds", float, least=0, most=10)
TIMES = Parameter("times", int, 2, least=1, most=5)
FORM = Parameter("form", str, choices=("json", "bytes"))
CODE = Parameter("code", str, "X")


@pytest.mark.parametrize(
    ("parameter", "given", "value"),
    [
        (SECONDS, "0.5", 0.5),
        (SECONDS, 3, 3.0),
        (TIMES, "5", 5),
        (TIMES, 1.0, 1),
        (FORM, "bytes", "bytes"),
        (CODE, "PUBLIC_ERROR_X", "PUBLIC_ERROR_X"),
    ],
)
def test_an_argument_is_read_from_text_and_from_json(
    parameter: Parameter, given: object, value: object
) -> None:
    assert parameter.read(given) == value


@pytest.mark.parametrize(
    ("parameter", "given", "reason"),
    [
        (SECONDS, "11", "a number from 0 to 10"),
        (SECONDS, "nan", "must be"),
        (SECONDS, float("inf"), "must be"),
        (SECONDS, None, "must be a number"),
        (TIMES, "0", "a whole number from 1 to 5"),
        (TIMES, 1.5, "a whole number from 1 to 5"),
        (TIMES, float("nan"), "must be"),
        (TIMES, float("inf"), "must be"),
        (TIMES, "1.5", "must be a number"),
        (TIMES, False, "must be a number"),
        (FORM, "xml", "one of json, bytes"),
        (CODE, "a b", "a code of letters"),
        (CODE, "", "a code of letters"),
        (CODE, "x" * 81, "a code of letters"),
        (CODE, 5, "must be a word"),
    ],
)
def test_a_wrong_argument_is_refused_with_what_is_allowed(
    parameter: Parameter, given: object, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        parameter.read(given)


@given(
    st.one_of(st.text(), st.floats(), st.integers(), st.booleans(), st.none(), st.lists(st.none()))
)
def test_whatever_is_given_is_read_or_refused(given: object) -> None:
    for parameter in (SECONDS, TIMES, FORM, CODE):
        try:
            value = parameter.read(given)
        except ValueError as wrong:
            reason = str(wrong)
        else:
            reason = parameter.name if isinstance(value, parameter.kind) else ""
        assert reason.startswith(parameter.name)


def test_usage_shows_optional_arguments_in_brackets() -> None:
    word = Directive("stall", "does", "seen", (SECONDS, TIMES))
    assert word.usage == "stall SECONDS [TIMES]"
    assert DIRECTIVES["english"].usage == "english"
