"""Model names, their axes, what each accepts.

The vendor documents eight names on three axes, in the fixed order `veo-3.1[-landscape][-fast][-fl]`
(vendor page, "Model Variant Naming Rules"). More names, 4K say, come from the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

CLIPS_MAX: Final = 4
"""The most clips one chat request may ask for (vendor page, "n")."""

PORTRAIT: Final = "720x1280"
LANDSCAPE: Final = "1280x720"


@dataclass(frozen=True, slots=True)
class Model:
    """One model: `size` as WIDTHxHEIGHT in pixels, `seconds` of video, images it takes."""

    name: str
    size: str
    seconds: int
    images_min: int
    images_max: int


@dataclass(frozen=True, slots=True)
class Catalog:
    """The models that may be asked for, by exact name."""

    models: Mapping[str, Model]

    @classmethod
    def documented(cls) -> Catalog:
        """The vendor's eight models."""
        return cls(MappingProxyType({model.name: model for model in _documented()}))

    def with_models(self, extra: Iterable[Model]) -> Catalog:
        """This catalogue and `extra`; an extra model replaces a documented one of its name."""
        merged = {**self.models, **{model.name: model for model in extra}}
        return Catalog(MappingProxyType(merged))

    def find(self, name: str) -> Model | None:
        """The model of exactly this name."""
        return self.models.get(name)

    def __iter__(self) -> Iterator[Model]:
        return iter(self.models.values())


def _documented() -> Iterator[Model]:
    for landscape, fast, frames in product((False, True), repeat=3):
        name = "veo-3.1"
        name += "-landscape" if landscape else ""
        name += "-fast" if fast else ""
        name += "-fl" if frames else ""
        yield Model(
            name=name,
            size=LANDSCAPE if landscape else PORTRAIT,
            seconds=8,
            images_min=1 if frames else 0,
            images_max=2 if frames else 0,
        )
