"""A section of spatial transcriptomics: what a table says of it, and its spots as any kind of file has them."""

import dataclasses
from pathlib import Path

import numpy as np
import scipy.sparse
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Section:
    """A row of the table of sections.

    `path`: a file or folder of counts and positions (sections_table.py lists the kinds). `image`: the full-resolution
    image. `mpp`: of it, where the table says so. `bin_um`: side of Visium HD's bins, None: not said.
    """

    name: str
    donor: str
    tissue: str
    path: Path
    image: Path
    mpp: float | None = None
    site: str = ""
    bin_um: int | None = None


@dataclasses.dataclass(frozen=True)
class Genes:
    """Names of genes as a section has them, with symbols ('' where it has none). `complete`: they are all that were
    measured; otherwise one that is missing was merely not seen, as in the tables of Spatial Transcriptomics."""

    names: list[str]
    symbols: list[str]
    complete: bool = True


@dataclasses.dataclass(frozen=True)
class Grid:
    """The array on which spots lie: `rows_columns` (n, 2) int64, and what a step of one row and one column is in µm."""

    rows_columns: NDArray[np.int64]
    step_um: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Spots:
    """The spots of a section, before any is dropped.

    `barcodes`: a name each. `xy` (n, 2) float64: centres, in pixels of the full-resolution image. `in_tissue` (n,)
    bool: by the file, all true where it doesn't say. `rows` (n,) int64: of `counts`, −1 where a spot has none. `counts`
    (rows, genes): whole numbers. `pitch_um`: the distance of neighbours, where there is no grid. `stated_mpp`: of the
    full-resolution image, where the file says so. `scales`: pixels of each reduced image for a full-resolution one.
    `notes`: what was passed over, a sentence each without its full stop.
    """

    barcodes: list[str]
    xy: NDArray[np.float64]
    in_tissue: NDArray[np.bool_]
    rows: NDArray[np.int64]
    counts: scipy.sparse.csr_matrix
    genes: Genes
    grid: Grid | None = None
    pitch_um: float | None = None
    stated_mpp: float | None = None
    scales: dict[str, float] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


VISIUM_STEP_UM = (50 * 3**0.5, 50.0)  # hexagons 100 µm apart: rows, and columns, of which every other has a spot
SPOT_PITCH_UM = 100.0  # of Visium
ARRAY_STEP_UM = (200.0, 200.0)  # of Spatial Transcriptomics, whose spots are 100 µm wide
