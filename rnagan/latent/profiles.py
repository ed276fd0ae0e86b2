"""Profiles of an .h5ad in a β-VAE's genes and units, and .h5ad files of profiles made from them."""

import dataclasses
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from rnagan.api import model_folder
from rnagan.expression.genes import gene_id
from rnagan.expression.h5ad import POOLED, open_profiles, pooled_spots
from rnagan.expression.h5ad_writer import write_anndata
from rnagan.io.files import sha256_of, sha256_of_file
from rnagan.io.matrix_parquet_h5ad import dense, words
from rnagan.io.tables import first_few
from rnagan.models.trained_vae import VAEModel, load_vae
from rnagan.runtime.devices import AUTO, choose_device

OBS = ("donor", "tissue", "split")  # of every file written; "" where unknown
_HEADERS = {"gene", "genes", "gene_id", "gene_symbol", "symbol", "ensembl", "entrez"}


@dataclasses.dataclass(frozen=True)
class Profiles:
    """Profiles `values` float32 (samples, the model's genes) in the model's units, NaN where a gene is missing.

    `obs` has OBS by sample; `symbols`, by gene id, are empty where the file has none. `converted`: they were in other
    units, and have the levels of training profiles in their own order.
    """

    values: NDArray[np.float32]
    obs: pd.DataFrame
    symbols: dict[str, str]
    digest: str
    converted: bool = False


def load_any_vae(folder: Path | str, device: str | torch.device = AUTO) -> VAEModel:
    """The β-VAE of a run of rnagan train-vae, of its model folder, or of a trained RNA-GAN."""
    return load_vae(vae_folder(folder), choose_device(device))


def vae_folder(folder: Path | str) -> Path:
    """The model folder of what `load_any_vae` loads."""
    found = model_folder(folder)
    return found / "vae" if (found / "vae" / "model.json").is_file() else found


class Choice(NamedTuple):
    """Which profiles of which .h5ad: of a split, of a tissue, with these names; by default all."""

    path: Path
    split: str | None = None
    samples: tuple[str, ...] = ()
    tissue: str | None = None


def choose_profiles(
    choice: Choice, units: str | tuple[str, ...], known: Collection[str] | None = None
) -> tuple[anndata.AnnData, int]:
    """The profiles of a choice, and how many were left out because their tissue isn't in `known`.

    With names they come in that order, of whatever tissue. `units`: those that the model takes. `known`: tissues that
    the model generates; None takes all, and so does a file without a column tissue. Raises `FileNotFoundError` where
    there is no file, `ValueError` on other units, a name or a column that isn't there, or where no profile is left,
    and as `open_profiles`.
    """
    path, split, samples, tissue = choice
    adata = open_profiles(path, units)
    meant = (f" in split {split}" if split else "") + (f" of tissue {tissue}" if tissue else "")
    for column, value in (("split", split), ("tissue", tissue)):
        if value and column not in adata.obs:
            raise ValueError(f"{path} has no obs column {column}; leave --{column} out.")
    there = sorted(set(adata.obs["tissue"].astype(str))) if tissue else []
    for column, value in (("split", split), ("tissue", tissue)):
        adata = adata[(adata.obs[column].astype(str) == value).to_numpy()] if value else adata
    left_out = 0
    if samples:
        unknown = sorted(set(samples) - set(adata.obs_names))
        if unknown:
            raise ValueError(f"{path} has no profile {first_few(unknown)}{meant}.")
        adata = adata[list(dict.fromkeys(samples))]
    elif known is not None and "tissue" in adata.obs:
        seen = adata.obs["tissue"].isin(known).to_numpy()
        left_out, adata = int((~seen).sum()), adata[seen]
        meant += "" if tissue else f" of a tissue that the model knows ({', '.join(known)})"
    if not adata.n_obs:
        asked_for = f" among those asked for ({first_few(there, 9)})" if there else ""
        raise ValueError(f"{path} has no profile{meant}{asked_for}.")
    return adata.copy(), left_out


def profiles_of_model(choice: Choice, model: VAEModel) -> Profiles:
    """The profiles of a choice in the model's genes and units; raises as `choose_profiles`.

    Profiles in other units, of a model that takes them, come with the levels of its training profiles in their own
    order.
    """
    transform = model.transform
    adata, _ = choose_profiles(choice, transform.accepts)
    model.warn_of_pooling(pooled_spots(adata.uns), str(choice.path))
    obs = pd.DataFrame(
        {name: adata.obs[name].astype(str) if name in adata.obs else "" for name in OBS}, adata.obs_names
    )
    values = in_genes_of(model, dense(adata.X), list(adata.var_names))
    converted = adata.uns["units"] != transform.units
    values = in_units_of(model, values, adata.uns["units"])
    return Profiles(values, obs, symbols_of(adata), sha256_of_file(choice.path), converted)


def in_units_of(model: VAEModel, values: NDArray[np.float32], units: str) -> NDArray[np.float32]:
    """Profiles (samples, the model's genes) in the model's units; those in other `units`, which the model must take,
    get the levels of its training profiles in their own order. NaN stays."""
    transform = model.transform
    if units == transform.units:
        return values
    scores = transform.apply(values, transform.genes, units)
    return transform.invert(np.where(np.isnan(values), np.float32(np.nan), scores))


def in_genes_of(model: VAEModel, x: NDArray[np.floating], genes: list[str]) -> NDArray[np.float32]:
    """Profiles (samples, genes) as float32 (samples, the model's genes), NaN where `genes` lacks one."""
    place = model.transform.columns(genes)
    known = place >= 0
    values = np.full((len(x), len(place)), np.nan, np.float32)
    values[:, known] = np.asarray(x)[:, place[known]]
    return values


def gene_columns(given: str, model: VAEModel, symbols: dict[str, str]) -> tuple[NDArray[np.intp], list[str]]:
    """Columns of the model's genes that `given` names, and the names that aren't among them.

    `given`: ids or symbols with commas between, or a file with one in the first column of each line (a header is
    passed over). Raises `ValueError` where a symbol stands for several genes, or none is known.
    """
    return columns_of_names(_names(given), model, symbols)


def columns_of_names(names: list[str], model: VAEModel, symbols: dict[str, str]) -> tuple[NDArray[np.intp], list[str]]:
    """As `gene_columns`, of ids or symbols; no file is read."""
    place = {gene: column for column, gene in enumerate(model.transform.genes)}
    by_symbol = genes_by_symbol(model, symbols)
    columns, unknown = [], []
    for name in names:
        found = [gene_id(name)] if gene_id(name) in place else by_symbol.get(name.casefold(), [])
        if len(found) > 1:
            raise ValueError(f"The symbol {name} stands for {', '.join(found)}; give the id of the one that you mean.")
        columns += [place[gene] for gene in found]
        unknown += [] if found else [name]
    if not columns:
        hint = "" if by_symbol else " (the profiles hold no symbols, so give ids)"
        raise ValueError(f"The model has no gene {first_few(names)}; its first is {model.transform.genes[0]}{hint}.")
    return np.array(sorted(set(columns)), np.intp), unknown


def genes_by_symbol(model: VAEModel, symbols: dict[str, str]) -> dict[str, list[str]]:
    """The model's genes by their symbol in small letters; `symbols`: by gene."""
    known, found = set(model.transform.genes), dict[str, list[str]]()
    for gene, symbol in symbols.items():
        if gene in known and symbol:
            found.setdefault(symbol.casefold(), []).append(gene)
    return found


def write_profiles(
    path: Path, model: VAEModel, values: NDArray[np.float32], obs: pd.DataFrame, symbols: dict[str, str], asked: Any
) -> tuple[int, float]:
    """Write profiles (samples, the model's genes) in the model's units as an .h5ad, by rename.

    `obs` by sample gets `distance`, `residual` and `far` of the profiles written. `asked`: the request, as a JSON-able
    value. Returns how many are far, and the median distance.
    """
    genes = model.transform.genes
    with warnings.catch_warnings():  # reported as numbers
        warnings.simplefilter("ignore", UserWarning)
        encoding = model.encode(values, genes, model.transform.units)
    obs = obs.assign(distance=encoding.distance, residual=encoding.residual, far=encoding.far)
    var = pd.DataFrame(index=pd.Index(genes, name="gene"))
    if symbols:
        var["symbol"] = [symbols.get(gene, "") for gene in genes]
    about = {"units": model.transform.units, "inputs": sha256_of(asked)}
    about |= {name: model.record[name] for name in (POOLED,) if name in model.record}
    data = anndata.AnnData(X=values, obs=obs.rename_axis("sample"), var=var, uns=about)
    write_anndata(path, data)
    return int(encoding.far.sum()), float(np.median(encoding.distance))


def symbols_of(adata: anndata.AnnData) -> dict[str, str]:
    """Symbols by gene id; empty where the file has none."""
    if "symbol" not in adata.var:
        return {}
    return dict(zip(map(gene_id, adata.var_names), words(adata.var["symbol"]), strict=True))


def gene_names(path: Path) -> list[str]:
    """The genes of an .h5ad, or of a list with one in the first column of each line (a header is passed over)."""
    return list(open_profiles(path).var_names) if path.suffix.lower() == ".h5ad" else _names(str(path))


def _names(given: str) -> list[str]:
    if Path(given).is_file():
        lines = Path(given).read_text(encoding="utf-8-sig").splitlines()
        names = [line.replace("\t", ",").split(",")[0].strip().strip('"') for line in lines]
        names = [name for name in names if name]
        names = names[1:] if names and names[0].casefold() in _HEADERS else names
    elif "/" in given or given.endswith((".txt", ".csv", ".tsv")):
        raise FileNotFoundError(f"The gene list {given} does not exist.")
    else:
        names = [name.strip() for name in given.split(",") if name.strip()]
    if not names:
        raise ValueError(f"The gene list {given!r} is empty; give ids or symbols with commas between, or a file.")
    return names
