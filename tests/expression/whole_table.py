"""Reads an expression table at once, through the functions that build_expression calls."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnagan.expression.checked_table import open_table
from rnagan.expression.gene_selection import choose_genes
from rnagan.expression.units import check_units


class WholeTable(NamedTuple):
    """`values` (samples, genes) float32 in `units`; `lines` are those of `choose_genes`."""

    values: NDArray[np.float32]
    samples: list[str]
    genes: list[str]
    symbols: list[str]
    units: str
    units_from: str
    lines: list[str]


def read_whole(
    path: Path, units: str | None = None, sample_column: str = "sample", rows: str | None = None
) -> WholeTable:
    check_units(units)
    source = open_table(path, rows, sample_column)
    blocks = list(source.blocks())
    labels = [label for block in blocks for label in block.labels]
    values = np.concatenate([block.values for block in blocks])
    samples, names, symbols = labels, source.matrix.names, source.matrix.symbols
    if source.matrix.rows_are == "genes":
        samples, names, values = source.matrix.names, labels, values.T
        symbols = [symbol for block in blocks for symbol in block.symbols]
    choice = choose_genes(names, symbols, path)
    values = values[:, choice.columns]
    found = source.units(units)
    values = values if found.convert is None else found.convert(values.astype(np.float64)).astype(np.float32)
    return WholeTable(values, samples, choice.ids, choice.symbols, found.units, found.why, choice.lines)
