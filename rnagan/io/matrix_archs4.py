"""ARCHS4's files of gene counts (Lachmann et al. 2018): HDF5 with data/expression (genes × samples), meta/genes and
meta/samples, as version 2 and later are laid out."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from rnagan.io.hdf5_checks import RefusedHDF5, check_hdf5, check_readable
from rnagan.io.matrix_rows import Block, Matrix, unreadable

_VALUES = 16_000_000  # in a block
_EXPRESSION, _SAMPLES = "data/expression", "meta/samples/geo_accession"
_ENSEMBL = ("meta/genes/ensembl_gene", "meta/genes/ensembl_gene_id", "meta/genes/ensembl_id")
_SYMBOL = ("meta/genes/symbol", "meta/genes/gene_symbol", "meta/genes/genes")
_UNREADABLE = (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError)  # what h5py raises on damage


def open_archs4(path: Path, rows: str | None) -> Matrix:
    """Rows are genes, by Ensembl id where the file has them, else by symbol; columns are samples by GEO's accession.

    Raises `ValueError` with the file's name on any other HDF5 file and where `rows` (--rows) says samples.
    """
    if rows == "samples":
        raise ValueError(f"{path} is of ARCHS4, whose rows are genes; leave --rows out.")
    check_readable(path)
    try:
        check_hdf5(path)
        with h5py.File(path, "r") as file:
            lacking = [name for name in (_EXPRESSION, _SAMPLES) if not isinstance(file.get(name), h5py.Dataset)]
            ids, symbols = (next((name for name in names if name in file), None) for names in (_ENSEMBL, _SYMBOL))
            if lacking or not (ids or symbols):
                what = lacking[0] if lacking else "meta/genes/symbol"
                raise ValueError(
                    f"{path} has no {what}, so it is no file of ARCHS4 (version 2 or later), the only .h5 that is "
                    "read; write other tables as .h5ad."
                )
            samples, labels, symbols_of = (
                _words(file, name) for name in (_SAMPLES, ids or symbols, symbols if ids else None)
            )
            shape = file[_EXPRESSION].shape
    except RefusedHDF5:
        raise
    except _UNREADABLE as error:
        raise error if str(path) in str(error) else unreadable(path, error) from None
    symbols_of = symbols_of or [""] * len(labels)
    if shape != (len(labels), len(samples)) or len(symbols_of) != len(labels):
        raise ValueError(
            f"{path} has {' × '.join(f'{n:,}' for n in shape)} values, and names {len(labels):,} genes and "
            f"{len(samples):,} samples; download it again."
        )

    def blocks() -> Iterator[Block]:
        size = max(1, _VALUES // max(len(samples), 1))
        try:
            with h5py.File(path, "r") as file:
                for start in range(0, len(labels), size):
                    part = slice(start, start + size)
                    yield Block(labels[part], symbols_of[part], np.asarray(file[_EXPRESSION][part], np.float32))
        except _UNREADABLE as error:
            raise unreadable(path, error) from None

    why = "it is laid out as ARCHS4's files"
    return Matrix("genes", why, samples, [""] * len(samples), (), {"units": "counts"}, lambda: labels, blocks)


def _words(file: h5py.File, name: str | None) -> list[str]:
    """A list of names in the file; empty without a name."""
    if name is None:
        return []
    values = file[name]
    if values.ndim != 1:
        raise ValueError(f"{name} is no list of names")
    return [str(word).strip() for word in values.asstr("utf-8")[()]]
