"""Measurements of tiles, real or generated: morphology, tissue, and the condition that a network reads from them.

Tiles are measured sample by sample and dropped, so memory doesn't grow with donors.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from rnagan.data.index import ShardSet
from rnagan.evaluation.morphology import MEASURES, measure
from rnagan.evaluation.real_tiles import at_resolution, read_tiles, real_tiles
from rnagan.evaluation.tile_networks import (
    ConditionRegressor,
    TissueClassifier,
    train_condition_regressor,
    train_tissue_classifier,
)
from rnagan.runtime import progress
from rnagan.runtime.devices import AUTO

CLASSIFIER_TILES = 2000  # real training tiles a tissue at most
READER_TILES = 40_000  # real training tiles at most, of 64 px; fewer where they are larger
READER_PX = 128  # larger tiles are averaged to this
KEPT_TILES = 8  # of a sample, to be shown


@dataclasses.dataclass(frozen=True)
class TileMeasurements:
    """Index sample everywhere. `measures` and those of the two `halves` of a sample's tiles (empty where µm per px
    isn't known); `right`: share of tiles whose tissue is called right; `read`: one column a unit of the condition,
    None without a regressor; `shown`: tiles that were asked to be kept."""

    measures: pd.DataFrame
    halves: tuple[pd.DataFrame, pd.DataFrame]
    right: pd.Series
    read: pd.DataFrame | None
    shown: dict[str, NDArray[np.uint8]]

    def called_right(self, tissue_of: pd.Series) -> dict[str, float]:
        """Mean share of tiles called right, by tissue; a sample counts as one."""
        return {str(name): float(own.mean()) for name, own in self.right.groupby(tissue_of.reindex(self.right.index))}


@dataclasses.dataclass(frozen=True)
class TileMeasurer:
    """Measures tiles of `mpp` µm per px (None: unknown). `regressor`: reads the condition (None: it isn't read)."""

    classifier: TissueClassifier
    regressor: ConditionRegressor | None
    mpp: float | None

    def measure(
        self,
        tiles: Iterable[tuple[str, NDArray[np.uint8]]],
        tissue_of: pd.Series,
        keep: Iterable[str] = (),
    ) -> TileMeasurements:
        """Measure the tiles (n, H, W, 3) uint8 of each sample; `tissue_of`: its tissue, by sample.

        The first KEPT_TILES tiles of the samples in `keep` are kept.
        """
        kept, samples, right, read, shown = set(keep), [], [], [], {}
        measures: list[list[dict[str, float]]] = [[], [], []]
        for sample, own in tiles:
            samples.append(sample)
            right.append(np.mean(np.array(self.classifier.predict(own)) == tissue_of[sample]))
            if self.regressor is not None:
                read.append(self.regressor.read(_for_reader(own)))
            if self.mpp is not None:
                each = measure(own, self.mpp)
                for rows, part in zip(measures, (slice(None), slice(0, None, 2), slice(1, None, 2)), strict=True):
                    rows.append({name: _mean(values[part]) for name, values in each.items()})
            if sample in kept:
                shown[sample] = own[:KEPT_TILES].copy()
        index = pd.Index(samples, name="sample", dtype=object)
        whole, even, odd = (_table(rows, index) for rows in measures)
        readings = None if self.regressor is None else pd.DataFrame(np.array(read).reshape(len(index), -1), index)
        return TileMeasurements(whole, (even, odd), pd.Series(right, index, dtype=float), readings, shown)


def measure_samples(tiles: Iterable[tuple[str, NDArray[np.uint8]]], mpp: float) -> pd.DataFrame:
    """The measures of each sample's tiles (n, H, W, 3) uint8, their mean, by sample."""
    samples, rows = [], []
    for sample, own in tiles:
        samples.append(sample)
        rows.append({name: _mean(values) for name, values in measure(own, mpp).items()})
    return _table(rows, pd.Index(samples, name="sample", dtype=object))


def train_classifier(
    shards: ShardSet, train: pd.DataFrame, resolution: int, seed: int, device: str | torch.device = AUTO
) -> TissueClassifier:
    """A tissue classifier of real training tiles; `train`: rows of the cohort table with slide and tissue."""
    per_slide = max(1, CLASSIFIER_TILES * train["tissue"].nunique() // len(train))
    own = read_tiles(shards, train, per_slide, resolution)
    right = [tissue for tiles, tissue in zip(own, train["tissue"], strict=True) for _ in tiles]
    return train_tissue_classifier(np.concatenate(own), right, seed=seed, device=device)


def train_regressor(
    shards: ShardSet,
    train: pd.DataFrame,
    validation: pd.DataFrame,
    targets: pd.DataFrame,
    resolution: int,
    seed: int,
    device: str | torch.device = AUTO,
) -> ConditionRegressor:
    """A regressor of real training tiles, stopped on validation donors.

    `train`, `validation`: rows of the cohort table with slide and sample; `targets`: by sample, one column a unit.
    """
    side = min(resolution, READER_PX)
    per_slide = max(1, READER_TILES * 64**2 // side**2 // (len(train) + len(validation)))
    progress.say(f"A small network learns to read the profile from real tiles of {len(train):,} training slides.")

    def tiles_and_targets(rows: pd.DataFrame) -> tuple[list[NDArray[np.uint8]], NDArray[np.float32]]:
        samples, tiles = [], []
        for sample, own in real_tiles(shards, rows, per_slide, resolution):
            samples.append(sample)
            tiles.append(_for_reader(own))
        return tiles, targets.loc[samples].to_numpy(np.float32)

    own = (*tiles_and_targets(train), *tiles_and_targets(validation))
    return train_condition_regressor(*own, seed=seed, device=device)


def _for_reader(tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return at_resolution(tiles, min(tiles.shape[1], READER_PX))


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _table(rows: list[dict[str, float]], index: pd.Index) -> pd.DataFrame:
    return pd.DataFrame(rows, index=index if rows else index[:0], columns=list(MEASURES), dtype=float)
