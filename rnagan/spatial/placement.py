"""Do positions of spots fit their image? Tissue under spots against tissue off them, for the eight turns and mirrors
of the positions and for the scales of reduced images. Pure functions."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

BETTER = 0.15  # by which another placement's score must be higher
DOUBTFUL = 0.05  # from which on it is mentioned
_GOOD = 0.3  # score that the other placement must reach
_ERRORS = 3  # standard errors of both scores, by which it must be higher beyond that
FEWEST_ON_TISSUE = 0.3  # share of the spots in tissue
_ENOUGH_OFF = 20  # spots off tissue that count as such; with fewer, what is far from all spots does, by as many spots
_NAMES = {
    (False, False, False): "as they are",
    (False, True, False): "mirrored left to right",
    (False, False, True): "mirrored top to bottom",
    (False, True, True): "turned by 180°",
    (True, False, False): "with x and y swapped",
    (True, True, False): "turned by 90° clockwise",
    (True, False, True): "turned by 90° counter-clockwise",
    (True, True, True): "mirrored at the other diagonal",
}


@dataclasses.dataclass(frozen=True)
class Placement:
    """One way to lay positions on an image. `score`: share of the spots in tissue that lie on tissue less that of what
    should be off it, −1 … 1, and `error` its standard error, by how many spots there are. `on_tissue`: the first share
    alone. `inside`: share of all spots within the image. `image_scale`: by what the image itself would be reduced."""

    name: str
    score: float
    on_tissue: float
    inside: float
    error: float
    image_scale: float = 1.0

    def is_better(self, other: "Placement", by: float) -> bool:
        """Whether its score is higher `by` so much, and by more than chance has it."""
        return self.score >= other.score + by + _ERRORS * float(np.hypot(self.error, other.error))


def placements(
    tissue: NDArray[np.bool_],
    pixel_px: float,
    xy: NDArray[np.float64],
    in_tissue: NDArray[np.bool_],
    size_px: tuple[int, int],
    scales: Mapping[str, float],
) -> list[Placement]:
    """All placements, the one that is given first.

    `tissue` (rows, columns): one of its pixels spans `pixel_px` of the image, whose width and height are `size_px`.
    `xy` (n, 2): positions in pixels of it. `scales`: by name, what else positions may have been multiplied by.
    """
    ways = {name: (_turned(xy, size_px, *way), 1.0) for way, name in _NAMES.items()}
    for name, scale in scales.items():
        ways[f"times {scale:.4g}, as if the image were the {name} one"] = xy * scale, scale
        ways[f"times {1 / scale:.4g}, as if they were those of the {name} image"] = xy / scale, 1.0
    found = []
    for name, (own, scale) in ways.items():
        place = _place(name, tissue, pixel_px, own, in_tissue, size_px)
        found.append(dataclasses.replace(place, image_scale=scale))
    return found


def placement_problem(found: list[Placement]) -> str | None:
    """What is wrong with the given placement, the end of a sentence about the section; None where nothing is."""
    given, best = found[0], max(found, key=lambda one: one.score)
    if best.score >= _GOOD and best.is_better(given, BETTER):
        return (
            f"has positions that don't fit its image: {given.on_tissue:.0%} of the spots in tissue lie on tissue as "
            f"they are, and {best.on_tissue:.0%} {best.name} (score {given.score:.2f} against {best.score:.2f})"
        )
    if given.inside < 0.5:
        return f"has positions that don't fit its image: {1 - given.inside:.0%} of them lie outside of it"
    if given.on_tissue < FEWEST_ON_TISSUE:
        return (
            f"has positions that don't fit its image: {given.on_tissue:.0%} of the spots in tissue lie on tissue, and "
            "no turn, mirror or scale fits better; is it the image of this section?"
        )
    return None


def placement_doubt(found: list[Placement]) -> str | None:
    """A sentence where another placement fits a little better."""
    given, best = found[0], max(found, key=lambda one: one.score)
    if not best.is_better(given, DOUBTFUL):
        return None
    return f"positions {best.name} would fit the tissue a little better ({given.score:.2f}, {best.score:.2f})"


def _turned(
    xy: NDArray[np.float64], size_px: tuple[int, int], swap: bool, mirror_x: bool, mirror_y: bool
) -> NDArray[np.float64]:
    out = xy[:, ::-1].copy() if swap else xy.copy()
    for axis, mirror in enumerate((mirror_x, mirror_y)):
        if mirror:
            out[:, axis] = size_px[axis] - out[:, axis]
    return out


def _place(
    name: str,
    tissue: NDArray[np.bool_],
    pixel_px: float,
    xy: NDArray[np.float64],
    in_tissue: NDArray[np.bool_],
    size_px: tuple[int, int],
) -> Placement:
    inside = ((xy >= 0) & (xy < size_px)).all(axis=1)
    cells = np.minimum((xy[inside] / pixel_px).astype(np.int64)[:, ::-1], np.array(tissue.shape) - 1)
    on = np.zeros(len(xy), bool)
    on[inside] = tissue[tuple(cells.T)]
    on_tissue = float(on[in_tissue].mean()) if in_tissue.any() else 0.0
    if (~in_tissue & inside).sum() >= _ENOUGH_OFF:
        off, spots_off, weight = float(on[~in_tissue].mean()), float((~in_tissue).sum()), 1.0
    else:
        off, spots_off = _far_share(tissue, cells[in_tissue[inside]])
        weight = min(1.0, spots_off / _ENOUGH_OFF)  # what is a few spots wide may be anything
    error = np.hypot(_error(on_tissue, int(in_tissue.sum())), weight * _error(off, spots_off))
    return Placement(name, on_tissue - weight * off, on_tissue, float(inside.mean()), float(error))


def _error(share: float, count: float) -> float:
    """Standard error of a share of so many."""
    return (share * (1 - share) / max(1.0, count)) ** 0.5


def _far_share(tissue: NDArray[np.bool_], cells: NDArray[np.int64]) -> tuple[float, float]:
    """Share of tissue in what is farther from all spots than these are from one another, 0 where there is none; and how
    many spots would have room there."""
    if not len(cells):
        return float(tissue.mean()), float(_ENOUGH_OFF)
    free = np.ones(tissue.shape, bool)
    free[tuple(cells.T)] = False
    distance = distance_transform_edt(free)
    spacing = max(2.0, np.sqrt(np.ptp(cells, axis=0).clip(1).prod() / len(cells)))
    far = distance > 1.5 * spacing
    return (float(tissue[far].mean()) if far.any() else 0.0), float(far.sum() / spacing**2)
