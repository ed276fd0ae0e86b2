"""Scores of pathways, a baseline for any latent: the mean normal score of a gene set's genes in a profile."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from rnagan.expression.genes import gene_id
from rnagan.expression.h5ad import open_profiles
from rnagan.expression.h5ad_writer import write_anndata
from rnagan.io.matrix_parquet_h5ad import dense, words
from rnagan.io.tables import UNREADABLE, first_few, open_bytes, text_lines

KEY = "X_pathways"


class Scored(NamedTuple):
    """`values` float32 (samples, sets) of the sets called `names`; `left_out`: those with too few of the genes."""

    values: NDArray[np.float32]
    names: list[str]
    left_out: list[str]


def read_gmt(path: Path) -> dict[str, list[str]]:
    """Gene sets of a GMT file (name, description, then a gene a cell, tab-separated), by name.

    Raises `FileNotFoundError` where there is no file, `ValueError` with its name and the line on anything else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"The gene sets {path} do not exist.")
    sets: dict[str, list[str]] = {}
    try:
        with open_bytes(path) as handle:
            for number, line in enumerate(text_lines(handle), start=1):
                cells = [cell.strip() for cell in line.split("\t")]
                genes = list(dict.fromkeys(filter(None, cells[2:])))
                if not any(cells):
                    continue
                if not cells[0] or not genes:
                    raise ValueError(
                        f"{path} is no GMT file: line {number} must hold a name, a description and genes, with tabs "
                        "between."
                    )
                if cells[0] in sets:
                    raise ValueError(f"{path} names the set {cells[0]} again on line {number}; keep one of them.")
                sets[cells[0]] = genes
    except UNREADABLE as error:
        raise error if str(path) in str(error) else ValueError(f"{path} can't be read ({error}).") from None
    if not sets:
        raise ValueError(f"{path} holds no gene set.")
    return sets


def pathway_scores(
    x: NDArray[np.floating], genes: list[str], symbols: list[str], sets: dict[str, list[str]], least: int = 5
) -> Scored:
    """Mean over a set's genes of Φ⁻¹((rank − ½) / m), with average ranks among the m genes that a profile has.

    `x` (samples, genes) in any units, NaN where a gene wasn't measured. Genes of sets are ids or symbols. Only the
    order of a profile's genes counts, and each profile is scored by itself. A set needs `least` of the genes; the score
    of a profile that has none of them is 0, the mean of all genes. Raises `ValueError` where no set is left.
    """
    place = {symbol.casefold(): column for column, symbol in enumerate(symbols) if symbol}
    place |= {gene_id(gene).casefold(): column for column, gene in enumerate(genes)}
    columns = {
        name: sorted({place[known] for gene in own if (known := gene_id(gene).casefold()) in place})
        for name, own in sets.items()
    }
    kept = {name: own for name, own in columns.items() if len(own) >= least}
    if not kept:
        raise ValueError(
            f"No gene set has {least} of the profiles' genes: the profiles' start with {genes[0]}, those of the sets "
            f"with {next(iter(sets.values()))[0]}; use the same ids, or symbols, which the profiles have in var's "
            "column symbol."
        )
    ranks = rankdata(x, axis=1, nan_policy="omit")
    measured = ~np.isnan(x)
    scores = ndtri((ranks - 0.5) / measured.sum(axis=1, keepdims=True))
    scores = np.where(measured, scores, 0.0)
    values = [scores[:, own].sum(axis=1) / np.maximum(measured[:, own].sum(axis=1), 1) for own in kept.values()]
    left_out = [name for name in sets if name not in kept]
    return Scored(np.stack(values, axis=1).astype(np.float32), list(kept), left_out)


def score_pathways(profiles: Path, gmt: Path, out: Path, key: str = KEY, least: int = 5) -> list[str]:
    """Copy an .h5ad of profiles to `out` with their scores in `obsm[key]` and the sets' names in uns; returns
    lines for the user. Raises as `open_profiles`, `read_gmt` and `pathway_scores`."""
    sets, data = read_gmt(gmt), open_profiles(profiles)
    symbols = words(data.var["symbol"]) if "symbol" in data.var else [""] * data.n_vars
    scored = pathway_scores(dense(data.X), data.var_names.tolist(), symbols, sets, least)
    data.obsm[key], data.uns[f"{key}_names"] = scored.values, np.array(scored.names, dtype=object)
    write_anndata(out, data)
    lines = [f"{out}: {len(scored.values):,} profiles × {len(scored.names):,} gene sets in obsm[{key!r}]."]
    if scored.left_out:
        few = first_few(scored.left_out)
        lines.insert(0, f"Left out {len(scored.left_out):,} sets with fewer than {least} of the genes ({few}).")
    return lines
