"""Folders of Space Ranger: Visium (1 and 2) and Visium HD.

Files by the public description of its outputs (Space Ranger 1.0 to 3.x): in spatial/ tissue_positions_list.csv
without a header (to 1.3), tissue_positions.csv with one (from 2.0) or tissue_positions.parquet (HD), and
scalefactors_json.json; filtered_feature_bc_matrix as .h5 or a folder.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import pandas as pd
import pyarrow as pa

from rnagan.io.files import read_json
from rnagan.io.parquet import read_parquet
from rnagan.io.tables import UNREADABLE, first_few, open_bytes
from rnagan.io.tenx_matrix import TenXMatrix, read_tenx, read_tenx_genes
from rnagan.spatial.section import VISIUM_STEP_UM, Genes, Grid, Section, Spots

COLUMNS = ("barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres")
BINS, BIN = "binned_outputs", "square_{:03d}um"
_MATRIX = "filtered_feature_bc_matrix"
_FEWEST_UM = 8  # of a bin: those of 2 µm hold a count or two
_USUAL_BIN_UM = 16
_MOST_OFF_TISSUE = 0.1  # share of the matrix's barcodes


class ScaleFactors(TypedDict):
    """scalefactors_json.json; `spot_diameter_fullres` is that of a spot of 65 µm and says no resolution."""

    tissue_hires_scalef: NotRequired[float]
    tissue_lowres_scalef: NotRequired[float]
    microns_per_pixel: NotRequired[float]
    bin_size_um: NotRequired[float]


def is_space_ranger(path: Path) -> bool:
    """Whether a folder is one of Space Ranger's, or holds its `outs`."""
    return any((folder / name).is_dir() for folder in (path, path / "outs") for name in (BINS, "spatial"))


def read_genes(section: Section) -> Genes:
    """The genes of a folder, without its counts."""
    found = read_tenx_genes(_matrix_of(_folder_of(section)[0]))
    return Genes(found.ids, found.symbols)


def input_files(section: Section) -> list[Path]:
    """The files that are read of a folder."""
    folder, _ = _folder_of(section)
    matrix = _matrix_of(folder)
    return [
        *([matrix] if matrix.is_file() else sorted(path for path in matrix.iterdir() if path.is_file())),
        _positions_of(folder),
        folder / "spatial" / "scalefactors_json.json",
    ]


def read_space_ranger(section: Section) -> Spots:
    """The spots, or bins, of a folder. `ValueError` and `FileNotFoundError` say what is missing or doesn't fit."""
    folder, bin_um = _folder_of(section)
    factors = read_json(folder / "spatial" / "scalefactors_json.json", ScaleFactors)
    path = _positions_of(folder)
    positions = read_positions(path)
    matrix = read_tenx(_matrix_of(folder))
    rows = pd.Index(matrix.barcodes).get_indexer(pd.Index(positions["barcode"])).astype(np.int64)
    in_tissue = positions["in_tissue"].to_numpy() > 0
    _check_same_run(matrix, positions["barcode"].tolist(), rows, in_tissue, _matrix_of(folder), path)
    step = VISIUM_STEP_UM if bin_um is None else (float(bin_um), float(bin_um))
    notes = [f"{matrix.others:,} features that are no genes are left out"] if matrix.others else []
    if bin_um is not None and section.bin_um is None:
        notes.append(f"bins of {bin_um} µm are taken, since the column bin is empty")
    scales = {"hires": factors.get("tissue_hires_scalef"), "lowres": factors.get("tissue_lowres_scalef")}
    return Spots(
        positions["barcode"].tolist(),
        positions[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy(np.float64),
        in_tissue,
        rows,
        matrix.counts,
        Genes(matrix.genes, matrix.symbols),
        Grid(positions[["array_row", "array_col"]].to_numpy(np.int64), step),
        stated_mpp=factors.get("microns_per_pixel"),
        scales={name: scale for name, scale in scales.items() if scale},
        notes=tuple(notes),
    )


def read_positions(path: Path) -> pd.DataFrame:
    """COLUMNS of a file of positions, numbers but for the barcode. Raises `ValueError` with the file's name."""
    try:
        if path.suffix == ".parquet":
            table = read_parquet(path)
        else:
            with open_bytes(path) as file:
                has_header = file.readline(1 << 16).startswith(b"barcode")
            with open_bytes(path) as file:
                table = pd.read_csv(file, header=0 if has_header else None)
            if not has_header and len(table.columns) == len(COLUMNS):
                table.columns = pd.Index(COLUMNS)
        if missing := [name for name in COLUMNS if name not in table]:
            raise ValueError(f"it has no column {missing[0]}")
        numbers = table[list(COLUMNS[1:])].apply(pd.to_numeric, errors="coerce")
        if not np.isfinite(numbers).all(axis=None):
            line = int((~np.isfinite(numbers)).any(axis=1).argmax())
            raise ValueError(f"barcode {table['barcode'].iloc[line]} has no position")
    except (*UNREADABLE, pa.ArrowException) as error:
        raise ValueError(f"{path} can't be read as Space Ranger's positions ({error}).".replace("\n", " ")) from None
    if (twice := table["barcode"].duplicated()).any():
        raise ValueError(f"{path} has the spot {table.loc[twice, 'barcode'].iloc[0]} twice; give each one position.")
    return numbers.assign(barcode=table["barcode"].astype(str))


def _check_same_run(
    matrix: TenXMatrix, barcodes: Sequence[str], rows: np.ndarray, in_tissue: np.ndarray, counts: Path, positions: Path
) -> None:
    """Refuse a matrix of another run than the positions. All Visium slides have the same barcodes, but the filtered
    matrix holds those under tissue alone."""
    known = rows >= 0
    if (lacking := len(matrix.barcodes) - int(known.sum())) > 0:
        others = set(matrix.barcodes) - set(barcodes)
        raise ValueError(
            f"{lacking:,} of {len(matrix.barcodes):,} barcodes of {counts} ({first_few(sorted(others), 1)}) are not in "
            f"{positions}: they are of another run; give files of one run."
        )
    off = int((known & ~in_tissue).sum())
    if off > _MOST_OFF_TISSUE * max(1, int(known.sum())):
        raise ValueError(
            f"{off:,} of {int(known.sum()):,} barcodes of {counts} are off the tissue by {positions}: a filtered "
            "matrix has none, so they are of another run; give files of one run."
        )


def _folder_of(section: Section) -> tuple[Path, int | None]:
    """The folder with counts and `spatial`, and the side of its bins in µm, None where they are spots."""
    path = section.path / "outs" if (section.path / "outs").is_dir() else section.path
    bins = path / BINS
    if not bins.is_dir():
        if section.bin_um is not None:
            raise ValueError(
                f"{section.name}: bin {section.bin_um} is for Visium HD, and {path} has no {BINS}; leave it empty."
            )
        return path, None
    sizes = sorted(int(found.name[7:-2]) for found in bins.glob("square_*um") if found.name[7:-2].isdigit())
    usable = [size for size in sizes if size >= _FEWEST_UM]
    wanted = section.bin_um
    if wanted is None:
        wanted = _USUAL_BIN_UM if _USUAL_BIN_UM in usable else usable[0] if len(usable) == 1 else None
    if wanted not in usable:
        raise ValueError(
            f"{section.name}: {bins} has bins of {', '.join(map(str, sizes)) or 'no size'} µm; name one of "
            f"{_FEWEST_UM} µm or more in the column bin."
        )
    assert wanted is not None
    return bins / BIN.format(wanted), wanted


def _matrix_of(folder: Path) -> Path:
    """The .h5, or else the folder of mtx."""
    for found in (folder / f"{_MATRIX}.h5", folder / _MATRIX):
        if found.exists():
            return found
    raise FileNotFoundError(f"{folder} holds neither {_MATRIX}.h5 nor the folder {_MATRIX}; give Space Ranger's outs.")


def _positions_of(folder: Path) -> Path:
    names = ("tissue_positions.parquet", "tissue_positions.csv", "tissue_positions_list.csv")
    found = [folder / "spatial" / name for name in names if (folder / "spatial" / name).is_file()]
    if not found:
        raise FileNotFoundError(f"{folder / 'spatial'} holds no {' or '.join(names)}; give Space Ranger's outs.")
    return found[0]
