"""A model's own name is taken at its word; an alias is met as near as can be."""

from __future__ import annotations

import pytest

from proxy.core.catalog import Catalog, Model
from proxy.core.request import Malformed
from proxy.core.variants import as_sold, as_translated

CATALOG = Catalog.documented().with_models(
    [
        Model("veo-3.1-4k", "2160x3840", 8, 0, 0),
        Model("veo-3.1-landscape-4k", "3840x2160", 8, 0, 0),
        Model("square", "1024x1024", 6, 0, 0),
    ]
)


def model(name: str) -> Model:
    found = CATALOG.find(name)
    assert found is not None
    return found


@pytest.mark.parametrize("seconds", [None, "8", 8], ids=repr)
@pytest.mark.parametrize("size", [None, "720x1280"])
def test_what_the_model_makes_may_be_said_or_left_out(seconds: object, size: object) -> None:
    assert as_sold(model("veo-3.1"), seconds, size, CATALOG) == model("veo-3.1")


@pytest.mark.parametrize(
    "seconds",
    ["4", 4, "12", 12, "8.0", 8.0, "08", " 8", "", True, [], {}, "8" * 5_000, 10**400],
    ids=repr,
)
def test_no_other_length_is_sold(seconds: object) -> None:
    problem = as_sold(model("veo-3.1"), seconds, None, CATALOG)
    assert isinstance(problem, Malformed)
    assert (problem.code, problem.param) == ("invalid_request", "seconds")
    assert "8 seconds" in problem.message


@pytest.mark.parametrize(
    ("name", "size", "hint"),
    [
        ("veo-3.1", "1280x720", "veo-3.1-landscape;"),
        ("veo-3.1-fast-fl", "1280x720", "veo-3.1-landscape-fast-fl"),
        ("veo-3.1-landscape-fast", "720x1280", "ask for veo-3.1-fast."),
        ("veo-3.1-4k", "3840x2160", "ask for veo-3.1-landscape-4k."),
        ("veo-3.1", "1024x1792", "leave size out"),
        ("veo-3.1", "1792x1024", "leave size out"),
        ("veo-3.1", "720X1280", "leave size out"),
        ("square", "720x1280", "leave size out"),
        ("veo-3.1", 7, "leave size out"),
        ("veo-3.1", "", "leave size out"),
    ],
)
def test_another_size_is_refused_with_the_model_that_makes_it(
    name: str, size: object, hint: str
) -> None:
    problem = as_sold(model(name), None, size, CATALOG)
    assert isinstance(problem, Malformed)
    assert (problem.code, problem.param) == ("invalid_request", "size")
    assert hint.rstrip(";") in problem.message


@pytest.mark.parametrize("seconds", [None, "4", "8", "12", 4, 25, "60"], ids=repr)
def test_an_alias_takes_any_seconds(seconds: object) -> None:
    assert as_translated(model("veo-3.1"), seconds, None, CATALOG, framed=False) == model("veo-3.1")


@pytest.mark.parametrize(
    "seconds", ["", "0", "four", "-4", "4.5", 4.5, True, "100", [], 10**400], ids=repr
)
def test_an_alias_takes_no_nonsense_for_seconds(seconds: object) -> None:
    problem = as_translated(model("veo-3.1"), seconds, None, CATALOG, framed=False)
    assert isinstance(problem, Malformed)
    assert problem.param == "seconds"


@pytest.mark.parametrize(
    ("name", "size", "bought"),
    [
        ("veo-3.1-fast", None, "veo-3.1-fast"),
        ("veo-3.1-fast", "720x1280", "veo-3.1-fast"),
        ("veo-3.1-fast", "1024x1792", "veo-3.1-fast"),
        ("veo-3.1-fast", "1280x720", "veo-3.1-landscape-fast"),
        ("veo-3.1-fast", "1792x1024", "veo-3.1-landscape-fast"),
        ("veo-3.1-landscape", "720x1280", "veo-3.1"),
        ("veo-3.1-landscape-fl", "1280x720", "veo-3.1-landscape-fl"),
        ("veo-3.1-4k", "1280x720", "veo-3.1-landscape-4k"),
        ("veo-3.1-fast", "1024x1024", "veo-3.1-fast"),
    ],
)
def test_under_an_alias_the_size_picks_the_orientation(
    name: str, size: object, bought: str
) -> None:
    framed = model(bought).images_max > 0
    assert as_translated(model(name), "4", size, CATALOG, framed=framed) == model(bought)


@pytest.mark.parametrize("size", ["", "720", "720x", "x", "axb", "720x1280 ", "0x1", 7, "1" * 99])
def test_an_alias_takes_no_nonsense_for_a_size(size: object) -> None:
    problem = as_translated(model("veo-3.1"), None, size, CATALOG, framed=False)
    assert isinstance(problem, Malformed)
    assert problem.param == "size"


def test_an_orientation_that_is_not_sold_is_refused() -> None:
    problem = as_translated(model("square"), None, "1280x720", CATALOG, framed=False)
    assert isinstance(problem, Malformed)
    assert "square" in problem.message


def test_under_an_alias_an_image_picks_the_variant_that_starts_from_one() -> None:
    fast = model("veo-3.1-fast")
    framed = as_translated(fast, None, "1280x720", CATALOG, framed=True)
    assert framed == model("veo-3.1-landscape-fast-fl")
    already = as_translated(model("veo-3.1-fl"), None, None, CATALOG, framed=True)
    assert already == model("veo-3.1-fl")
    without = as_translated(model("veo-3.1-4k"), None, None, CATALOG, framed=True)
    assert without == model("veo-3.1-4k")
