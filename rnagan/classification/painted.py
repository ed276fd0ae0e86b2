"""Tiles painted from another cohort's profiles, so many a tissue, and how far to trust those profiles."""

import warnings
from pathlib import Path
from typing import NamedTuple

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan import progress, rng
from rnagan.evaluation.external import match_tissues
from rnagan.expression.store import open_profiles
from rnagan.pretrained import RNAGAN
from rnagan.tables import need_columns, read_table


class Painted(NamedTuple):
    """Tiles (n, H, W, 3) uint8, and of each its `tissue` (ours), `profile`, and the profile's `far` and `missing`."""

    tiles: NDArray[np.uint8]
    about: pd.DataFrame


def choose_external(
    path: Path, model: RNAGAN, ours: list[str], tissue_map: Path | dict[str, str] | None, n: int, seed: int
) -> tuple[anndata.AnnData, pd.DataFrame]:
    """The profiles that `n` tiles a tissue are painted from, and `profile`, `tissue` (ours), `external` and `tiles`.

    Profiles are drawn without replacement first, one tile each; where a tissue has fewer than n, each gives as many as
    any other, or one more. Raises `ValueError` where a column is missing or no two tissues are shared.
    """
    adata = open_profiles(path)
    if "tissue" not in adata.obs:
        raise ValueError(f"{path} has no obs column tissue, so nobody knows what its tiles should show.")
    if not adata.obs_names.is_unique:
        twice = adata.obs_names[adata.obs_names.duplicated()][0]
        raise ValueError(f"{path} has the profile {twice} more than once; give each a name of its own.")
    theirs = adata.obs["tissue"].astype(str)
    if isinstance(tissue_map, Path):  # which may hold more tissues than this model and its tiles
        table = read_table(tissue_map)
        need_columns(list(table), ("external", "ours"), tissue_map)
        pairs = zip(table["external"], table["ours"], strict=True)
        tissue_map = {external: own for external, own in pairs if own in ours}
    shared = match_tissues(theirs.tolist(), ours, tissue_map)
    if len(set(shared.values())) < 2:
        known = ", ".join(sorted(set(shared.values())))
        raise ValueError(f"{path} shares one tissue with the model and its tiles ({known}); two are needed to tell.")
    parts = []
    for tissue in sorted(set(shared.values())):
        names = sorted(theirs.index[theirs.map(shared) == tissue])
        drawn = rng.generator(seed, f"external profiles/{tissue}").permutation(names)[:n]
        counts = np.full(len(drawn), n // len(drawn))
        counts[: n % len(drawn)] += 1
        parts.append(pd.DataFrame({"profile": drawn, "tissue": tissue, "tiles": counts}))
    rows = pd.concat(parts, ignore_index=True)
    rows["external"] = theirs.loc[rows["profile"]].to_numpy()
    return adata[rows["profile"].tolist()].copy(), rows


def paint_external(model: RNAGAN, adata: anndata.AnnData, rows: pd.DataFrame, seed: int) -> Painted:
    """Encode the chosen profiles and paint their tiles."""
    with warnings.catch_warnings():  # told as numbers
        warnings.simplefilter("ignore", UserWarning)
        model.encode(adata)
    tiles = []
    with progress.bar(int(rows["tiles"].sum()), "tile", "Painting") as bar:
        for latent, profile, count in zip(adata.obsm["X_rnagan"], rows["profile"], rows["tiles"], strict=True):
            tiles.append(model.paint(latent, int(count), seed, f"external/{profile}"))
            bar.update(int(count))
    told = {"far": "rnagan_far", "missing": "rnagan_missing_genes", "distance": "rnagan_distance"}
    about = rows.assign(**{name: adata.obs[column].to_numpy() for name, column in told.items()})
    return Painted(np.concatenate(tiles), about.loc[about.index.repeat(about["tiles"])].reset_index(drop=True))
