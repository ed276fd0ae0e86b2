"""Real tiles that the explorer shows beside generated ones, of the same donor where there are some, else of the
tissue."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.api import RNAGAN
from rnagan.data.index import ShardSet, open_dataset
from rnagan.evaluation.real_tiles import read_tiles
from rnagan.evaluation.test_set import check_sizes
from rnagan.runtime import rng

Tiles = NDArray[np.uint8]


class Real(NamedTuple):
    """Real tiles (n, S, S, 3), their tissue, and whether they are of the profile's own sample."""

    tiles: Tiles
    tissue: str
    own: bool


class RealTiles:
    """The tiles of shards by the rows of a cohort table, averaged to the model's `resolution`. One thread asks."""

    def __init__(self, shards: ShardSet, cohort: pd.DataFrame, resolution: int) -> None:
        paired = cohort[cohort["slide"] != ""].reset_index(drop=True)
        self._rows = paired.assign(stored=shards.stored(paired)).query("stored > 0").reset_index(drop=True)
        if self._rows.empty:
            raise ValueError(f"No slide of the cohort table has tiles in {shards.address}; give the ones that belong.")
        self._shards, self._resolution = shards, resolution

    @property
    def are_of_spots(self) -> bool:
        """Whether each tile has a profile of its own."""
        return self._shards.profiles is not None

    def sample(self, n: int) -> Tiles:
        """Tiles of `n` rows at most, spread over the table."""
        rows = self._rows.iloc[np.unique(np.linspace(0, len(self._rows) - 1, min(n, len(self._rows))).astype(int))]
        return np.concatenate(read_tiles(self._shards, rows, 1, self._resolution))

    def of_samples(self, samples: list[str]) -> dict[str, Tiles]:
        """The first tile (S, S, 3) of each of these samples that has one."""
        rows = self._rows[self._rows["sample"].isin(samples)].drop_duplicates("sample")
        if rows.empty:
            return {}
        tiles = read_tiles(self._shards, rows, 1, self._resolution)
        return {sample: own[0] for sample, own in zip(rows["sample"], tiles, strict=True)}

    def of_profile(self, sample: str, donor: str, tissue: str, n: int) -> Real | None:
        """Up to `n` tiles of a sample, or of other donors of its tissue; None where there are none."""
        own = self._rows[self._rows["sample"] == sample]
        if len(own):
            tiles = read_tiles(self._shards, own, -(-n // len(own)), self._resolution)
            return Real(np.concatenate(tiles)[:n], str(own["tissue"].iloc[0]), True)
        persons = self._rows[[name for name in ("donor", "image_donor") if name in self._rows]]
        others = ~(persons == donor).any(axis=1) | (donor == "")
        alike = self._rows[(self._rows["tissue"] == tissue) & others].drop_duplicates("donor")
        if alike.empty:
            return None
        chosen = rng.generator(0, f"explorer/{tissue}").permutation(len(alike))[:n]
        rows = alike.iloc[np.sort(chosen)]
        each = -(-n // len(rows))
        return Real(np.concatenate(read_tiles(self._shards, rows, each, self._resolution))[:n], tissue, False)


def open_real_tiles(shards: Path | str, cohort: pd.DataFrame, model: RNAGAN) -> RealTiles:
    """The real tiles of shards by their cohort table; raises as `open_dataset` and `check_sizes`."""
    there = open_dataset(shards)
    check_sizes([model], there)
    return RealTiles(there, cohort, model.config.resolution)
