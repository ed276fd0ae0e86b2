"""Writes an AnnData .h5ad row by row, so that no more than a block of profiles is in memory."""

import errno
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anndata.io
import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

_CHUNK_BYTES = 64 << 10
_SPARE_BYTES = 16 << 20  # for the tables beside X


class ProfileWriter:
    """An .h5ad whose X (float32, profiles × genes) grows by blocks of rows; `finish` adds what describes it.

    X is stored by whole rows, uncompressed, so that reading a profile reads nothing else. Raises `OSError` with ENOSPC
    where the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = h5py.File(path, "w")
        self._x: h5py.Dataset | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except (OSError, RuntimeError) as failed:
            if error is None:
                raise self._plain(failed) from None
        if isinstance(error, OSError | RuntimeError):
            raise self._plain(error) from None

    def append(self, values: NDArray[np.float32]) -> None:
        """Add profiles float32 (rows, genes), with as many genes as the first time."""
        # HDF5 can't close a file that it could not write to the end, and takes the process down with it.
        if shutil.disk_usage(self._path.parent).free < values.nbytes + _SPARE_BYTES:
            raise OSError(errno.ENOSPC, "No space left on device", str(self._path))
        if self._x is None:
            n_genes = values.shape[1]
            shape, limit = (0, n_genes), (None, n_genes)
            chunk = max(1, _CHUNK_BYTES // (4 * n_genes)), n_genes
            self._x = self._file.create_dataset("X", shape, np.float32, maxshape=limit, chunks=chunk)
        start = self._x.shape[0]
        if len(values):
            self._x.resize(start + len(values), axis=0)
            self._x[start:] = values

    def finish(self, obs: pd.DataFrame, var: pd.DataFrame, uns: dict[str, Any]) -> None:
        """Write the tables beside X, as anndata lays them out; a row for each profile, for each gene."""
        assert self._x is not None and self._x.shape == (len(obs), len(var))
        self._x.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        self._file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        empty: dict[str, Any] = {name: {} for name in ("layers", "obsm", "obsp", "varm", "varp")}
        for name, part in {"obs": obs, "var": var, "uns": uns, **empty}.items():
            anndata.io.write_elem(self._file, name, part)

    def _plain(self, error: BaseException) -> BaseException:
        if getattr(error, "errno", None) == errno.ENOSPC or "errno = 28" in str(error):
            return OSError(errno.ENOSPC, "No space left on device", str(self._path))
        return error
