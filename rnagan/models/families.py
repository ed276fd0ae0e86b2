"""The families of generators, by the name that a model folder has in its model.json (`family`; without one, gan)."""

from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor

from rnagan.config.base import family
from rnagan.config.families import TileConfig
from rnagan.models.tile_generator import TileGenerator


class StoredGenerator(TileGenerator, Protocol):
    """A generator that a model folder keeps in `files` and, of others' formats, in `folders`."""

    files: ClassVar[tuple[str, ...]]
    folders: ClassVar[tuple[str, ...]]

    @classmethod
    def of(cls, config: Any, network: Any, condition_width: int) -> Self: ...

    @classmethod
    def load(cls, folder: Path, config: Any, condition_width: int) -> Self: ...

    @staticmethod
    def save(folder: Path, config: Any, condition_width: int, weights: dict[str, Tensor]) -> None: ...

    def to(self, device: torch.device) -> Self: ...


def family_named(name: str) -> type[StoredGenerator]:
    """The class of a family; `ValueError` where there is none of this name."""
    if name == "gan":
        from rnagan.models.gan_generator import GANGenerator

        return GANGenerator
    if name == "flow":  # which imports diffusers, seconds that nobody else should wait
        from rnagan.models.flow_generator import FlowGenerator

        return FlowGenerator
    raise ValueError(f"There is no family {name!r} of generators; it may be of a later version of rnagan.")


def family_of(config: TileConfig) -> type[StoredGenerator]:
    """The class of a config's family."""
    return family_named(family(type(config)))
