"""A Xenium run as the instrument writes it, with the H&E image of the same section: its cells, put together in square
bins, are the spots.

Cells lie in µm. The H&E image is scanned later, and Xenium Explorer's alignment file says which pixel of the
instrument's own image each of its pixels is (10x Genomics, "Xenium In Situ: H&E image alignment").
"""

from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from rnagan.io.files import read_json
from rnagan.io.parquet import read_parquet
from rnagan.io.tables import UNREADABLE, open_bytes
from rnagan.io.tenx_matrix import read_tenx, read_tenx_genes
from rnagan.spatial.bins import bin_cells
from rnagan.spatial.section import Genes, Grid, Section, Spots

EXPERIMENT = "experiment.xenium"
_MATRIX = "cell_feature_matrix"
_ALIGNMENT = "*imagealignment.csv"
_CENTRE = ["x_centroid", "y_centroid"]
_MOST_SHEAR = 0.05  # by which an alignment's two directions may differ in length, or its cosine from 0


class Experiment(TypedDict):
    """What we need of experiment.xenium. `pixel_size`: µm per px of the instrument's own image."""

    pixel_size: float


def is_xenium(path: Path) -> bool:
    """Whether a folder is that of a Xenium run."""
    return (path / EXPERIMENT).is_file()


def read_genes(section: Section) -> Genes:
    """The genes of a run, without its counts."""
    found = read_tenx_genes(_matrix_of(section.path))
    return Genes(found.ids, found.symbols)


def input_files(section: Section) -> list[Path]:
    """The files that are read of a run."""
    matrix = _matrix_of(section.path)
    return [
        *([matrix] if matrix.is_file() else sorted(path for path in matrix.iterdir() if path.is_file())),
        section.path / EXPERIMENT,
        _cells_of(section.path),
        _alignment_of(section),
    ]


def read_xenium(section: Section) -> Spots:
    """The bins of a run that hold a cell. `ValueError` and `FileNotFoundError` say what is missing or doesn't fit."""
    if section.bin_um is None:
        raise ValueError(f"{section.name}: a Xenium run has cells; name the side of their bins, µm, in the column bin.")
    pixel_um = read_json(section.path / EXPERIMENT, Experiment)["pixel_size"]
    if not 0 < pixel_um < 100:
        raise ValueError(f"{section.path / EXPERIMENT} says a pixel_size of {pixel_um:g} µm, which can't be.")
    alignment = read_alignment(_alignment_of(section))
    matrix = read_tenx(_matrix_of(section.path))
    cells = _centres(_cells_of(section.path))
    rows = cells.index.get_indexer(pd.Index(matrix.barcodes))
    if (lacking := int((rows < 0).sum())) > 0:
        raise ValueError(
            f"{lacking:,} of {len(rows):,} cells of {_matrix_of(section.path)} are not in {_cells_of(section.path)}: "
            "they are of another run; give files of one run."
        )
    binned = bin_cells(cells.to_numpy(np.float64)[rows], matrix.counts, section.bin_um)
    centres_um = (binned.rows_columns[:, ::-1] + 0.5) * section.bin_um
    notes = [f"{len(rows):,} cells put together in bins of {section.bin_um} µm."]
    notes += [f"{matrix.others:,} features that are no genes are left out."] if matrix.others else []
    return Spots(
        [f"r{row}c{column}" for row, column in binned.rows_columns.tolist()],
        _through(np.linalg.inv(alignment), centres_um / pixel_um),
        np.ones(len(centres_um), bool),
        np.arange(len(centres_um), dtype=np.int64),
        binned.counts,
        Genes(matrix.genes, matrix.symbols),
        Grid(binned.rows_columns, (float(section.bin_um), float(section.bin_um))),
        stated_mpp=pixel_um * float(np.sqrt(abs(np.linalg.det(alignment[:2, :2])))),
        notes=tuple(notes),
    )


def read_alignment(path: Path) -> NDArray[np.float64]:
    """The matrix (3, 3) that takes x, y of the H&E image to those of the instrument's image, both in pixels.

    Raises `ValueError` with the file's name where it is none, or stretches one direction more than the other.
    """
    try:
        with open_bytes(path) as file:
            matrix = pd.read_csv(file, header=None).to_numpy(np.float64)
    except (*UNREADABLE, ValueError) as error:
        raise ValueError(f"{path} can't be read as an alignment ({error}).".replace("\n", " ")) from None
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or not np.allclose(matrix[2], [0, 0, 1]):
        raise ValueError(f"{path} is no alignment: it must hold three rows of three numbers, the last 0, 0, 1.")
    across, down = matrix[:2, 0], matrix[:2, 1]
    lengths = np.linalg.norm(across), np.linalg.norm(down)
    if min(lengths) == 0 or abs(lengths[0] / lengths[1] - 1) > _MOST_SHEAR:
        raise ValueError(f"{path} stretches x {lengths[0]:.3g} times and y {lengths[1]:.3g}; align the image anew.")
    if abs(across @ down) / (lengths[0] * lengths[1]) > _MOST_SHEAR:
        raise ValueError(f"{path} slants the image: x and y aren't at right angles; align the image anew.")
    return matrix


def _through(matrix: NDArray[np.floating], xy: NDArray[np.floating]) -> NDArray[np.float64]:
    return xy @ matrix[:2, :2].T + matrix[:2, 2]


def _centres(path: Path) -> pd.DataFrame:
    """x and y of each cell, µm, by its id."""
    try:
        if path.suffix == ".parquet":
            table = read_parquet(path)
        else:
            with open_bytes(path) as file:
                table = pd.read_csv(file)
        if missing := [name for name in ("cell_id", *_CENTRE) if name not in table]:
            raise ValueError(f"it has no column {missing[0]}")
        ids = table["cell_id"].map(lambda name: name.decode() if isinstance(name, bytes) else str(name))
        centres = table[_CENTRE].apply(pd.to_numeric, errors="coerce").set_axis(pd.Index(ids), axis=0)
        if ids.duplicated().any():
            raise ValueError(f"it has the cell {ids[ids.duplicated()].iloc[0]} twice")
        if not np.isfinite(centres).all(axis=None):
            raise ValueError(f"cell {ids.iloc[int((~np.isfinite(centres)).any(axis=1).argmax())]} has no place")
    except (*UNREADABLE, pa.ArrowException) as error:
        raise ValueError(f"{path} can't be read as Xenium's cells ({error}).".replace("\n", " ")) from None
    return centres


def _matrix_of(folder: Path) -> Path:
    return _first_of(folder, f"{_MATRIX}.h5", _MATRIX)


def _cells_of(folder: Path) -> Path:
    return _first_of(folder, "cells.parquet", "cells.csv.gz", "cells.csv")


def _first_of(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(f"{folder} holds no {' or '.join(names)}; give the output folder of a Xenium run.")


def _alignment_of(section: Section) -> Path:
    """The alignment file beside the image, or in the folder of the run."""
    for folder in (section.image.parent, section.path):
        named = folder / f"{section.image.name.split('.')[0]}_imagealignment.csv"
        found = [named] if named.is_file() else sorted(folder.glob(_ALIGNMENT))
        if len(found) == 1:
            return found[0]
    raise FileNotFoundError(
        f"{section.name}: {section.image.parent} holds no {_ALIGNMENT}, or several, for {section.image.name}; export "
        "it from Xenium Explorer and put it beside the image."
    )
