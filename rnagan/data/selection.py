"""Which slides of a shard set are read, with the profile, donor and tissue of each, and in which order."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.cohort.filter import matching_rows
from rnagan.config.gan import GANConfig
from rnagan.data.index import ShardSet
from rnagan.data.sampler import Order, TileOrder, WeightedOrder
from rnagan.io.tables import first_few, need_columns, read_table


@dataclasses.dataclass(frozen=True)
class Selection:
    """`table`: one row a slide with at least slide, sample, donor, tissue. `counts` (slides,): tiles used of each."""

    table: pd.DataFrame
    counts: NDArray[np.int64]
    left_out: dict[str, list[str]]  # reason → slides or samples

    def order(
        self, seed: int, window: int, by_slide: bool = False, weights: Mapping[str, float] | None = None
    ) -> Order:
        """The order of its tiles; `weights` of tissues, or None where each tile counts alike."""
        if weights is None:
            return TileOrder(self.counts, seed, window, by_slide)
        if by_slide:
            raise ValueError("Tissue weights need tile_order mixed; for by_slide choose tissue_weights natural.")
        return WeightedOrder(self.counts, self.table["tissue"].tolist(), weights, seed, window)


def select(shards: ShardSet, cohort: pd.DataFrame, split: str, tiles_per_slide: int, where: str = "") -> Selection:
    """Slides of `split` that have tiles and a row in the cohort table; what is left out is listed by reason.

    `where` chooses among the rows by any column (rnagan/cohort/filter.py). The first `tiles_per_slide` tiles of each
    shard are used, which are a uniform draw.
    """
    tiles = shards.slides.set_index("slide")["tiles"]
    paired = cohort[cohort["slide"] != ""]
    in_split = paired[paired["split"] == split]
    chosen = matching_rows(paired, where)[in_split.index]
    rows = in_split[chosen]
    known = rows["slide"].isin(tiles.index)
    with_tiles = known & rows["slide"].map(tiles).fillna(0).gt(0)
    repeated = with_tiles & rows["slide"].duplicated()
    table = rows[with_tiles & ~repeated].sort_values("slide").reset_index(drop=True)
    if table.empty:
        meant = f" where {where}" if where else ""
        raise ValueError(
            f"No slide of split {split}{meant} has tiles in {shards.address}; is it the cohort table of these shards?"
        )
    counts = table["slide"].map(tiles).clip(upper=tiles_per_slide).to_numpy(np.int64)
    return Selection(
        table,
        counts,
        {
            "slides that the selection doesn't want": in_split.loc[~chosen, "slide"].tolist(),
            "slides in the cohort table without shards": rows.loc[~known, "slide"].tolist(),
            "slides without tiles": rows.loc[known & ~with_tiles, "slide"].tolist(),
            "samples beyond the first of a slide": rows.loc[repeated, "sample"].tolist(),
            "shards without a row in the cohort table": sorted(set(tiles.index) - set(paired["slide"])),
        },
    )


def make_order(selection: Selection, config: GANConfig) -> Order:
    """The order of a run's tiles."""
    weights = read_weights(config.tissue_weights, selection)
    return selection.order(config.seed, config.window_slides, config.tile_order == "by_slide", weights)


def read_weights(text: str, selection: Selection) -> dict[str, float] | None:
    """The weight of each tissue of a selection, or None where every tile counts alike: `natural`, or one tissue alone.

    `text`: natural; balanced: every tissue alike; `lung=2,colon=1`; or a table with columns tissue and weight. Every
    tissue must be told, with 0 for one to leave out.
    """
    tissues = sorted(selection.table["tissue"].unique())
    if text == "natural" or (text == "balanced" and len(tissues) == 1):
        return None
    if text == "balanced":
        return dict.fromkeys(tissues, 1.0)
    told = _told_weights(text)
    for these, what in ((set(tissues) - told.keys(), "no weight of"), (told.keys() - set(tissues), "a weight of")):
        if these:
            raise ValueError(
                f"tissue_weights {text!r} has {what} {first_few(sorted(these))}; the selection holds "
                f"{', '.join(tissues)}."
            )
    weights = {tissue: _number(told[tissue], tissue, text) for tissue in tissues}
    if not any(weights.values()):
        raise ValueError(f"tissue_weights {text!r} leaves no tissue.")
    return weights


def _told_weights(text: str) -> dict[str, str]:
    if "=" not in text:
        table = read_table(Path(text))
        need_columns(list(table), ("tissue", "weight"), text)
        pairs = list(zip(table["tissue"], table["weight"], strict=True))
    else:
        pairs = [(name.strip(), value.strip()) for name, _, value in (part.rpartition("=") for part in text.split(","))]
    if len(dict(pairs)) < len(pairs):
        raise ValueError(f"tissue_weights {text!r} names a tissue twice.")
    return dict(pairs)


def _number(value: str, tissue: str, text: str) -> float:
    try:
        weight = float(value)
    except ValueError:
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise ValueError(f"tissue_weights {text!r}: the weight of {tissue} must be a number from 0 up, not {value!r}.")
    return weight
