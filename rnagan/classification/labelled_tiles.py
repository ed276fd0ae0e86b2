"""Real tiles of each class, evenly over donors, with who they are of."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.data.index import ShardSet
from rnagan.evaluation.test_set import tiles_of_slides
from rnagan.io.tables import first_few, need_columns
from rnagan.runtime import rng


class Labelled(NamedTuple):
    """Tiles (n, H, W, 3) uint8, the number of each one's class (n,), and its donor (n,)."""

    tiles: NDArray[np.uint8]
    labels: NDArray[np.int64]
    donors: NDArray[np.str_]

    def part(self, rows: NDArray[np.intp]) -> "Labelled":
        return Labelled(self.tiles[rows], self.labels[rows], self.donors[rows])


def choose_slides(shards: ShardSet, cohort: pd.DataFrame, label: str, per_class: int, seed: int) -> pd.DataFrame:
    """How many tiles of which slide make `per_class` tiles of each class: `slide`, `donor`, `label`, `split`, `tiles`.

    Of a class every donor gives as many as any other, as far as it has them; the first tiles of a shard are a uniform
    draw. Images that only lie beside a profile (`image_donor`) count as their own donor's. A class with fewer tiles
    gives all it has. Raises `ValueError` for a column that isn't there, fewer than two classes, or a slide of two.
    """
    need_columns(list(cohort), (label,), "The cohort table")
    rows = cohort[(cohort["slide"] != "") & (cohort[label] != "")]
    donor = rows["donor"]
    if "image_donor" in rows:
        donor = rows["image_donor"].where(rows["image_donor"] != "", donor)
    rows = pd.DataFrame({"slide": rows["slide"], "donor": donor, "label": rows[label], "split": rows["split"]})
    rows = rows.drop_duplicates()
    if rows["slide"].duplicated().any():
        twice = rows.loc[rows["slide"].duplicated(), "slide"].iloc[0]
        raise ValueError(f"Slide {twice} has two values of {label} in the cohort table; give it one.")
    stored = rows["slide"].map(shards.slides.set_index("slide")["tiles"]).fillna(0).astype(int)
    rows = rows.assign(stored=stored.clip(upper=per_class))
    rows = rows[rows["stored"] > 0].sort_values("slide").reset_index(drop=True)
    if rows["label"].nunique() < 2:
        found = first_few(sorted(rows["label"].unique())) or "none"
        raise ValueError(f"{shards.address} has tiles of too few classes of column {label} ({found}); two are needed.")
    parts = [_evenly(of_class, per_class, seed) for _, of_class in rows.groupby("label")]
    return pd.concat(parts).drop(columns="stored").sort_values(["label", "slide"]).reset_index(drop=True)


def _evenly(rows: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """`count` tiles of one class: donors take turns, and of a donor its slides do."""
    shuffled = rng.generator(seed, "classifier tiles").permutation(len(rows))
    rows = rows.iloc[shuffled].assign(donor_turn=lambda r: pd.factorize(r["donor"])[0])
    tiles = rows.loc[rows.index.repeat(rows["stored"])]
    tiles = tiles.assign(k=tiles.groupby("slide").cumcount()).sort_values(["donor", "k"], kind="stable")
    tiles = tiles.assign(turn=tiles.groupby("donor").cumcount()).sort_values(["turn", "donor_turn"]).head(count)
    taken = tiles["slide"].value_counts()
    rows = rows.assign(tiles=rows["slide"].map(taken).fillna(0).astype(int)).drop(columns="donor_turn")
    return rows[rows["tiles"] > 0]


def read_tiles(shards: ShardSet, rows: pd.DataFrame, classes: list[str], resolution: int) -> Labelled:
    """The tiles of `rows` (of `choose_slides`) at `resolution`, which must divide that of the shards."""
    if shards.tile_px % resolution:
        raise ValueError(
            f"{shards.address} holds tiles of {shards.tile_px} px, which don't shrink evenly to {resolution} px."
        )
    tiles = np.concatenate(list(tiles_of_slides(shards, rows, resolution)))
    labels = np.repeat([classes.index(name) for name in rows["label"]], rows["tiles"])
    return Labelled(tiles, labels.astype(np.int64), np.repeat(rows["donor"].to_numpy(str), rows["tiles"]))
