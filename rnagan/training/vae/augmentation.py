"""What another cohort might add to a profile, drawn for the encoder's input; the decoder is to rebuild the profile.

A shift of all log expression (library size), an offset of each gene, and offsets of genes together (low rank), as
pipelines and protocols make them. Draws are addressed by the number of the profile in the run.
"""

import dataclasses
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rnagan.config.vae import VAEConfig
from rnagan.expression.transform import ExpressionTransform
from rnagan.runtime import rng

_DIRECTIONS = 16


@dataclasses.dataclass(frozen=True)
class InputAugmentation:
    """Draws of a run: `library` (genes,), what a log unit more of everything adds to each score; `genes` (genes,), the
    SD of each gene's own offset; `directions` (16, genes), along which genes shift together."""

    seed: int
    library: NDArray[np.float64]
    genes: NDArray[np.float64]
    directions: NDArray[np.float64]

    @classmethod
    def of(cls, config: VAEConfig, transform: ExpressionTransform) -> Self | None:
        """Of a transform's scores; None where the config asks for none. Genes that don't vary keep their 0."""
        if not config.augments:
            return None
        spread = np.where(transform.constant, 0.0, transform.spread)
        shifts = rng.normal(config.seed, "vae augmentation directions", 0, _DIRECTIONS, len(spread))
        return cls(
            config.seed,
            np.where(transform.constant, 0.0, config.augment_library / transform.sd),
            config.augment_genes * spread,
            config.augment_shift * spread * shifts / np.sqrt(_DIRECTIONS),
        )

    def offsets(self, number: int, count: int) -> NDArray[np.float64]:
        """What is added to the scores of the profiles from `number` of the run on, (count, genes)."""
        found = rng.normal(self.seed, "vae augmented library", number, count, 1) * self.library
        if self.genes.any():
            found = found + rng.normal(self.seed, "vae augmented genes", number, count, len(self.genes)) * self.genes
        if self.directions.any():
            along = rng.normal(self.seed, "vae augmented shift", number, count, _DIRECTIONS)
            for k, direction in enumerate(self.directions):  # a matrix product rounds by the size of the batch
                found = found + along[:, k : k + 1] * direction
        return found
