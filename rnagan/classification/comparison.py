"""What a cross-validation found: scores of every start with intervals over donors, and every difference tested."""

from itertools import combinations
from typing import Any

import numpy as np

from rnagan.classification import scores
from rnagan.classification.cross_validation import OutOfFold
from rnagan.classification.folds import Rows
from rnagan.classification.network import SCRATCH, SIMCLR
from rnagan.classification.paired import corrected_t_test, donor_permutation_test
from rnagan.classification.tiles import Labelled

ARTICLE = {  # figure S4: mean and SD over five folds
    SCRATCH: {"accuracy": (0.7671, 0.0451), "f1": (0.7667, 0.0452)},
    SIMCLR: {"accuracy": (0.8550, 0.0154), "f1": (0.8549, 0.0154)},
}


def compare(
    data: Labelled, folds: list[tuple[Rows, Rows]], classes: list[str], found: dict[str, OutOfFold], seed: int
) -> dict[str, Any]:
    """`starts`: mean, SD (n − 1) and values over folds of each start's scores, with a bootstrap interval over donors
    (drawn within their fold), and its confusion matrices; `comparisons`: of every two, both paired tests; `scores`: all
    of them in one list."""
    donors, unit = np.unique(data.donors, return_inverse=True)
    fold_of = np.empty(len(donors), np.int64)
    for number, (_, test) in enumerate(folds):
        fold_of[unit[test]] = number
    counts = scores.resamples(fold_of, seed)
    right: dict[str, Any] = {}
    told: dict[str, Any] = {}
    drawn, listed = {}, []
    for start, out_of_fold in found.items():
        called = out_of_fold.probabilities.argmax(axis=1)
        right[start] = called == data.labels
        of_donors = scores.confusions(data.labels, called, unit, len(classes))
        told[start] = {"confusion": of_donors.sum(axis=0).tolist(), "training": out_of_fold.records}
        told[start]["confusion_by_fold"] = [of_donors[fold_of == k].sum(axis=0).tolist() for k in range(len(folds))]
        for name, measure in scores.MEASURES.items():
            by_fold = [float(measure(np.array(matrix))) for matrix in told[start]["confusion_by_fold"]]
            drawn[start, name] = scores.mean_over_folds(of_donors, fold_of, measure, counts)
            low, high = scores.interval(drawn[start, name])
            mean, sd = float(np.mean(by_fold)), float(np.std(by_fold, ddof=1))
            told[start][name] = {"mean": mean, "sd": sd, "low": low, "high": high, "folds": by_fold}
            listed.append({"name": f"{name}, {start}", "value": mean, "low": low, "high": high})
    compared = []
    ratio = float(np.mean([len(test) / len(train) for train, test in folds]))
    for first, second in combinations(found, 2):
        permuted = donor_permutation_test(right[first], right[second], data.donors, seed)
        for name in scores.MEASURES:
            differences = np.subtract(told[second][name]["folds"], told[first][name]["folds"])
            low, high = scores.interval(drawn[second, name] - drawn[first, name])
            tested = corrected_t_test(differences, ratio)
            compared.append(
                {"measure": name, "first": first, "second": second, "low": low, "high": high}
                | {"corrected_t_test": tested._asdict(), "difference": tested.difference}
                | ({"donor_permutation": permuted._asdict()} if name == "accuracy" else {})
            )
            listed.append(
                {"name": f"{name}, {second} less {first}", "value": tested.difference, "low": low, "high": high}
            )
    return {
        "scores": listed,
        "starts": told,
        "comparisons": compared,
        "article": ARTICLE,
        "test_over_train": ratio,
        "folds": [{"train": len(train), "test": len(test)} for train, test in folds],
    }
