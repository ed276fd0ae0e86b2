"""Which slides or profiles of the validation donors a run is compared with, and what can't be measured on them."""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.config.families import TileConfig
from rnagan.data.index import ShardSet
from rnagan.data.selection import Selection, read_weights, select
from rnagan.evaluation.stats import FEWEST_DONORS
from rnagan.io.tables import first_few
from rnagan.runtime import rng

SLIDE_TILES = 8  # of a slide at least, where it has them: a donor's mean of fewer is mostly noise


def choose_rows(
    config: TileConfig, shards: ShardSet, cohort: pd.DataFrame, train: Selection, known: Iterable[str] | None
) -> pd.DataFrame:
    """The slides of validation donors to compare with, or slides and profiles where tiles have profiles of their own:
    slide, sample, donor, tissue, tiles (about validation_tiles in all).

    `known`: samples with a profile, None in the modes without. With profiles every tissue has an equal share, so that
    each can be evaluated; without, the share that it has in training, since the generated tiles come mixed as trained.
    Of a tissue as many donors as give SLIDE_TILES each, one slide each before any has two. Empty where there are none.
    """
    shares = _shares(config, train)
    if known is not None:
        shares = {tissue: float(share > 0) for tissue, share in shares.items()}
    table, counts = candidates(config, shards, cohort)
    keep = table["tissue"].isin([tissue for tissue, share in shares.items() if share]).to_numpy()
    if known is not None:
        keep &= table["sample"].isin(set(known)).to_numpy()
    table = table.assign(tiles=counts)[keep]
    draw = rng.generator(config.seed, "validation/rows")
    table = table.iloc[draw.permutation(len(table))]
    table = table.iloc[
        np.argsort(table.groupby(["tissue", "donor"], observed=True).cumcount().to_numpy(), kind="stable")
    ]
    total = sum(shares[tissue] for tissue in table["tissue"].unique())
    chosen = []
    for tissue, own in table.groupby("tissue", observed=True):
        quota = int(config.validation_tiles * shares[str(tissue)] / total)
        enough = np.searchsorted(own["tiles"].clip(upper=SLIDE_TILES).cumsum(), quota) + 1
        own = own.iloc[:enough]
        chosen.append(own.assign(tiles=own["tiles"].clip(upper=max(1, math.ceil(quota / len(own))))))
    columns = ["slide", "sample", "donor", "tissue", "tiles"]
    return (
        pd.concat(chosen).astype(dict.fromkeys(columns[:-1], str))[columns].reset_index(drop=True)
        if chosen
        else pd.DataFrame(columns=columns)
    )


def candidates(config: TileConfig, shards: ShardSet, cohort: pd.DataFrame) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Rows of the cohort table, and tiles used of each, of the validation split's slides; none where there are none."""
    if not ((cohort["split"] == "validation") & (cohort["slide"] != "")).any():
        return cohort.iloc[:0], np.empty(0, np.int64)
    try:
        selection = select(shards, cohort, "validation", config.tiles_per_slide, config.where)
    except ValueError:  # none that is wanted has tiles
        return cohort.iloc[:0], np.empty(0, np.int64)
    return selection.table, selection.tiles


def _shares(config: TileConfig, train: Selection) -> dict[str, float]:
    """The share of training that each tissue has."""
    weights = read_weights(config.tissue_weights, train)
    if weights is None:
        weights = pd.Series(train.counts).groupby(train.slides["tissue"]).sum().to_dict()
    total = math.fsum(weights.values())
    return {tissue: weight / total for tissue, weight in weights.items()}


def what_is_missing(config: TileConfig, rows: pd.DataFrame, mpp: float | None) -> str:
    """One sentence on what can't be measured on these rows, empty where all can; refuses a `best_by` that can't be."""
    what, why = "faithfulness in validation", ""
    donors = rows.groupby("tissue")["donor"].nunique()
    few = sorted(donors.index[donors < FEWEST_DONORS])
    if rows["tiles"].sum() < 2:
        what, why = "validation", "no slide of the validation split (with a profile) has tiles"
    elif config.mode == "rnagan" and mpp is None:
        why = "the shards don't say the µm per px of their tiles"
    elif config.mode == "rnagan" and len(few) == len(donors):
        why = f"no tissue has {FEWEST_DONORS} validation donors with a profile and tiles"
    if why and config.best_by == "faithfulness":
        raise ValueError(f"best_by faithfulness can't be measured: {why}.")
    if not why and few and config.mode == "rnagan":
        what, why = f"{what} of {first_few(few)}", f"fewer than {FEWEST_DONORS} validation donors"
    return f"No {what}: {why}." if why else ""
