"""Which slides of a shard set are read, and the profile, donor and tissue of each."""

import dataclasses

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.data.index import ShardSet


@dataclasses.dataclass(frozen=True)
class Selection:
    """`table`: one row a slide with at least slide, sample, donor, tissue. `counts` (slides,): tiles used of each."""

    table: pd.DataFrame
    counts: NDArray[np.int64]
    left_out: dict[str, list[str]]  # reason → slides or samples


def select(shards: ShardSet, cohort: pd.DataFrame, split: str, tiles_per_slide: int) -> Selection:
    """Slides of `split` that have tiles and a row in the cohort table; what is left out is listed by reason."""
    tiles = shards.slides.set_index("slide")["tiles"]
    paired = cohort[cohort["slide"] != ""]
    rows = paired[paired["split"] == split]
    known = rows["slide"].isin(tiles.index)
    with_tiles = known & rows["slide"].map(tiles).fillna(0).gt(0)
    repeated = with_tiles & rows["slide"].duplicated()
    table = rows[with_tiles & ~repeated].sort_values("slide").reset_index(drop=True)
    if table.empty:
        raise ValueError(
            f"No slide of split {split} has tiles in {shards.folder}; is it the cohort table of these shards?"
        )
    counts = table["slide"].map(tiles).clip(upper=tiles_per_slide).to_numpy(np.int64)
    return Selection(
        table,
        counts,
        {
            "slides in the cohort table without shards": rows.loc[~known, "slide"].tolist(),
            "slides without tiles": rows.loc[known & ~with_tiles, "slide"].tolist(),
            "samples beyond the first of a slide": rows.loc[repeated, "sample"].tolist(),
            "shards without a row in the cohort table": sorted(set(tiles.index) - set(paired["slide"])),
        },
    )
