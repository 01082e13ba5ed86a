"""The eight documented models, their axes, and models that the configuration adds."""

from __future__ import annotations

from proxy.core.catalog import LANDSCAPE, PORTRAIT, Catalog, Model

NAMES = {
    "veo-3.1",
    "veo-3.1-fl",
    "veo-3.1-fast",
    "veo-3.1-fast-fl",
    "veo-3.1-landscape",
    "veo-3.1-landscape-fl",
    "veo-3.1-landscape-fast",
    "veo-3.1-landscape-fast-fl",
}


def test_there_are_eight_documented_models() -> None:
    assert {model.name for model in Catalog.documented()} == NAMES


def test_a_name_tells_the_orientation_and_whether_frames_are_taken() -> None:
    for model in Catalog.documented():
        assert model.size == (LANDSCAPE if "-landscape" in model.name else PORTRAIT)
        frames = (1, 2) if model.name.endswith("-fl") else (0, 0)
        assert (model.images_min, model.images_max) == frames
        assert model.seconds == 8


def test_names_are_found_exactly_or_not_at_all() -> None:
    catalog = Catalog.documented()
    assert catalog.find("veo-3.1-landscape-fast-fl") is not None
    for wrong in ("veo-3.1-fast-landscape", "VEO-3.1", "veo-3.1 ", "veo-3.1-fl-fast", ""):
        assert catalog.find(wrong) is None


def test_an_added_model_stands_beside_the_eight() -> None:
    wide = Model("veo-3.1-4k", "3840x2160", 8, 0, 0)
    catalog = Catalog.documented().with_models([wide])
    assert catalog.find("veo-3.1-4k") is wide
    assert {model.name for model in catalog} == NAMES | {"veo-3.1-4k"}
    assert Catalog.documented().find("veo-3.1-4k") is None


def test_an_added_model_replaces_a_documented_one_of_its_name() -> None:
    longer = Model("veo-3.1", PORTRAIT, 12, 0, 0)
    catalog = Catalog.documented().with_models([longer])
    assert catalog.find("veo-3.1") is longer
    assert len(list(catalog)) == len(NAMES)
