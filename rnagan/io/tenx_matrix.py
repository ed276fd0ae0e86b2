"""Counts as 10x Genomics' programs write them: filtered_feature_bc_matrix.h5 (of versions 2 and 3) or its folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse

from rnagan.io.bounds import MAX_GZIP_BYTES, MAX_GZIP_RATIO
from rnagan.io.hdf5_checks import RefusedHDF5, check_hdf5, check_readable
from rnagan.io.matrix_rows import unreadable
from rnagan.io.tables import UNREADABLE, open_bytes

EXPRESSION = "Gene Expression"  # features of other types are antibodies, guides and the like
_VERSION_3 = "matrix"
_FEWEST_BYTES = 4  # of an entry of an mtx file: two numbers, a count and a line's end, less a little
_DAMAGED = (OSError, KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError)


class Features(NamedTuple):
    """Genes by Ensembl id, with symbols, and which of the features are genes, (features,) bool."""

    ids: list[str]
    symbols: list[str]
    are_genes: np.ndarray


class TenXMatrix(NamedTuple):
    """`counts` (barcodes, genes) int, and how many features were no genes."""

    barcodes: list[str]
    genes: list[str]
    symbols: list[str]
    counts: scipy.sparse.csr_matrix
    others: int


def read_tenx(path: Path) -> TenXMatrix:
    """Read an .h5, or a folder of matrix.mtx, barcodes.tsv and features.tsv or genes.tsv (each also .gz).

    Raises `ValueError` with the file's name where it is damaged, of several genomes, or no such file.
    """
    barcodes, features, counts = _read_h5(path) if path.is_file() else _read_folder(path)
    if counts.shape != (len(barcodes), len(features.are_genes)):
        raise ValueError(
            f"{path} has {counts.shape[0]:,} × {counts.shape[1]:,} counts, and names {len(barcodes):,} barcodes and "
            f"{len(features.are_genes):,} features; download it again."
        )
    if len(set(barcodes)) < len(barcodes):
        twice = pd.Series(barcodes)[pd.Series(barcodes).duplicated()].iloc[0]
        raise ValueError(f"{path} has the barcode {twice} twice; give each spot a row of its own.")
    own = features.are_genes
    counts = counts if own.all() else counts[:, np.flatnonzero(own)]
    return TenXMatrix(barcodes, features.ids, features.symbols, counts, int((~own).sum()))


def read_tenx_genes(path: Path) -> Features:
    """The genes alone, without counts. Raises as `read_tenx`."""
    return _h5_features(path) if path.is_file() else _folder_features(path)


def _read_h5(path: Path) -> tuple[list[str], Features, scipy.sparse.csr_matrix]:
    features = _h5_features(path)
    try:
        with h5py.File(path, "r") as file:
            group = file[_group_of(file, path)]
            barcodes = _words(group["barcodes"])
            data, indices, indptr = (np.asarray(group[name]) for name in ("data", "indices", "indptr"))
            genes, columns = (int(n) for n in group["shape"][()])
        # CSC of features × barcodes is CSR of barcodes × features.
        counts = scipy.sparse.csr_matrix((data, indices, indptr), shape=(columns, genes))
        counts.check_format(full_check=True)
    except _DAMAGED as error:
        raise unreadable(path, error) from None
    return barcodes, features, counts


def _h5_features(path: Path) -> Features:
    check_readable(path)
    try:
        check_hdf5(path)
        with h5py.File(path, "r") as file:
            name = _group_of(file, path)
            if name != _VERSION_3:
                ids, symbols = _words(file[name]["genes"]), _words(file[name]["gene_names"])
                return Features(ids, symbols, np.ones(len(ids), bool))
            of = file[name]["features"]
            kinds = _words(of["feature_type"]) if "feature_type" in of else [EXPRESSION] * len(of["id"])
            return _genes_of(_words(of["id"]), _words(of["name"]), kinds)
    except RefusedHDF5:
        raise
    except _DAMAGED as error:
        raise error if str(path) in str(error) else unreadable(path, error) from None


def _group_of(file: h5py.File, path: Path) -> str:
    if _VERSION_3 in file:
        return _VERSION_3
    genomes = [name for name in file if isinstance(file[name], h5py.Group) and "gene_names" in file[name]]
    if len(genomes) != 1:
        what = f"of {len(genomes)} genomes ({', '.join(genomes)})" if genomes else "no count matrix of 10x Genomics"
        raise ValueError(f"{path} is {what}; give filtered_feature_bc_matrix.h5 of one genome.")
    return genomes[0]


def _words(values: h5py.Dataset) -> list[str]:
    return [str(word) for word in values.asstr("utf-8")[()]]


def _read_folder(folder: Path) -> tuple[list[str], Features, scipy.sparse.csr_matrix]:
    features, path = _folder_features(folder), _one_of(folder, "matrix.mtx")
    barcodes = [cells[0] for cells in _lines(_one_of(folder, "barcodes.tsv"))]
    try:
        with open_bytes(path) as file:
            rows, columns, entries = _mtx_size(file.read(1 << 16))
        bytes_ = path.stat().st_size
        most = max(MAX_GZIP_BYTES, MAX_GZIP_RATIO * bytes_) if path.suffix == ".gz" else bytes_
        if entries * _FEWEST_BYTES > most:
            raise ValueError(f"it claims {entries:,} counts")
        if (rows, columns) != (len(features.are_genes), len(barcodes)):
            raise ValueError(
                f"it has {rows:,} features and {columns:,} barcodes, and its lists {len(features.are_genes):,} and "
                f"{len(barcodes):,}"
            )
        with open_bytes(path) as file:
            counts = scipy.sparse.csr_matrix(scipy.io.mmread(file).T)
    except (*UNREADABLE, OverflowError, MemoryError) as error:
        raise unreadable(path, error) from None
    return barcodes, features, counts


def _mtx_size(start: bytes) -> tuple[int, int, int]:
    """Rows, columns and entries that an mtx file's header claims."""
    lines = [line for line in start.decode("utf-8", "replace").splitlines() if not line.startswith("%")]
    if not start.startswith(b"%%MatrixMarket matrix coordinate") or not lines:
        raise ValueError("it doesn't begin with %%MatrixMarket matrix coordinate")
    rows, columns, entries = (int(n) for n in lines[0].split())
    return rows, columns, entries


def _folder_features(folder: Path) -> Features:
    rows = list(_lines(_one_of(folder, "features.tsv", "genes.tsv")))
    if any(len(cells) < 2 for cells in rows):
        raise ValueError(f"{folder}: the list of features has lines without id and name; download it again.")
    ids, symbols = [cells[0] for cells in rows], [cells[1] for cells in rows]
    return _genes_of(ids, symbols, [cells[2] if len(cells) > 2 else EXPRESSION for cells in rows])


def _genes_of(ids: list[str], symbols: list[str], kinds: list[str]) -> Features:
    own = np.array([kind == EXPRESSION for kind in kinds], bool)
    places = np.flatnonzero(own).tolist()
    return Features([ids[k] for k in places], [symbols[k] for k in places], own)


def _one_of(folder: Path, *names: str) -> Path:
    found = [folder / (name + end) for name in names for end in (".gz", "") if (folder / (name + end)).is_file()]
    if not found:
        raise FileNotFoundError(f"{folder} holds no {' or '.join(names)} (nor the same with .gz).")
    return found[0]


def _lines(path: Path) -> Iterator[list[str]]:
    """The cells of each line of a list, which has no header."""
    try:
        with open_bytes(path) as file:
            for line in file:
                if text := line.decode("utf-8").rstrip("\r\n"):
                    yield text.split("\t")
    except UNREADABLE as error:
        raise unreadable(path, error) from None
