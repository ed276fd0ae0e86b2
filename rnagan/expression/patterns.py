"""Profiles by which genes they have: those that lack the same ones are worked on together."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def by_pattern(measured: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.bool_]]]:
    """For each pattern of measured genes, given as (samples, genes): its samples, and the pattern itself (genes,)."""
    patterns, pattern_of = np.unique(np.packbits(measured, axis=1), axis=0, return_inverse=True)
    for number in range(len(patterns)):
        rows = np.flatnonzero(pattern_of.ravel() == number)
        yield rows, measured[rows[0]]
