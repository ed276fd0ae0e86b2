"""Sections of Spatial Transcriptomics, Visium's forerunner: a folder with a table of counts, whose rows are spots `XxY`
and whose columns are genes, and a spot file (x, y, new_x, new_y, pixel_x, pixel_y)."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse

from rnagan.io.matrix import open_matrix
from rnagan.io.tables import UNREADABLE, column_names, first_few, open_text, read_table, table_format
from rnagan.spatial.section import ARRAY_STEP_UM, Genes, Grid, Section, Spots

_SPOT = re.compile(r'"?(\d+)x(\d+)"?')
_NEEDED = ("x", "y", "pixel_x", "pixel_y")
_ENDINGS = ("tsv", "txt", "csv")


def input_files(section: Section) -> list[Path]:
    return list(_tables(section.path))


def read_genes(section: Section) -> Genes:
    """The genes of a table of counts, which has those that were seen."""
    counts, _ = _tables(section.path)
    matrix = open_matrix(counts, rows="samples")
    return Genes(matrix.names, [""] * len(matrix.names), complete=False)


def read_spatial_transcriptomics(section: Section) -> Spots:
    """The spots of a folder. `ValueError` says which file is missing or doesn't fit."""
    counts_path, spots_path = _tables(section.path)
    table = read_table(spots_path)
    numbers = table[list(_NEEDED)].apply(pd.to_numeric, errors="coerce")
    if not np.isfinite(numbers).all(axis=None):
        line = int((~np.isfinite(numbers)).any(axis=1).argmax()) + 2
        raise ValueError(f"{spots_path}, line {line}: x, y, pixel_x and pixel_y must be numbers.")
    places = numbers[["y", "x"]].round().to_numpy(np.int64)
    barcodes = [f"{x}x{y}" for y, x in places.tolist()]
    if len(set(barcodes)) < len(barcodes):
        twice = pd.Series(barcodes)[pd.Series(barcodes).duplicated()].iloc[0]
        raise ValueError(f"{spots_path} has the spot {twice} twice; give each one position.")
    matrix = open_matrix(counts_path, rows="samples")
    names: list[str] = []
    parts = []
    for block in matrix.blocks():
        names += block.labels
        parts.append(scipy.sparse.csr_matrix(block.values))
    counts = scipy.sparse.csr_matrix(scipy.sparse.vstack(parts))
    if len(set(names)) < len(names):
        twice = pd.Series(names)[pd.Series(names).duplicated()].iloc[0]
        raise ValueError(f"{counts_path} has the spot {twice} twice; give each a row of its own.")
    if counts.nnz and not ((counts.data >= 0).all() and not (counts.data % 1).any()):
        raise ValueError(f"{counts_path} holds no counts: it has negative numbers or fractions; give the raw counts.")
    rows = pd.Index(names).get_indexer(pd.Index(barcodes)).astype(np.int64)
    unplaced = sorted(set(names) - set(barcodes))
    if len(unplaced) == len(names):
        raise ValueError(
            f"No spot of {counts_path} ({first_few(names, 1)}) is in {spots_path} ({first_few(barcodes, 1)}): they are "
            "of different sections; give files of one."
        )
    selected = np.ones(len(table), bool)
    if "selected" in table:
        selected = (pd.to_numeric(table["selected"], errors="coerce") != 0).to_numpy()
    # The makers' own detection of spots left those without a position out: they lie beside the section.
    notes = (f"{len(unplaced):,} spots of the counts have no position ({first_few(unplaced)})",) if unplaced else ()
    genes = Genes(matrix.names, [""] * len(matrix.names), complete=False)
    xy = numbers[["pixel_x", "pixel_y"]].to_numpy(np.float64)
    return Spots(barcodes, xy, selected, rows, counts, genes, Grid(places, ARRAY_STEP_UM), notes=notes)


def is_spatial_transcriptomics(path: Path) -> bool:
    """Whether a folder holds a spot file."""
    return any(_is_spot_file(file) for file in _text_tables(path))


def _tables(folder: Path) -> tuple[Path, Path]:
    """The table of counts and the spot file of a folder."""
    files = _text_tables(folder)
    spots = [path for path in files if _is_spot_file(path)]
    counts = [path for path in files if path not in spots and _names_spots(path)]
    for what, found in (("tables of counts with rows XxY", counts), ("spot files (x, y, pixel_x, pixel_y)", spots)):
        if len(found) != 1:
            named = f" ({first_few(path.name for path in found)})" if found else ""
            raise ValueError(f"{folder} holds {len(found)} {what}{named}, and one of each is needed.")
    return counts[0], spots[0]


def _text_tables(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and table_format(path).kind in _ENDINGS)


def _is_spot_file(path: Path) -> bool:
    try:
        return set(_NEEDED) <= set(column_names(path))
    except (*UNREADABLE, FileNotFoundError):
        return False


def _names_spots(path: Path) -> bool:
    """Whether the first row below the header is called like a spot."""
    try:
        with open_text(path) as file:
            file.readline()
            return _SPOT.fullmatch(re.split(r"[\t,;]", file.readline(1 << 16), maxsplit=1)[0].strip()) is not None
    except UNREADABLE:
        return False
