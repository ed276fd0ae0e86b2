"""Sections of spots as the explorer shows them: a map, and the spots around the one that is chosen."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.cohort.spots import POSITIONS, positions_of
from rnagan.reports.section_pictures import pitch_of

IN_VIEW = 25  # spots that are generated anew at once
REACH = 4  # pitches from the chosen one to the farthest of them
MAX_SPOTS = 6_000  # of a map
CLASSES = 7  # shades of a map
_SIDE = 600  # of a map's longer side, without its edge
_EDGE = 12


class Dot(NamedTuple):
    """A spot on a map: the number of its profile, its place, and its shade, -1 for none."""

    profile: int
    x: float
    y: float
    shade: int


class Section(NamedTuple):
    """Spots of a section: `numbers` (spots,) of their profiles, `positions` (spots, 2), x to the right and y down.
    `left_out`: spots that a map hasn't room for."""

    name: str
    numbers: NDArray[np.intp]
    positions: NDArray[np.float64]
    left_out: int = 0

    @property
    def middle(self) -> int:
        """The profile of the spot nearest to the middle of the section, with which its page begins."""
        distance = np.linalg.norm(self.positions - self.positions.mean(axis=0), axis=1)
        return int(self.numbers[distance.argmin()])

    @property
    def scale(self) -> float:
        """Map units a unit of position."""
        return _SIDE / max(float(np.ptp(self.positions, axis=0).max()), 1e-9)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the map."""
        width, height = (np.ptp(self.positions, axis=0) * self.scale + 2 * _EDGE).round().astype(int).tolist()
        return width, height

    @property
    def radius(self) -> float:
        """Of a dot: neighbours nearly touch."""
        if len(self.positions) < 2:
            return float(_EDGE)
        return round(min(max(0.45 * self.pitch * self.scale, 1.5), _EDGE), 2)

    @property
    def pitch(self) -> float:
        """The distance of neighbours, in units of position."""
        return max(pitch_of(self.positions), 1e-9)

    def dots(self, levels: NDArray[np.float64] | None = None) -> list[Dot]:
        """The map; shades are equal shares of the spots by `levels` (spots,)."""
        shades = np.full(len(self.numbers), -1)
        if levels is not None and np.ptp(levels) > 0:
            shades = np.searchsorted(np.quantile(levels, np.arange(1, CLASSES) / CLASSES), levels, side="right")
        places = ((self.positions - self.positions.min(axis=0)) * self.scale + _EDGE).round(1)
        rows = zip(self.numbers.tolist(), places.tolist(), shades.tolist(), strict=True)
        return [Dot(number, x, y, shade) for number, (x, y), shade in rows]

    def around(self, profile: int) -> list[int]:
        """Profiles of the IN_VIEW spots nearest to one, itself first; fewer where others are more than REACH away."""
        own = self.positions[np.flatnonzero(self.numbers == profile)[0]]
        distance = np.linalg.norm(self.positions - own, axis=1)
        order = np.lexsort((self.numbers, distance, self.numbers != profile))
        near = order[:IN_VIEW]
        return self.numbers[near[distance[near] <= REACH * self.pitch]].tolist()

    def positions_of(self, profiles: Sequence[int]) -> NDArray[np.float64]:
        """Where the spots of these profiles lie, (n, 2)."""
        place = {number: row for row, number in enumerate(self.numbers.tolist())}
        return self.positions[[place[profile] for profile in profiles]]


class Sections:
    """The sections of a cohort table whose spots are among the profiles, by their order."""

    def __init__(self, sections: list[Section]) -> None:
        self.all = sections
        self._of_profile = {int(number): section for section in sections for number in section.numbers}

    def of(self, profile: str) -> Section:
        """The section of a profile's number; `ValueError` where it lies on none."""
        section = self._of_profile.get(int(profile)) if profile.isdigit() else None
        if section is None:
            raise ValueError("This profile lies on no section; choose a spot of the map.")
        return section


def find_sections(cohort: pd.DataFrame, samples: Sequence[str], name: Path | str) -> Sections | None:
    """The sections of a cohort table with positions, of spots among `samples`; None where it has no such spots.

    Raises `ValueError` where a spot has no position. `name`: of the table.
    """
    if any(column not in cohort for column in POSITIONS):
        return None
    place = {sample: number for number, sample in enumerate(samples)}
    rows = cohort[cohort["sample"].isin(place) & (cohort["slide"] != "")]
    found = []
    for slide, own in rows.groupby("slide", sort=True):
        if len(own) < 2:
            continue  # a slide with one profile is no map
        kept = own.iloc[:: -(-len(own) // MAX_SPOTS)]
        numbers = np.array([place[sample] for sample in kept["sample"]], np.intp)
        found.append(Section(str(slide), numbers, positions_of(kept, str(name)), len(own) - len(kept)))
    return Sections(found) if found else None
