"""Programmes of genes: tables of gene and loading, and how high each programme is in a profile."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.expression.genes import gene_id
from rnagan.io.tables import need_columns, read_table
from rnagan.models.trained_vae import VAEModel


def read_programmes(path: Path, loadings: bool = True) -> dict[str, pd.DataFrame]:
    """The programmes of a table with columns gene, loading and, where it holds several, programme: gene (text) and
    loading (float64) of each, by name; one alone is called like the file. Without `loadings` a table of genes alone is
    accepted, all of loading 1.

    Raises `FileNotFoundError` where there is no table, `ValueError` where it lacks a column or a loading is no number.
    """
    if not path.is_file():
        raise FileNotFoundError(f"The table of programmes {path} does not exist.")
    table = read_table(path)
    need_columns(list(table), ("gene", "loading") if loadings else ("gene",), path)
    try:
        loading = table["loading"].astype(float) if "loading" in table else pd.Series(1.0, table.index)
    except ValueError as error:
        raise ValueError(f"{path} holds a loading that is no number ({error}).") from None
    genes = pd.DataFrame({"gene": table["gene"], "loading": loading})
    names = table["programme"] if "programme" in table else pd.Series(path.stem, table.index)
    return {str(name): own.reset_index(drop=True) for name, own in genes.groupby(names)}


def genes_of_model(
    programme: pd.DataFrame, name: str, vae: VAEModel, path: Path
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Columns of the model's genes that a programme has, and their loadings; `ValueError` where it has none."""
    place = {gene: column for column, gene in enumerate(vae.transform.genes)}
    columns = np.array([place.get(gene_id(gene), -1) for gene in programme["gene"]], np.intp)
    known = columns >= 0
    if not known.any():
        raise ValueError(f"The model has none of the genes of {name} in {path}; are they the same kind of ids?")
    return columns[known], programme["loading"].to_numpy(np.float64)[known]


def scores(z: NDArray[np.float32], columns: NDArray[np.intp], loading: NDArray[np.float64]) -> NDArray[np.float64]:
    """How high a programme is in profiles (samples, genes) of Z scores: the mean of its genes weighted by loading,
    (samples,)."""
    return z[:, columns].astype(np.float64) @ loading / max(np.abs(loading).sum(), 1e-12)
