"""Real tiles with their class and donor, as many of each class, drawn evenly over donors."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.cohort.filter import matching_rows
from rnagan.cohort.leakage import everyone
from rnagan.cohort.table import read_cohort, split_by
from rnagan.config.classifier import ClassifierConfig
from rnagan.data.index import ShardSet, open_dataset
from rnagan.evaluation.real_tiles import tiles_of_slides
from rnagan.io.files import sha256_of
from rnagan.io.tables import first_few, need_columns
from rnagan.runtime import rng


class ChosenTiles(NamedTuple):
    """The tiles of `shards` that are classified: `rows` of `choose_slides`, the `cohort` rows that the config's `where`
    chooses, `people` (`everyone`) whom these slides have to do with, and the `classes`."""

    shards: ShardSet
    cohort: pd.DataFrame
    rows: pd.DataFrame
    people: list[str]
    classes: list[str]

    @property
    def digest(self) -> str:
        """Of which tiles they are."""
        return sha256_of([self.shards.digest, self.rows.to_dict("list")])


class Labelled(NamedTuple):
    """Tiles (n, H, W, 3) uint8, the number of the class of each (n,), and its donor (n,)."""

    tiles: NDArray[np.uint8]
    labels: NDArray[np.int64]
    donors: NDArray[np.str_]

    def part(self, rows: NDArray[np.intp]) -> "Labelled":
        """The tiles of these rows."""
        return Labelled(self.tiles[rows], self.labels[rows], self.donors[rows])


def donor_of_image(rows: pd.DataFrame) -> pd.Series:
    """Whose tiles the rows of a cohort table have: of the profile's donor, or of another whom it was paired with."""
    if "image_donor" not in rows:
        return rows["donor"]
    return rows["image_donor"].where(rows["image_donor"] != "", rows["donor"])


def people_of(cohort: pd.DataFrame) -> pd.DataFrame:
    """Everyone whom a profile has to do with, a table `sample`, `donor`: its own donor, and those of all images that it
    was paired with."""
    parts = [cohort[["sample", "donor"]], cohort[["sample"]].assign(donor=donor_of_image(cohort))]
    return pd.concat(parts).drop_duplicates()


def choose_tiles(shards: Path | str, cohort: Path, config: ClassifierConfig) -> ChosenTiles:
    """Open shards and cohort table and choose tiles of each class; raises as they do, and as `choose_slides`."""
    there, table = open_dataset(shards), read_cohort(cohort)
    table = table[matching_rows(table, config.where)]
    rows = choose_slides(there, table, config.label, config.per_class, config.seed)
    people = everyone(table, table["slide"].isin(rows["slide"]))
    return ChosenTiles(there, table, rows, people, sorted(rows["label"].unique()))


def choose_slides(shards: ShardSet, cohort: pd.DataFrame, label: str, per_class: int, seed: int) -> pd.DataFrame:
    """Choose `per_class` tiles of each class: a table `slide`, `donor`, `label`, `split`, `tiles` (how many to read).

    Classes are the values of the cohort table's column `label`. Every donor of a class gives equally many tiles, as
    far as it has them. A class with fewer than `per_class` tiles gives all of them. An image that was paired with
    another person's profile counts for the donor of the image (`image_donor`). Raises `ValueError` where the column is
    missing, there are fewer than two classes, or a slide belongs to two classes.
    """
    need_columns(list(cohort), (label,), "The cohort table")
    if split_by(cohort) == "block":
        raise ValueError(
            "The cohort table is split by block, and a classifier can't choose among the tiles of a slide yet: "
            "split by section or donor."
        )
    rows = cohort[(cohort["slide"] != "") & (cohort[label] != "")]
    rows = rows.assign(donor=donor_of_image(rows), label=rows[label])[["slide", "donor", "label", "split"]]
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
    parts = [_draw_evenly(of_class, per_class, seed) for _, of_class in rows.groupby("label")]
    return pd.concat(parts).drop(columns="stored").sort_values(["label", "slide"]).reset_index(drop=True)


def _draw_evenly(rows: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """Draw `count` tiles of one class: donors take turns, and the slides of a donor take turns."""
    shuffled = rng.generator(seed, "classifier tiles").permutation(len(rows))
    rows = rows.iloc[shuffled].assign(donor_turn=lambda r: pd.factorize(r["donor"])[0])
    tiles = rows.loc[rows.index.repeat(rows["stored"])]
    tiles = tiles.assign(k=tiles.groupby("slide").cumcount()).sort_values(["donor", "k"], kind="stable")
    tiles = tiles.assign(turn=tiles.groupby("donor").cumcount()).sort_values(["turn", "donor_turn"]).head(count)
    taken = tiles["slide"].value_counts()
    rows = rows.assign(tiles=rows["slide"].map(taken).fillna(0).astype(int)).drop(columns="donor_turn")
    return rows[rows["tiles"] > 0]


def read_tiles(shards: ShardSet, rows: pd.DataFrame, classes: list[str], resolution: int) -> Labelled:
    """Read the first `tiles` tiles of each slide of `rows` (from `choose_slides`), which are a uniform draw of them.

    They are averaged to `resolution`, px. Raises `ValueError` where that doesn't divide the size of the tiles.
    """
    if shards.tile_px % resolution:
        raise ValueError(
            f"{shards.address} holds tiles of {shards.tile_px} px, which don't shrink evenly to {resolution} px."
        )
    tiles = np.concatenate(list(tiles_of_slides(shards, rows, resolution)))
    labels = np.repeat([classes.index(name) for name in rows["label"]], rows["tiles"])
    return Labelled(tiles, labels.astype(np.int64), np.repeat(rows["donor"].to_numpy(str), rows["tiles"]))
