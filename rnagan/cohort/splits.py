"""Which donors train, validate and test."""

from collections.abc import Mapping

import numpy as np

from rnagan.cohort.table import SPLITS
from rnagan.runtime import rng


def assign_splits(
    donor_tissues: Mapping[str, set[str]],
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    seed: int = 0,
    existing: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Split of each donor: train, validation or test, in about `fractions` of all donors, of each tissue's donors, and
    of the donors with each set of tissues.

    Donors in `existing` keep their split; the others are dealt one by one, in an order drawn from `seed`, to the split
    that lacks most (iterative stratification, Sechidis et al. 2011, with the set of tissues as one more label).
    """
    existing = existing or {}
    splits = {donor: existing[donor] for donor in sorted(donor_tissues) if donor in existing}
    labels = {donor: ["", *sorted(tissues), "+".join(sorted(tissues))] for donor, tissues in donor_tissues.items()}
    number = {label: n for n, label in enumerate(sorted({label for of_donor in labels.values() for label in of_donor}))}
    rows = {donor: sorted({number[label] for label in of_donor}) for donor, of_donor in labels.items()}
    lacking = np.zeros((len(number), len(SPLITS)))
    for of_donor in rows.values():
        lacking[of_donor] += fractions
    for donor, split in splits.items():
        lacking[rows[donor], SPLITS.index(split)] -= 1
    new = sorted(set(donor_tissues) - set(splits))
    for n in rng.generator(seed, "splits").permutation(len(new)):
        donor = new[n]
        choice = int(lacking[rows[donor]].sum(axis=0).round(9).argmax())
        lacking[rows[donor], choice] -= 1
        splits[donor] = SPLITS[choice]
    return splits
