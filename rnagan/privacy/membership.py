"""How well scores tell those who were trained on from others: figures over people, and what chance gives."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnagan.evaluation.stats import Values, bootstrap_counts, interval, p_value
from rnagan.runtime import rng

FALSE_POSITIVES = 0.01  # of others who are called members, at which `caught` is read


class Membership(NamedTuple):
    """`auc`: the chance that a member's score is above another's, 0.5 where scores say nothing; `caught`: share of
    members found where at most FALSE_POSITIVES of the others are called members; each with its 95% interval over units.
    `chance_low`, `chance_high`: 95% of AUCs when membership is exchanged among units; `p` by the same exchange.
    `members`, `others`: units."""

    auc: float
    low: float
    high: float
    caught: float
    caught_low: float
    caught_high: float
    chance_low: float
    chance_high: float
    p: float
    members: int
    others: int


def membership(
    scores: Values, member: NDArray[np.bool_], units: NDArray, seed: int = 0, draws: int = 999
) -> Membership:
    """Of scores (n,), higher for whom they take for a member, of tiles or profiles of `units` (n,), such as donors.

    Units are what is drawn with replacement and what membership is exchanged among: tiles of one donor are no
    independent witnesses. Raises `ValueError` where there is no member or no other.
    """
    names, row_of = np.unique(np.asarray(units).astype(str), return_inverse=True)
    is_member = np.zeros(len(names), bool)
    is_member[row_of[member]] = True
    if is_member.all() or not is_member.any():
        raise ValueError("Membership can be tested where there are both members and others.")
    if is_member[row_of[~member]].any():
        raise ValueError("A unit has tiles of members and of others.")
    random = rng.generator(seed, "membership")
    counts = bootstrap_counts(random, len(names), draws, is_member)
    weights = np.vstack([np.ones(len(scores)), counts[:, row_of]])
    auc, caught = _figures(scores, weights * member, weights * ~member)
    exchanged = np.array([random.permutation(is_member) for _ in range(draws)])[:, row_of]
    by_chance = _figures(scores, exchanged.astype(np.float64), (~exchanged).astype(np.float64))[0]
    (low, high), (caught_low, caught_high), (chance_low, chance_high) = (
        interval(drawn) for drawn in (auc[1:], caught[1:], by_chance)
    )
    return Membership(
        float(auc[0]),
        float(low),
        float(high),
        float(caught[0]),
        float(caught_low),
        float(caught_high),
        float(chance_low),
        float(chance_high),
        p_value(by_chance >= auc[0]),
        int(is_member.sum()),
        int((~is_member).sum()),
    )


def _figures(scores: Values, of_members: Values, of_others: Values) -> tuple[Values, Values]:
    """AUC and share caught (draws,) by weights (draws, n) of members and of others; ties count half."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
    members, others = (np.add.reduceat(own[:, order], starts, axis=1) for own in (of_members, of_others))
    found, wrong = (np.cumsum(own, axis=1) / own.sum(axis=1, keepdims=True) for own in (members, others))
    share = others / others.sum(axis=1, keepdims=True)
    before = found - members / members.sum(axis=1, keepdims=True)
    auc = (share * (before + found) / 2).sum(axis=1)
    caught = np.where(wrong <= FALSE_POSITIVES, found, 0).max(axis=1)
    return auc, caught


def at_risk(scores: Values, member: NDArray[np.bool_], units: NDArray) -> list[str]:
    """Members whose mean score is above that of all others but FALSE_POSITIVES of them (all, where they are few)."""
    names, row_of = np.unique(np.asarray(units).astype(str), return_inverse=True)
    mean = np.bincount(row_of, scores) / np.bincount(row_of)
    is_member = np.bincount(row_of, member) > 0
    others = np.sort(mean[~is_member])[::-1]
    limit = others[int(FALSE_POSITIVES * len(others))]
    return names[is_member & (mean > limit)].tolist()
