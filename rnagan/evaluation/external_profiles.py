"""Does another cohort find its tissues in the latent of ours? Neighbours come from our training split."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.evaluation.reconstruction import NEIGHBOURS, nearest_tissues
from rnagan.io.tables import first_few, need_columns, read_table

_BALANCED = 0.5  # of the training split's tissues, in effect


def match_tissues(
    theirs: Sequence[str], ours: Sequence[str], table: Path | Mapping[str, str] | None = None
) -> dict[str, str]:
    """External tissue → ours, of those that both have: equal but for case, or as `table` (external, ours) says.

    `table`: a file, or external tissues → ours. Raises `ValueError` where it names a tissue that isn't there, or where
    none is shared.
    """
    by_case = {name.casefold(): name for name in ours}
    shared = {name: by_case[name.casefold()] for name in sorted(set(theirs)) if name.casefold() in by_case}
    if table is not None:
        given = dict(table) if isinstance(table, Mapping) else read_tissue_table(table)
        place = "--tissue-map" if isinstance(table, Mapping) else table
        for column, whose, named, known in (
            ("external", "external file", given.keys(), theirs),
            ("ours", "training split", given.values(), ours),
        ):
            if strange := sorted(set(named) - set(known)):
                raise ValueError(f"{place}: the {whose} has no tissue {first_few(strange)}; correct column {column}.")
        shared |= given
    if not shared:
        raise ValueError(
            f"The external cohort ({first_few(sorted(set(theirs)), 5)}) shares no tissue with the training split "
            f"({first_few(sorted(set(ours)), 5)}); say with --tissue-map which are the same."
        )
    return shared


def read_tissue_table(path: Path) -> dict[str, str]:
    """External tissue → ours, from a table with columns external and ours; `ValueError` where it lacks one."""
    table = read_table(path)
    need_columns(list(table), ("external", "ours"), path)
    return dict(zip(table["external"], table["ours"], strict=True))


def read_tissue_map(given: Sequence[str]) -> Path | dict[str, str] | None:
    """Values of `--tissue-map`: one table, or any number of `external=ours`; None where there are none."""
    if len(given) == 1 and "=" not in given[0]:
        return Path(given[0])
    pairs = [tuple(part.strip() for part in text.split("=")) for text in given]
    for text, pair in zip(given, pairs, strict=True):
        if len(pair) != 2 or not all(pair):
            raise ValueError(f"--tissue-map {text!r} is neither external=ours nor the only table.")
    return dict(pairs) or None  # type: ignore[arg-type]  # pairs of two, as checked


def tissue_imbalance(theirs: Sequence[str], ours: Sequence[str]) -> str | None:
    """A warning where an external cohort's samples are of far fewer tissues, or far less evenly, than the training
    profiles; None where they aren't.

    A cohort counts as many tissues as its inverse Simpson index says, 1 / Σp²: that of equally many samples each.
    """
    effective = [_tissues_in_effect(each) for each in (theirs, ours)]
    if effective[0] >= _BALANCED * effective[1]:
        return None
    return (
        f"By tissue the external cohort is unlike the training split: its {len(theirs):,} samples count as "
        f"{effective[0]:.1f} tissues, the training split's as {effective[1]:.1f}. Nothing is aligned here, and nothing "
        "should be before: ComBat, CORAL, Harmony or quantiles per gene would move these samples to tissues that they "
        "aren't of."
    )


def _tissues_in_effect(tissues: Sequence[str]) -> float:
    shares = np.unique(np.asarray(tissues, str), return_counts=True)[1] / len(tissues)
    return float(1 / np.square(shares).sum())


def call_tissues(
    train: dict[str, NDArray], train_tissues: NDArray[np.str_], points: dict[str, NDArray], k: int = NEIGHBOURS
) -> pd.DataFrame:
    """Tissue that the nearest training points call, one column a space (`vae`, `pca`, `z_scores`), one row a sample.

    `train` and `points`: (samples, dimensions) by space; a space without dimensions is left out.
    """
    spaces = [name for name, values in train.items() if values.shape[1]]
    return pd.DataFrame({name: nearest_tissues(train[name], train_tissues, points[name], k) for name in spaces})


def accuracy_by_tissue(calls: pd.DataFrame, truth: NDArray[np.str_]) -> pd.DataFrame:
    """Share of samples called right by tissue: `tissue`, `samples`, then one column a space.

    `truth` (samples,) in our names. The last rows are `all samples` and `mean of tissues`.
    """
    right = calls.eq(truth, axis=0)
    table = right.groupby(truth).mean()
    means = pd.DataFrame([right.mean(), table.mean()], index=["all samples", "mean of tissues"])
    counts = pd.Series(truth).value_counts().reindex(table.index).tolist()
    table = pd.concat([table, means]).rename_axis("tissue")
    table.insert(0, "samples", [*counts, len(truth), len(truth)])
    return table.reset_index()
