"""Real tiles of a split's donors, slide by slide, and as many painted from the same slides' profiles."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.cohort.donors import refuse_seen
from rnagan.cohort.table import read_cohort
from rnagan.data.index import ShardSet, open_dataset
from rnagan.data.selection import select
from rnagan.evaluation.real_tiles import tiles_of_slides
from rnagan.expression.store import Expression, check_same_splits, read_expression
from rnagan.pretrained import RNAGAN

Tiles = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class TileInputs:
    """Paths; `shards` may be a URL, `expression` is None where no model takes profiles."""

    shards: Path | str
    cohort: Path
    expression: Path | None = None


class HeldOut:
    """The slides of a split that have tiles and, where a model takes profiles, a profile: `rows` (slide, sample, donor,
    tissue, tiles), the first `n` tiles of each. All models must paint the same size, of which real tiles are made.
    """

    def __init__(self, models: list[RNAGAN], inputs: TileInputs, split: str, n: int) -> None:
        self.shards, cohort = open_dataset(inputs.shards), read_cohort(inputs.cohort)
        self.resolution = models[0].config.resolution
        _check_sizes(models, self.shards)
        self.expression = _read_profiles(models, inputs, cohort)
        selection = select(self.shards, cohort, split, n)
        rows = selection.table[["slide", "sample", "donor", "tissue"]].assign(tiles=selection.counts)
        keep = rows["tissue"].isin(set.intersection(*(set(model.tissues) for model in models)))
        if self.expression is not None:
            keep &= rows["sample"].isin(self.expression.obs.index)
        self.rows = rows[keep].reset_index(drop=True)
        if self.rows.empty:
            raise ValueError(f"No slide of split {split} has tiles of a tissue that the models know, and a profile.")
        if split != "train" and (self.expression is None or self.expression.split_by == "donor"):
            for model in models:
                instead = "the cohort table that it was trained with"
                refuse_seen(self.rows["donor"], model.train_donors, split, "a model", instead)

    def real(self) -> Iterator[Tiles]:
        """Real tiles (tiles, H, W, 3) of each row."""
        return tiles_of_slides(self.shards, self.rows, self.resolution)

    def painted(self, model: RNAGAN, seed: int) -> Iterator[Tiles]:
        """As many painted ones of each row, from its own profile."""
        latents = self.latents(model)
        for k, (slide, count) in enumerate(zip(self.rows["slide"], self.rows["tiles"], strict=True)):
            yield model.paint(None if latents is None else latents[k], int(count), seed, painted_as(slide))

    def latents(self, model: RNAGAN) -> NDArray[np.float32] | None:
        """The latent of each row's profile (rows, latent), or None where the model takes none."""
        if model.vae is None:
            return None
        assert self.expression is not None
        places = self.expression.obs.index.get_indexer(self.rows["sample"])
        return model.latents(self.expression.values[places], self.expression.genes, self.expression.units)


def painted_as(slide: str) -> str:
    """The name by which the noise of a slide's painted tiles is drawn."""
    return f"held-out/{slide}"


def _check_sizes(models: list[RNAGAN], shards: ShardSet) -> None:
    sizes = sorted({model.config.resolution for model in models})
    if len(sizes) > 1:
        raise ValueError(f"The models paint tiles of {' and '.join(map(str, sizes))} px; compare those of one size.")
    if shards.tile_px % sizes[0]:
        raise ValueError(f"{shards.address} holds tiles of {shards.tile_px} px, the models paint {sizes[0]} px.")


def _read_profiles(models: list[RNAGAN], inputs: TileInputs, cohort: pd.DataFrame) -> Expression | None:
    if all(model.vae is None for model in models):
        return None
    if inputs.expression is None:
        raise ValueError("A model paints from profiles; give --expression.")
    expression = read_expression(inputs.expression)
    check_same_splits(cohort, expression, inputs.cohort, inputs.expression)
    return expression
