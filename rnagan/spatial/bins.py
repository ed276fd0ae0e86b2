"""Cells put together in square bins. Pure functions."""

from typing import NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray


class Binned(NamedTuple):
    """Bins that hold a cell, by row and column: `rows_columns` (bins, 2) int64, row r from r·side to (r + 1)·side in y;
    `counts` (bins, genes), the sums of their cells'; `cells` (bins,) int64, how many each has."""

    rows_columns: NDArray[np.int64]
    counts: scipy.sparse.csr_matrix
    cells: NDArray[np.int64]


def bin_cells(xy_um: NDArray[np.float64], counts: scipy.sparse.csr_matrix, side_um: float) -> Binned:
    """Put cells at x, y (n, 2), µm, with `counts` (n, genes), together in bins of `side_um`."""
    places = np.floor(xy_um[:, ::-1] / side_um).astype(np.int64)
    rows_columns, own = np.unique(places, axis=0, return_inverse=True)
    own = own.reshape(-1)
    adds = scipy.sparse.csr_matrix((np.ones(len(own), counts.dtype), (own, np.arange(len(own)))))
    return Binned(rows_columns, scipy.sparse.csr_matrix(adds @ counts), np.bincount(own).astype(np.int64))
