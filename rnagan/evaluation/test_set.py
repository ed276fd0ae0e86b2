"""What is evaluated: real tiles of a split's donors, and as many generated from the same slides' profiles."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.api import RNAGAN
from rnagan.cohort.leakage import check_same_splits, refuse_seen
from rnagan.cohort.table import read_cohort
from rnagan.data.index import ShardSet, open_dataset
from rnagan.data.reader import TileReader
from rnagan.data.selection import select
from rnagan.expression.h5ad import Expression, read_expression
from rnagan.io import images


def tiles_of_slides(
    shards: ShardSet, rows: pd.DataFrame, resolution: int, replace_damaged: bool = False
) -> Iterator[NDArray[np.uint8]]:
    """The first `tiles` tiles of each row's `slide` (a uniform draw of its tiles), each (tiles, resolution, resolution,
    3) uint8, averaged by area. A damaged tile raises, or a neighbour stands in (`replace_damaged`)."""
    reader = TileReader(shards, rows["slide"].tolist())
    read = reader.decode_or_replace if replace_damaged else reader.decode
    for row, count in enumerate(rows["tiles"]):
        tiles = np.empty((count, *reader.shape), np.uint8)
        for k, tile in enumerate(tiles):
            read(row, k, tile)
        yield _at(tiles, resolution)


class NumberedTiles:
    """Real tiles by number: those of the rows' slides one after another, the first `counts` (rows,) of each."""

    def __init__(self, shards: ShardSet, slides: list[str], counts: NDArray[np.int64], resolution: int) -> None:
        self._reader, self._resolution = TileReader(shards, slides), resolution
        self._ends = np.cumsum(counts)

    def places(self, numbers: range) -> list[tuple[int, int]]:
        """(row, number in its slide) of each."""
        rows = np.searchsorted(self._ends, numbers, side="right")
        starts = np.concatenate([[0], self._ends])[rows]
        return list(zip(rows.tolist(), (np.asarray(numbers) - starts).tolist(), strict=True))

    def __call__(self, numbers: range) -> NDArray[np.uint8]:
        """(n, resolution, resolution, 3) uint8, averaged by area. A damaged tile raises."""
        tiles = np.empty((len(numbers), *self._reader.shape), np.uint8)
        for tile, place in zip(tiles, self.places(numbers), strict=True):
            self._reader.decode(*place, tile)
        return _at(tiles, self._resolution)


def _at(tiles: NDArray[np.uint8], resolution: int) -> NDArray[np.uint8]:
    return tiles if tiles.shape[1] == resolution else np.stack([shrink(tile, resolution) for tile in tiles])


def shrink(image: NDArray[np.uint8], resolution: int) -> NDArray[np.uint8]:
    """A tile (S, S, 3) averaged by area to `resolution`, which divides S."""
    factor = image.shape[0] // resolution
    return image if factor == 1 else images.shrink(image, factor)


Tiles = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class TileInputs:
    """Paths; `shards` may be a URL, `expression` is None where no model takes profiles."""

    shards: Path | str
    cohort: Path
    expression: Path | None = None


class EvaluationSet:
    """The slides of a split that have tiles and, where a model takes profiles, a profile: `rows` (slide, sample, donor,
    tissue, tiles), the first `n` tiles of each. All models must generate the same size, of which real tiles are made.
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

    def generated(self, model: RNAGAN, seed: int) -> Iterator[Tiles]:
        """As many generated ones of each row, from its own profile."""
        latents = self.latents(model)
        for k, (slide, count) in enumerate(zip(self.rows["slide"], self.rows["tiles"], strict=True)):
            yield model.generate_tiles(None if latents is None else latents[k], int(count), seed, noise_name(slide))

    def latents(self, model: RNAGAN) -> NDArray[np.float32] | None:
        """The latent of each row's profile (rows, latent), or None where the model takes none."""
        if model.vae is None:
            return None
        assert self.expression is not None
        places = self.expression.obs.index.get_indexer(self.rows["sample"])
        return model.latents(self.expression.values[places], self.expression.genes, self.expression.units)


def noise_name(slide: str) -> str:
    """The name by which the noise of a slide's generated tiles is drawn."""
    return f"held-out/{slide}"


def _check_sizes(models: list[RNAGAN], shards: ShardSet) -> None:
    sizes = sorted({model.config.resolution for model in models})
    if len(sizes) > 1:
        raise ValueError(f"The models generate tiles of {' and '.join(map(str, sizes))} px; compare those of one size.")
    if shards.tile_px % sizes[0]:
        raise ValueError(f"{shards.address} holds tiles of {shards.tile_px} px, the models generate {sizes[0]} px.")


def _read_profiles(models: list[RNAGAN], inputs: TileInputs, cohort: pd.DataFrame) -> Expression | None:
    if all(model.vae is None for model in models):
        return None
    if inputs.expression is None:
        raise ValueError("A model generates from profiles; give --expression.")
    expression = read_expression(inputs.expression)
    check_same_splits(cohort, expression.obs, inputs.cohort, inputs.expression)
    return expression
