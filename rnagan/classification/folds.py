"""Folds by donor, with about the same share of each class."""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

Rows = NDArray[np.intp]


def make_folds(
    labels: NDArray[np.int64], donors: NDArray[np.str_], count: int, classes: list[str], seed: int
) -> list[tuple[Rows, Rows]]:
    """Training and test rows of each of `count` folds; no donor is in both (scikit-learn's StratifiedGroupKFold).

    Raises `ValueError` where a class has fewer donors than there are folds, or a part of a fold lacks a class.
    """
    for number, name in enumerate(classes):
        found = len(set(donors[labels == number]))
        if found < count:
            raise ValueError(f"Class {name} has {found} donors, too few for {count} parts; ask for fewer folds.")
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of fewer tiles than folds: it can't be, there are the donors
        folds = list(splitter.split(labels, labels, donors))
    for train, test in folds:
        if any(len(set(labels[part])) < len(classes) for part in (train, test)):
            raise ValueError(
                f"The donors can't be dealt into {count} parts that hold every class; ask for fewer folds."
            )
    return folds


def hold_out(
    labels: NDArray[np.int64], donors: NDArray[np.str_], share: float, classes: list[str], seed: int
) -> tuple[Rows, Rows]:
    """Rows to train on and rows of about `share` of the donors to stop early on: the first of 1/share folds."""
    return make_folds(labels, donors, max(2, round(1 / share)), classes, seed)[0]
