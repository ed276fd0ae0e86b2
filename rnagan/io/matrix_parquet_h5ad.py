"""Expression tables in Parquet and AnnData, as blocks of rows like those of tables of text."""

import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from rnagan.io.bounds import MAX_PARQUET_ROWS
from rnagan.io.hdf5_checks import RefusedHDF5, check_hdf5, check_memory, check_readable
from rnagan.io.matrix_rows import SYMBOL_WORDS, Block, Matrix, orientation, unreadable

_VALUES = 16_000_000  # in a block
# What anndata and h5py raise on an HDF5 file that is no .h5ad, or on damage.
_UNREADABLE = (OSError, KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, NotImplementedError)


def open_parquet(path: Path, rows: str | None, sample_column: str) -> Matrix:
    """The first column of strings, or pandas' index, names the rows; other columns of strings annotate them.

    Raises `ValueError` with the file's name.
    """
    try:
        schema = pyarrow.parquet.read_schema(path)
        rows_claimed = pyarrow.parquet.read_metadata(path).num_rows
        if rows_claimed > MAX_PARQUET_ROWS:
            raise ValueError(f"{path} claims {rows_claimed:,} rows, and {MAX_PARQUET_ROWS:,} are read; split it.")
        text = [field.name for field in schema if _is_text(field.type)]
        index = [name for name in (schema.pandas_metadata or {}).get("index_columns", []) if isinstance(name, str)]
        known = [name for name in (sample_column, *index) if name in text]
        label = (known or text or [None])[0]
        if label is None:
            raise ValueError(f"{path} has no column of names; keep sample or gene ids in a column of strings.")
        names = [field.name for field in schema if field.name not in text and field.name not in index]
        labels = [name.strip() for name in _strings(pyarrow.parquet.read_table(path, columns=[label])[label])]
    except (pyarrow.ArrowException, OSError) as error:
        raise unreadable(path, error) from None
    first = "" if label.startswith("__index_level_") else label
    rows_are, why = orientation(path, first, names, labels, rows, sample_column)
    symbol = next((name for name in text if name != label and name.casefold() in SYMBOL_WORDS), None)
    symbol = symbol if rows_are == "genes" else None
    ignored = tuple(name for name in text if name not in (label, symbol))

    def blocks() -> Iterator[Block]:
        wanted = [*names, *([symbol] if symbol else [])]
        place = itertools.count()
        try:
            file = pyarrow.parquet.ParquetFile(path)
            for batch in file.iter_batches(max(1, _VALUES // max(len(names), 1)), columns=wanted, use_threads=False):
                columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in names]
                values = np.empty((batch.num_rows, len(names)), np.float32)
                for i, column in enumerate(columns):
                    values[:, i] = column
                symbols = _strings(batch.column(symbol)) if symbol else [""] * batch.num_rows
                yield Block([labels[next(place)] for _ in range(batch.num_rows)], symbols, values)
        except (pyarrow.ArrowException, OSError, ValueError, TypeError) as error:
            raise unreadable(path, error) from None

    return Matrix(rows_are, why, names, [""] * len(names), ignored, {}, lambda: labels, blocks)


def open_h5ad(path: Path, rows: str | None, sample_column: str) -> Matrix:
    """obs are the rows, which usually are samples; X is read, dense or sparse. Raises as `open_parquet`."""
    data = read_h5ad(path, backed=True)
    labels, names = data.obs_names.astype(str).tolist(), data.var_names.astype(str).tolist()
    try:
        rows_are, why = orientation(path, "", names, labels, rows, sample_column)
    except ValueError:
        rows_are, why = "samples", "AnnData's obs are samples"
    of_rows, of_names = _symbols(data.obs), _symbols(data.var)
    says = {name: data.uns[name] for name in ("units", "log1p") if name in data.uns}
    size = max(1, _VALUES // max(len(names), 1))

    def blocks() -> Iterator[Block]:
        x = data.X
        if getattr(x, "format", "") == "csc":  # rows of it can't be read alone
            x = x.to_memory().tocsr()
        for start in range(0, len(labels), size):
            part = slice(start, start + size)
            symbols = of_rows[part] if rows_are == "genes" else [""] * len(labels[part])
            yield Block(labels[part], symbols, dense(x[part]))

    return Matrix(rows_are, why, names, of_names, (), says, lambda: labels, blocks)


def read_h5ad(path: Path, *, backed: bool, stays_sparse: bool = False) -> anndata.AnnData:
    """An .h5ad file, with its X left on disk if `backed`; raises `ValueError` with its name on any other file, and as
    `check_hdf5`, `check_memory` (unless X `stays_sparse`) and `check_anndata`; `OSError` where the system doesn't let
    it be read."""
    check_readable(path)
    try:
        check_hdf5(path)
        if not backed and not stays_sparse:
            check_memory(path)
        with warnings.catch_warnings():  # names that come twice are refused below
            warnings.filterwarnings("ignore", message=".*names are not unique", category=UserWarning)
            data = anndata.read_h5ad(path, backed="r" if backed else None)
    except RefusedHDF5:
        raise
    except _UNREADABLE as error:
        raise ValueError(f"{path} is no .h5ad file ({error}).".replace("\n", " ")) from None
    try:
        check_anndata(data, path)
    except ValueError:
        if backed:
            data.file.close()
        raise
    return data


def check_anndata(data: anndata.AnnData, name: object) -> None:
    """Refuse profiles without X, or with an X of another shape than their names, or with a name that two of them or
    two genes share: a name decides the noise, and joins the tables."""
    try:
        missing = data.X is None
    except KeyError:  # of a file that stays on disk
        missing = True
    if missing:
        layers = f" (its layers are {', '.join(data.layers)})" if data.layers else ""
        raise ValueError(f"{name} has no X{layers}; put the expression there.")
    if data.X.shape != data.shape:  # of a file that stays on disk
        raise ValueError(
            f"{name} has {' × '.join(f'{n:,}' for n in data.X.shape)} values in X, and names {data.n_obs:,} profiles "
            f"and {data.n_vars:,} genes; write it anew."
        )
    for what, names in (("profile", data.obs_names), ("gene", data.var_names)):
        if not names.is_unique:
            twice = names[names.duplicated()][0]
            raise ValueError(f"{name} has the {what} {twice} more than once; give each a name of its own.")


def dense(x: Any) -> NDArray[np.float32]:
    """The X of an AnnData, which may be sparse, as an array."""
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x, dtype=np.float32)


def _symbols(annotation: Any) -> list[str]:
    column = next((name for name in annotation.columns if str(name).casefold() in SYMBOL_WORDS), None)
    return [""] * len(annotation) if column is None else words(annotation[column])


def words(column: pd.Series) -> list[str]:
    """A column's values as strings, '' where one is missing."""
    return column.astype(object).where(column.notna(), "").astype(str).tolist()


def _is_text(kind: pyarrow.DataType) -> bool:
    if pyarrow.types.is_dictionary(kind):
        kind = kind.value_type
    return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)


def _strings(column: Any) -> list[str]:
    return ["" if name is None else str(name) for name in column.to_pylist()]
