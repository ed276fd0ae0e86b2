"""Maps over the spots of one section: how well two agree, against what smoothness alone would give.

Neighbouring spots are alike, so spots can't be shuffled freely, nor drawn one by one. Nulls are the other map turned,
mirrored and shifted, which keeps all its structure (Upton & Fingleton 1985; toroidal shifts without the torus, since a
section has a shape); intervals come from a bootstrap of blocks (Künsch 1989).
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from rnagan.evaluation.stats import Values, bootstrap_counts, interval, p_value
from rnagan.runtime import rng

FEWEST_SPOTS = 40  # that a moved map must share with the other
ENOUGH_SHIFTS = 60
MOST_SHIFTS = 999
SHORTEST_SHIFT = 2.0  # in pitches: a smooth map that is moved by one spot is nearly the same map
BLOCK_PITCHES = 5.0  # side of a block of the bootstrap: smaller ones give narrower intervals than are true
_OFFSETS = 8  # grids of blocks that the bootstrap takes in turns
_HALF_STEPS = np.array([(0, 0), *itertools.product((0, 0.5, -0.5, 0.25, -0.25), repeat=2)])  # in pitches
_WITHIN = 0.5  # of a pitch: so near must a moved spot lie to a spot to be compared with it

Places = NDArray[np.intp]


class Nulls(NamedTuple):
    """Moved maps: `places` (nulls, spots), the spot whose value comes to lie on each spot, −1 where none does.

    The first `turns` are turned and mirrored, up to seven; the others are shifted. Each leaves FEWEST_SPOTS or more.
    """

    places: Places
    turns: int

    @property
    def shifts(self) -> int:
        return len(self.places) - self.turns


class MapAgreement(NamedTuple):
    """Pearson `r` of two maps and `slope` of the second on the first, 95% interval `low` … `high` over blocks; `p`: the
    rank of r among those of `nulls` moved maps, of which `beaten` are lower; `null_high`: the highest of these."""

    r: float
    slope: float
    low: float
    high: float
    p: float
    nulls: int
    beaten: int
    null_high: float


def pitch_of(positions: Values) -> float:
    """Distance of neighbouring spots: the median distance (spots, 2) to the nearest other one, in their unit."""
    pitch = float(np.median(cKDTree(positions).query(positions, k=2)[0][:, 1]))
    if not pitch > 0:
        raise ValueError("Spots of a section lie on one another; give positions of their own (x and y).")
    return pitch


def make_nulls(positions: Values, seed: int = 0) -> Nulls:
    """All turns, mirror images and shifts of the spots at `positions` (spots, 2) that leave enough spots to compare; of
    more than MOST_SHIFTS shifts as many are drawn."""
    pitch, tree = pitch_of(positions), cKDTree(positions)
    middle = (positions.min(axis=0) + positions.max(axis=0)) / 2
    turned = [_best_of(tree, (positions - middle) @ turn + middle, pitch, _HALF_STEPS) for turn in _turns()]
    turned = [places for places in turned if _shared(places) >= FEWEST_SPOTS]
    shifted = [_places(tree, positions + shift, pitch) for shift in _shifts(positions, pitch)]
    shifted = [places for places in shifted if _shared(places) >= FEWEST_SPOTS]
    if len(shifted) > MOST_SHIFTS:
        drawn = np.sort(rng.generator(seed, "shifted maps").permutation(len(shifted))[:MOST_SHIFTS])
        shifted = [shifted[k] for k in drawn]
    return Nulls(np.array([*turned, *shifted], np.intp).reshape(-1, len(positions)), len(turned))


def agreement(real: Values, measured: Values, nulls: Nulls, weights: Values) -> MapAgreement:
    """How a map `measured` (spots,) agrees with `real` (spots,); `weights` are those of `block_weights`.

    A null moves `measured` and is compared over the spots that it shares with `real`. Fewer spots make higher r by
    chance, so r of a null, as Fisher's z, is scaled by the root of the share of spots before it is compared. A map
    without any variation has r = 0, slope = 0 and p = 1.
    """
    if not np.ptp(real) or not np.ptp(measured):
        return MapAgreement(0.0, 0.0, 0.0, 0.0, 1.0, len(nulls.places), 0, float("nan"))
    r = float(weighted_pearson(np.ones((1, len(real))), real, measured)[0])
    there = (nulls.places >= 0).astype(np.float64)
    moved = measured[nulls.places]  # −1 is the last spot, which has no weight
    found = np.nan_to_num(weighted_pearson(there, real, moved))
    scaled = np.arctanh(found.clip(-1 + 1e-12, 1 - 1e-12)) * np.sqrt(there.mean(axis=1))
    as_high = scaled >= np.arctanh(min(r, 1 - 1e-12)) - 1e-12
    low, high = interval(weighted_pearson(weights, real, measured))
    slope = r * float(np.std(measured) / np.std(real))
    highest = float(found.max()) if len(found) else float("nan")
    beaten = int((~as_high).sum())
    return MapAgreement(r, slope, float(low), float(high), p_value(as_high), len(found), beaten, highest)


def block_weights(positions: Values, seed: int = 0, draws: int = 2000, side: float = BLOCK_PITCHES) -> Values:
    """How often each spot at `positions` (spots, 2) is in each of `draws` resamples of square blocks, (draws, spots).

    Blocks are `side` pitches wide and drawn with replacement, as many as there are; the grid that cuts them lies
    elsewhere in each eighth of the draws.
    """
    random = rng.generator(seed, "blocks of spots")
    width = side * pitch_of(positions)
    parts = []
    for size in (len(part) for part in np.array_split(np.arange(draws), _OFFSETS)):
        cells = np.floor((positions - positions.min(axis=0) + random.random(2) * width) / width)
        block = np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1)
        parts.append(bootstrap_counts(random, int(block.max()) + 1, size)[:, block])
    return np.concatenate(parts).astype(np.float64)


def weighted_pearson(weights: Values, x: Values, y: Values) -> Values:
    """Pearson correlation of x and y, (spots,) or (draws, spots), under each row of `weights` (draws, spots): (draws,).
    NaN where there is no variation."""
    total = weights.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = (each - (weights * each).sum(axis=1, keepdims=True) / total for each in (x, y))
        return (weights * x * y).sum(axis=1) / np.sqrt((weights * x * x).sum(axis=1) * (weights * y * y).sum(axis=1))


def nearest_other(positions: Values) -> Places:
    """The nearest other spot of each, (spots,)."""
    return cKDTree(positions).query(positions, k=2)[1][:, 1]


def same_place(positions: Values, other: Values) -> Places:
    """The spot of another section that lies where each spot of this one lies, (spots,), −1 where none does.

    The other section is shifted, by whole spots, to where most spots of both lie on one another; pixels have no part.
    """
    pitch, tree = pitch_of(positions), cKDTree(other)
    start = other.mean(axis=0) - positions.mean(axis=0)
    anchor = other[tree.query(positions[0] + start)[1]] - positions[0]  # spot upon spot
    return _best_of(tree, positions + anchor, pitch, np.array(list(itertools.product(range(-4, 5), repeat=2))))


def _turns() -> Iterator[Values]:
    """The seven turns and mirror images of a square beside itself."""
    for quarter, mirror in itertools.product(range(4), (1, -1)):
        if quarter or mirror < 0:
            yield np.round(np.linalg.matrix_power(np.array([[0.0, -1.0], [1.0, 0.0]]), quarter)) @ np.diag([1, mirror])


def _shifts(positions: Values, pitch: float) -> Values:
    """Vectors from spot to spot of the section's whole extent, each once, (shifts, 2): on any lattice these put spots
    upon spots."""
    span = np.linalg.norm(np.ptp(positions, axis=0))
    middle = cKDTree(positions).query((positions.min(axis=0) + positions.max(axis=0)) / 2, k=min(len(positions), 9))[1]
    vectors = np.concatenate([positions - positions[k] for k in middle])
    vectors = np.concatenate([vectors, -vectors])
    _, first = np.unique(np.round(vectors / (pitch / 2)), axis=0, return_index=True)
    vectors = vectors[np.sort(first)]
    length = np.linalg.norm(vectors, axis=1)
    return vectors[(length >= (SHORTEST_SHIFT - 0.1) * pitch) & (length <= span)]


def _places(tree: cKDTree, moved: Values, pitch: float) -> Places:
    """The spot of the tree that each of the moved positions lies on, −1 where none does."""
    distance, place = tree.query(moved)
    return np.where(distance <= _WITHIN * pitch, place, -1)


def _best_of(tree: cKDTree, moved: Values, pitch: float, steps: NDArray) -> Places:
    """`_places` after that of the steps (steps, 2), in pitches, which puts most spots upon spots: a turned lattice may
    lie between the spots."""
    return max((_places(tree, moved + pitch * step, pitch) for step in steps), key=_shared)


def _shared(places: Places) -> int:
    return int((places >= 0).sum())
