"""The expression file of a cohort: an AnnData .h5ad with donor, tissue and split of every profile."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anndata
import anndata.io
import h5py
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rnagan.cohort.leakage import refuse_leakage
from rnagan.cohort.table import CAVEATS
from rnagan.expression.h5ad_writer import NewHDF5, write_anndata
from rnagan.expression.unit_evidence import Evidence
from rnagan.expression.units import (
    CENTRED,
    SCALES,
    UNITS,
    as_proved,
    refuse_contradiction,
    stated_units,
    to_known_units,
)
from rnagan.io.matrix_parquet_h5ad import dense, read_h5ad, words

OBS_COLUMNS = ("donor", "tissue", "split")
POOLED = "pooled_spots"  # in uns, where spots were pooled
_CHUNK_BYTES = 64 << 10
_ROWS = 256  # converted at a time


class ProfileWriter:
    """An .h5ad whose X (float32, profiles × genes) grows by blocks of rows; `finish` adds what describes it.

    X is stored by whole rows, uncompressed, so that reading a profile reads nothing else. Raises `OSError` with ENOSPC
    where the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._file = NewHDF5(path)
        self._x: h5py.Dataset | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, trace)

    def append(self, values: NDArray[np.float32]) -> None:
        """Add profiles float32 (rows, genes), with as many genes as the first time."""
        if self._x is None:
            n_genes = values.shape[1]
            shape, limit = (0, n_genes), (None, n_genes)
            chunk = max(1, _CHUNK_BYTES // (4 * n_genes)), n_genes
            self._x = self._file.create_dataset("X", shape, np.float32, maxshape=limit, chunks=chunk)
        start = self._x.shape[0]
        if len(values):
            self._x.resize(start + len(values), axis=0)
            self._x[start:] = values
        self._file.check()

    def convert(self, to: Callable[[NDArray[np.floating]], NDArray[np.floating]]) -> None:
        """Replace all values by what `to` makes of them (float64 in, any float out), some profiles at a time."""
        assert self._x is not None
        for start in range(0, self._x.shape[0], _ROWS):
            self._x[start : start + _ROWS] = to(self._x[start : start + _ROWS].astype(np.float64)).astype(np.float32)
            self._file.check()

    def finish(self, obs: pd.DataFrame, var: pd.DataFrame, uns: dict[str, Any]) -> None:
        """Write the tables beside X, as anndata lays them out; a row for each profile, for each gene."""
        assert self._x is not None and self._x.shape == (len(obs), len(var))
        self._x.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        self._file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        empty: dict[str, Any] = {name: {} for name in ("layers", "obsm", "obsp", "varm", "varp")}
        for name, part in {"obs": obs, "var": var, "uns": uns, **empty}.items():
            anndata.io.write_elem(self._file, name, part)


@dataclasses.dataclass(frozen=True)
class Expression:
    """Profiles of a cohort: `values` float32 (samples, genes) in `units`; `obs` has OBS_COLUMNS by sample.

    `split_by`: donor; or sample, section or block, if it was asked for that a donor's samples may be in several splits.
    `pooled`: how many neighbours' counts each spot has beside its own.
    """

    values: NDArray[np.float32]
    obs: pd.DataFrame
    genes: list[str]
    symbols: list[str]
    units: str
    split_by: str = "donor"
    pooled: int = 0

    def split(self, name: str) -> NDArray[np.float32]:
        """The profiles of one split (train, validation or test)."""
        return self.values[(self.obs["split"] == name).to_numpy()]


class StoredExpression:
    """An expression file whose profiles stay on disk: `obs`, `genes`, `symbols`, `units`, `split_by` and `pooled` as in
    `Expression`, and `rows` reads chosen profiles. Use it in a `with` block, or close it."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._data = _open(self.path, backed=True)
        try:
            self.obs, self.genes, self.symbols, self.units, self.split_by = _checked(self._data, self.path)
        except ValueError:
            self.close()
            raise
        self.pooled = pooled_spots(self._data.uns)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.obs)

    def close(self) -> None:
        """Close the file."""
        self._data.file.close()

    def split(self, name: str) -> NDArray[np.intp]:
        """Indices of the profiles of one split (train, validation or test)."""
        return np.flatnonzero(self.obs["split"] == name)

    def rows(self, indices: ArrayLike) -> NDArray[np.float32]:
        """float32 (len(indices), genes): these profiles, in this order; an index may come twice."""
        wanted, place = np.unique(np.asarray(indices, dtype=np.intp), return_inverse=True)
        if len(wanted) and not (wanted[0] >= 0 and wanted[-1] < len(self)):
            raise IndexError(f"{self.path} has {len(self):,} profiles, none of number {wanted[[0, -1]].tolist()}.")
        x = self._data.X
        if isinstance(x, h5py.Dataset):  # one read for each run of neighbours: h5py's own lists of rows are slow
            found = np.empty((len(wanted), len(self.genes)), np.float32)
            starts = np.flatnonzero(np.diff(wanted, prepend=-2) != 1)
            for start, length in zip(starts, np.diff(starts, append=len(wanted)), strict=True):
                found[start : start + length] = x[wanted[start] : wanted[start] + length]
        else:
            found = dense(x[wanted]) if len(wanted) else np.empty((0, len(self.genes)), np.float32)
        if not np.isfinite(found).all():
            raise _not_finite(self.path)
        return found if np.array_equal(place, np.arange(len(wanted))) else found[place]

    def blocks(self, indices: ArrayLike, size: int = 256) -> Iterator[NDArray[np.float32]]:
        """`rows` of these profiles, `size` at a time."""
        wanted = np.asarray(indices, dtype=np.intp)
        for start in range(0, len(wanted), size):
            yield self.rows(wanted[start : start + size])


def write_expression(path: Path | str, expression: Expression, inputs: str) -> None:
    """Write an .h5ad by rename; `inputs` is the digest of what it was made from."""
    data = anndata.AnnData(
        X=expression.values,
        obs=expression.obs,
        var=var_table(expression.genes, expression.symbols),
        uns={"units": expression.units, "inputs": inputs, "split_by": expression.split_by},
    )
    write_anndata(path, data)


def var_table(genes: list[str], symbols: list[str]) -> pd.DataFrame:
    """The genes' table of an expression file."""
    return pd.DataFrame({"symbol": symbols}, index=pd.Index(genes, name="gene"))


def open_expression(path: Path | str) -> StoredExpression:
    """Open an expression file without reading its profiles; raises as `read_expression`."""
    return StoredExpression(path)


def read_expression(path: Path | str) -> Expression:
    """Read an .h5ad that rnagan build-expression made; raises with its name on anything else, on values that are not
    finite, and on a donor in two splits where the file doesn't say that it was split by sample."""
    data = _open(Path(path), backed=False)
    obs, genes, symbols, units, split_by = _checked(data, Path(path))
    values = dense(data.X)
    if not np.isfinite(values).all():
        raise _not_finite(path)
    return Expression(values, obs, genes, symbols, units, split_by, pooled_spots(data.uns))


def read_embedding(path: Path | str, key: str) -> Expression:
    """The embeddings in `obsm[key]` of an .h5ad that rnagan build-expression made: `values` float32 (samples,
    dimensions), `genes` the dimensions' numbers, `units` obsm:KEY. Raises as `read_expression` and `embedding_of`."""
    data = _open(Path(path), backed=False)
    obs, _, _, _, split_by = _checked(data, Path(path))
    values = embedding_of(data, key, str(path))
    names = [str(number) for number in range(1, values.shape[1] + 1)]
    return Expression(values, obs, names, [""] * len(names), f"obsm:{key}", split_by)


def embedding_of(data: anndata.AnnData, key: str, name: str) -> NDArray[np.float32]:
    """`obsm[key]` of profiles, float32 (samples, dimensions). Raises `ValueError` with the file's `name` where it isn't
    there, is no matrix of numbers, or holds values that are not finite."""
    if key not in data.obsm:
        there = f" (obsm holds {', '.join(map(str, data.obsm))})" if len(data.obsm) else " (its obsm is empty)"
        raise ValueError(f"{name} has no obsm[{key!r}]{there}; put the embedding of each profile there.")
    found = data.obsm[key]
    try:
        values = dense(found.to_numpy() if isinstance(found, pd.DataFrame) else found)
    except (TypeError, ValueError):
        raise ValueError(f"{name} holds something else than numbers in obsm[{key!r}].") from None
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(f"{name} has no dimensions in obsm[{key!r}]; it must be a matrix, a row for each profile.")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds values in obsm[{key!r}] that are not finite; leave those profiles out.")
    return values


def open_profiles(path: Path | str, wanted: str | tuple[str, ...] = ()) -> anndata.AnnData:
    """Read any .h5ad of profiles: X (profiles, genes) in `uns["units"]`, genes in `var_names`; any `obs`.

    Every command takes profiles through here. Units come out as one of UNITS, X converted where it holds another known
    logarithm; without any they stay unsaid. Raises `ValueError` with the file's name without X, on names that come
    twice, on unknown units, on others than a model takes (`wanted`), and on values that contradict them.
    """
    data = _open(Path(path), backed=False)
    units = stated_units(data.uns, path)
    becomes = SCALES[units].units if units in SCALES else units
    taken = (wanted,) if isinstance(wanted, str) else wanted
    if taken and becomes not in taken:
        model = f"was trained on {taken[0]}" if len(taken) == 1 else f"takes {', '.join(taken)}"
        how = "convert it, and say so in its uns['units']"
        if CENTRED in (becomes, *taken):
            how = f"make it {'with' if becomes != CENTRED else 'without'} rnagan build-expression --centre-by"
        raise ValueError(f"{path} is in {becomes or 'unknown units'} and the model {model}; {how}.")
    if units is None or units == CENTRED:
        return data
    x = dense(data.X)
    evidence = Evidence(genes_are_rows=False)
    measured = np.isfinite(x).all(axis=1)  # NaN is a gene that wasn't measured
    evidence.add(x if measured.all() else x[measured])
    proved = as_proved(units, refuse_contradiction(evidence, units, path))
    if proved in SCALES:
        data.X, proved = to_known_units(x, proved)
    data.uns["units"] = proved
    return data


def pooled_spots(uns: Mapping[str, Any]) -> int:
    """How many neighbours' counts each spot of an .h5ad has beside its own, by its `uns`."""
    return int(uns.get(POOLED, 0))


def inputs_digest(path: Path | str) -> str | None:
    """Digest of the inputs that an .h5ad was made from; None where there is no such file."""
    if not Path(path).is_file():
        return None
    data = _open(Path(path), backed=True)
    digest = data.uns.get("inputs")
    data.file.close()
    return str(digest)


def _checked(data: anndata.AnnData, path: Path) -> tuple[pd.DataFrame, list[str], list[str], str, str]:
    """obs, genes, symbols, units and split_by of an expression file."""
    missing = [name for name in OBS_COLUMNS if name not in data.obs.columns]
    if missing or "units" not in data.uns:
        lacks = f"the obs column {missing[0]}" if missing else "uns['units']"
        raise ValueError(f"{path} lacks {lacks}; make it with rnagan build-expression.")
    units = stated_units(data.uns, path)
    if units not in UNITS:
        raise ValueError(f"{path} is in {units}; make it with rnagan build-expression, which converts it.")
    for name in OBS_COLUMNS:
        if data.obs[name].isna().any():
            raise ValueError(f"{path} has profiles without a {name} ({data.obs_names[data.obs[name].isna()][0]}).")
    obs, split_by = data.obs[list(OBS_COLUMNS)].astype(str), str(data.uns.get("split_by", "donor"))
    if split_by not in CAVEATS:
        refuse_leakage(obs, "donor", str(path))
    symbols = words(data.var["symbol"]) if "symbol" in data.var else [""] * data.n_vars
    return obs, data.var_names.tolist(), symbols, units, split_by


def _open(path: Path, *, backed: bool) -> anndata.AnnData:
    if not path.is_file():
        raise FileNotFoundError(f"The expression file {path} does not exist; make it with rnagan build-expression.")
    return read_h5ad(path, backed=backed)


def _not_finite(path: Path | str) -> ValueError:
    return ValueError(f"{path} holds values that are not finite; make it with rnagan build-expression.")
