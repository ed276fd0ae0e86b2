"""The one interface of generators: a condition and addressed noise in, uint8 tiles out.

Generation, evaluations, FID, perturbation and mosaics know a `TileGenerator` and the card of its options; which network
is behind it, and how often it is called for a tile, they don't.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Card = Mapping[str, float | int | str]  # options by name, each with a value
SOLVERS = ("euler", "heun")
MOST_STEPS, MOST_GUIDANCE = 1000, 20.0


@dataclasses.dataclass(frozen=True)
class SamplingOptions:
    """How tiles are generated, as far as somebody says so; None: as the generator does by itself.

    truncation  0 < ψ ≤ 1, factor on all noise: below 1, more typical and less varied tiles
    guidance    w ≥ 0 of a flow: 1 is the velocity with the condition, above 1 beyond it, 0 without it
    steps       of a flow's solver
    solver      of a flow: one of SOLVERS

    Raises `ValueError` with one sentence of a value out of bounds.
    """

    truncation: float | None = None
    guidance: float | None = None
    steps: int | None = None
    solver: str | None = None

    def __post_init__(self) -> None:
        if self.truncation is not None and not 0 < self.truncation <= 1:
            raise ValueError(f"truncation must be above 0 and at most 1, not {self.truncation}.")
        if self.guidance is not None and not 0 <= self.guidance <= MOST_GUIDANCE:
            raise ValueError(f"guidance must be from 0 to {MOST_GUIDANCE:g}, not {self.guidance}.")
        if self.steps is not None and not 1 <= self.steps <= MOST_STEPS:
            raise ValueError(f"steps must be from 1 to {MOST_STEPS:,}, not {self.steps}.")
        if self.solver is not None and self.solver not in SOLVERS:
            raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, not {self.solver!r}.")

    @property
    def given(self) -> dict[str, float | int | str]:
        """The options that are said."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

    def on(self, generator: "TileGenerator") -> dict[str, float | int | str]:
        """All options of a generator, with what is said in place of its own. Raises `ValueError` where it hasn't
        one."""
        unknown = [name for name in self.given if name not in generator.card]
        if unknown:
            raise ValueError(
                f"A model of family {generator.family} has no {unknown[0]}; its options are "
                f"{', '.join(generator.card)}."
            )
        return {**generator.card, **self.given}


NO_OPTIONS = SamplingOptions()


class TileGenerator(Protocol):
    """A trained generator of one family.

    family      as the model folder names it (`rnagan.models.families`)
    resolution  side of a tile, px
    card        its options, each with what holds where nobody says another (`SamplingOptions.on`)
    together    whether a tile depends on those beside it in a batch, as the released code's do
    """

    family: ClassVar[str]

    @property
    def resolution(self) -> int: ...

    @property
    def card(self) -> Card: ...

    @property
    def together(self) -> bool: ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """In what it takes conditions."""
        ...

    def draw_noise(self, purpose: str, start: int, count: int, seed: int) -> Tensor:
        """The noise of tiles `start` … `start + count − 1` of a purpose: (count, width) float64 on the CPU, of which
        row k depends on (seed, purpose, start + k) alone."""
        ...

    def tiles(self, c: Tensor | None, noise: Tensor, options: Card) -> NDArray[np.uint8]:
        """One tile of each condition c (n, condition_width), None in the modes without profiles, with its noise (n,
        width) and all options of the card: uint8 (n, resolution, resolution, 3)."""
        ...
