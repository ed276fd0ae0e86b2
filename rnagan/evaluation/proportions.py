"""Proportions of cell types of each spot, as a deconvolution of its expression found them."""

from pathlib import Path

import numpy as np
import pandas as pd

from rnagan.io.tables import first_few, read_table

SAMPLE = "sample"  # the column that names the spot, as in the cohort table


def read_proportions(path: Path) -> pd.DataFrame:
    """By spot (index) and cell type (columns), float64: a .csv or .tsv with the spot in `sample`, as the cohort table
    names it, and a column of numbers for each cell type; cell2location's abundances serve as well, since correlations
    alone are made of them.

    Raises `ValueError` with the file's name where it has no such columns, a spot twice, or a cell that is no number.
    """
    table = read_table(path)
    if SAMPLE not in table or table.shape[1] < 2:
        raise ValueError(
            f"{path} must have a column {SAMPLE} with the spots of the cohort table, and one for each cell type; it "
            f"has {first_few(list(table), 8)}."
        )
    if table[SAMPLE].duplicated().any():
        raise ValueError(f"{path} has the spot {table[SAMPLE][table[SAMPLE].duplicated()].iloc[0]} twice.")
    found = table.set_index(SAMPLE).apply(pd.to_numeric, errors="coerce")
    bad = np.argwhere(~np.isfinite(found.to_numpy(np.float64)))
    if len(bad):
        row, column = bad[0]
        raise ValueError(f"{path} has no number in column {found.columns[column]} of spot {found.index[row]}.")
    return found.astype(np.float64)


def of_spots(proportions: pd.DataFrame, spots: pd.Series, measures: list[str]) -> dict[str, np.ndarray]:
    """Proportions (spots,) of the cell types that are among `measures`, of spots in their order.

    Raises `ValueError` where there is none, or a spot has none.
    """
    names = [name for name in proportions if name in measures]
    if not names:
        raise ValueError(
            f"The proportions are of {first_few(list(proportions), 8)}, and the measures of tiles are "
            f"{first_few(measures, 12)}: give --measures a function that returns fractions under the same names."
        )
    rows = proportions.index.get_indexer(spots)
    if (rows < 0).any():
        raise ValueError(f"The proportions have no spot {spots.iloc[int((rows < 0).argmax())]}.")
    return {name: proportions[name].to_numpy()[rows] for name in names}
