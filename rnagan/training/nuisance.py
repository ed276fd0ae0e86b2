"""The stain of each training section or slide, a second condition beside the profile, which doesn't explain it.

RNA says nothing of a section's or a centre's stain, so a model that has the profile alone must guess it from the
profile, or learn which section a profile comes from. Shown the stain, it needn't.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.data.index import ShardSet
from rnagan.data.selection import Selection
from rnagan.evaluation.real_tiles import tiles_of_slides
from rnagan.evaluation.stain import stain_of
from rnagan.io.files import write_json
from rnagan.io.provenance import KEY, asked, read_current
from rnagan.models.section_stain import FILE, STAINS, StainRecord
from rnagan.runtime import progress

TILES = 32  # of a slide that are measured, spread over its profiles where tiles have their own


def section_stains(
    shards: ShardSet, selection: Selection, resolution: int, made_from: dict[str, str], run: Path | None
) -> NDArray[np.float64]:
    """`STAINS` of the slide of each row of a selection's table, (rows, 4), from tiles of the selection alone; kept in
    the folder `run`, unless it is None. For the main process. Raises `ValueError` of a single slide."""
    names = selection.slides["slide"].tolist()
    if len(names) < 2:
        raise ValueError("nuisance section_stain needs two training slides at least, since one has one stain.")
    request = asked(made_from=made_from, slides=names, measures=STAINS, tiles=TILES, resolution=resolution)
    path = None if run is None else run / FILE
    stored = None if path is None else read_current(path, request, StainRecord)
    if stored is None:
        stored = {"measures": list(STAINS), "slides": _measured(shards, selection, resolution)}
        if path is not None:
            write_json(path, {KEY: request, **stored})
    return np.array([stored["slides"][name] for name in selection.table["slide"]])


def _measured(shards: ShardSet, selection: Selection, resolution: int) -> dict[str, list[float]]:
    rows = _rows_to_measure(selection)
    tiles = tiles_of_slides(shards, rows, resolution)
    found = {}
    with progress.bar(rows["slide"].nunique(), "slide", "Stains") as bar:
        for name, own in rows.groupby("slide", sort=False):
            found[str(name)] = stain_of(np.concatenate([next(tiles) for _ in range(len(own))])).tolist()
            bar.update(1)
    return found


def _rows_to_measure(selection: Selection) -> pd.DataFrame:
    """Rows with a column `tiles`: TILES of each slide, or one of each of TILES profiles that are spread over it."""
    if selection.stored is None:
        return selection.table.assign(tiles=selection.counts.clip(max=TILES))
    rows = selection.table.assign(tiles=1)
    spread = [
        own.iloc[np.unique(np.linspace(0, len(own) - 1, TILES).round().astype(int))]
        for _, own in rows.groupby("slide", sort=False)
    ]
    return pd.concat(spread, ignore_index=True)
