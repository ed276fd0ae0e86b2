"""A section as AnnData (.h5ad), by the convention of scanpy and squidpy: `obsm["spatial"]` in full-resolution pixels,
`uns["spatial"][LIBRARY]["scalefactors"]`, counts in X or `layers["counts"]`."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse
from numpy.typing import NDArray

from rnagan.io.gene_names import parse_gene
from rnagan.io.matrix_parquet_h5ad import read_h5ad, words
from rnagan.io.matrix_rows import SYMBOL_WORDS
from rnagan.spatial.section import SPOT_PITCH_UM, VISIUM_STEP_UM, Genes, Grid, Section, Spots

_ID_COLUMNS = ("gene_ids", "gene_id", "ensembl_id", "ensembl")


def input_files(section: Section) -> list[Path]:
    return [section.path]


def read_genes(section: Section) -> Genes:
    """The genes of a file, without its counts."""
    data = read_h5ad(section.path, backed=True)
    try:
        return genes_of(data)
    finally:
        data.file.close()


def read_anndata(section: Section) -> Spots:
    """The spots of a file. `ValueError` says what is missing, and where its numbers are no counts."""
    path = section.path
    with warnings.catch_warnings():  # of names that come twice, which are refused
        warnings.simplefilter("ignore", UserWarning)
        data = read_h5ad(path, backed=False, stays_sparse=True)
    if "spatial" not in data.obsm:
        raise ValueError(
            f"{path} has no obsm['spatial'] (it has {', '.join(data.obsm) or 'none'}); put positions there."
        )
    xy = np.asarray(data.obsm["spatial"], np.float64)
    if xy.ndim != 2 or xy.shape[1] < 2 or not np.isfinite(xy[:, :2]).all():
        raise ValueError(f"{path} has no x and y for each spot in obsm['spatial'].")
    factors = _scale_factors(data, path)
    obs = data.obs
    grid = None
    if {"array_row", "array_col"} <= set(obs):
        step = float(factors.get("bin_size_um") or 0)
        places = obs[["array_row", "array_col"]].apply(pd.to_numeric, errors="coerce")
        if np.isfinite(places).all(axis=None):
            grid = Grid(places.to_numpy(np.int64), (step, step) if step else VISIUM_STEP_UM)
    is_visium = "spot_diameter_fullres" in factors and "bin_size_um" not in factors
    reduced = {"hires": "tissue_hires_scalef", "lowres": "tissue_lowres_scalef"}
    return Spots(
        obs.index.astype(str).tolist(),
        xy[:, :2].copy(),
        in_tissue_of(obs),
        np.arange(len(obs), dtype=np.int64),
        counts_of(data, path),
        genes_of(data),
        grid,
        pitch_um=SPOT_PITCH_UM if grid is None and is_visium else None,
        stated_mpp=float(factors["microns_per_pixel"]) if factors.get("microns_per_pixel") else None,
        scales={name: float(factors[key]) for name, key in reduced.items() if factors.get(key)},
    )


def in_tissue_of(obs: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether each spot is in tissue, (spots,); all are where the table doesn't say."""
    if "in_tissue" not in obs:
        return np.ones(len(obs), bool)
    return pd.to_numeric(obs["in_tissue"].astype(str).replace({"True": "1", "False": "0"})).to_numpy() > 0


def counts_of(data: anndata.AnnData, path: Path) -> scipy.sparse.csr_matrix:
    """Counts (spots, genes) of layers["counts"], or of X. `ValueError` where they are none."""
    where = "layers['counts']" if "counts" in data.layers else "X"
    counts = scipy.sparse.csr_matrix(data.layers.get("counts", data.X))
    if counts.nnz and not (np.isfinite(counts.data).all() and (counts.data >= 0).all() and not (counts.data % 1).any()):
        raise ValueError(
            f"{path} holds no counts in {where}: it has negative numbers or fractions; put the raw counts into "
            "layers['counts']."
        )
    return counts


def genes_of(data: anndata.AnnData) -> Genes:
    """By Ensembl id where the names or a column of var are such; symbols from the names, or a column, otherwise."""
    names, var = data.var_names.astype(str).tolist(), data.var
    symbols = next((words(var[name]) for name in var if str(name).casefold() in SYMBOL_WORDS), [""] * len(names))
    if mostly_ensembl(names):
        return Genes(names, symbols)
    for column in _ID_COLUMNS:
        if column in var and mostly_ensembl(ids := words(var[column])) and len(set(ids)) == len(ids):
            return Genes(ids, names)
    return Genes(names, [""] * len(names))


def mostly_ensembl(names: list[str]) -> bool:
    """Whether most of some genes' names are Ensembl ids."""
    return sum(parse_gene(name).kind == "ensembl" for name in names) > len(names) / 2


def _scale_factors(data: anndata.AnnData, path: Path) -> Mapping[str, Any]:
    """Those of the one library of a file; none where it has no library."""
    libraries = data.uns.get("spatial", {})
    if not isinstance(libraries, Mapping) or not libraries:
        return {}
    if len(libraries) > 1:
        raise ValueError(
            f"{path} holds {len(libraries)} libraries in uns['spatial'] ({', '.join(map(str, libraries))}); write each "
            "section into a file of its own."
        )
    (library,) = libraries.values()
    factors = library.get("scalefactors", {}) if isinstance(library, Mapping) else {}
    return factors if isinstance(factors, Mapping) else {}
