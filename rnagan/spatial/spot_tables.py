"""The spots' own tables: SECTION.h5ad of each section, and of them together spots.csv and counts.h5ad."""

from collections.abc import Sequence
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scipy.sparse
from numpy.typing import NDArray

import rnagan
from rnagan.expression.h5ad import inputs_digest
from rnagan.expression.h5ad_writer import write_anndata
from rnagan.io.cells import safe_table
from rnagan.io.files import sha256_of, sha256_of_file, write_text
from rnagan.io.matrix_parquet_h5ad import read_h5ad
from rnagan.io.tables import first_few
from rnagan.spatial.section import Section, Spots

SPOTS, COUNTS, TABLES = "spots.csv", "counts.h5ad", "sections"
_OWN = ("spot", "x", "y", "array_row", "array_col", "counts", "reason")  # columns of obs of a section's table


def table_of_section(out: Path, section: str) -> Path:
    """Where the table of a section lies."""
    return out / TABLES / f"{section}.h5ad"


def spot_names(section: Section, barcodes: Sequence[str]) -> list[str]:
    """The name of each spot among all sections: barcodes come again in each."""
    return [f"{section.name}_{barcode}" for barcode in barcodes]


def total_counts(spots: Spots) -> NDArray[np.int64]:
    """Counts over all genes of each spot, (n,); 0 where it has none."""
    sums = np.append(np.asarray(spots.counts.sum(axis=1)).ravel(), 0)
    return sums[spots.rows].astype(np.int64)


def write_section_table(
    out: Path,
    section: Section,
    spots: Spots,
    names: Sequence[str],
    usable: NDArray[np.bool_],
    dropped: NDArray[np.object_],
    mpp: float,
) -> Path:
    """Write the table of a section by rename: the spots that are `usable` (n,) with their counts, why each became no
    tile (`dropped`, (n,), '' where it did), and its place in µm. Returns its path."""
    chosen = np.flatnonzero(usable)
    grid = np.full((len(names), 2), -1) if spots.grid is None else spots.grid.rows_columns
    obs = pd.DataFrame(
        {
            "x": (spots.xy[chosen, 0] * mpp).round(3),
            "y": (spots.xy[chosen, 1] * mpp).round(3),
            "array_row": grid[chosen, 0],
            "array_col": grid[chosen, 1],
            "counts": total_counts(spots)[chosen],
            "reason": dropped[chosen].astype(str),
        },
        index=pd.Index([names[n] for n in chosen.tolist()], dtype=str),
    )
    var = pd.DataFrame({"symbol": spots.genes.symbols}, index=pd.Index(spots.genes.names, dtype=str))
    x = spots.counts[spots.rows[chosen]].astype(np.int32)
    uns = {"units": "counts", "complete": bool(spots.genes.complete), "has_array": spots.grid is not None}
    path = table_of_section(out, section.name)
    write_anndata(path, anndata.AnnData(x, obs, var, uns))
    return path


def join_tables(out: Path, sections: Sequence[Section]) -> list[str]:
    """Write spots.csv and counts.h5ad of sections whose tables are there, and return lines that say what they hold.

    Genes are those of every section that lists all it measured; a gene that a table of seen genes lacks counts 0.
    Raises `ValueError` where a spot's name comes twice, and where no gene is left.
    """
    labels = {s.name: {"donor": s.donor, "tissue": s.tissue, "site": s.site} for s in sections}
    made_from = [(name, of, sha256_of_file(table_of_section(out, name))) for name, of in labels.items()]
    digest = sha256_of([rnagan.__version__, made_from])
    if inputs_digest(out / COUNTS) == digest and (out / SPOTS).is_file():
        return [f"{out / SPOTS} and {out / COUNTS} are up to date."]
    tables = {name: read_h5ad(table_of_section(out, name), backed=False, stays_sparse=True) for name in labels}
    genes, symbols = common_genes(tables)
    rows, parts = [], []
    for name, table in tables.items():
        obs = table.obs.rename_axis("spot").reset_index().assign(section=name, **labels[name])
        obs["reason"] = obs["reason"].astype(str)
        for column in ("array_row", "array_col"):
            obs[column] = obs[column].astype(str) if table.uns["has_array"] else ""
        rows.append(obs[["section", "donor", "tissue", "site", *_OWN]])
        parts.append(_of_genes(table, genes))
    spots = pd.concat(rows, ignore_index=True)
    if (twice := spots["spot"].duplicated()).any():
        raise ValueError(f"Spots of several sections are both called {spots.loc[twice, 'spot'].iloc[0]}; rename one.")
    everything = anndata.AnnData(
        scipy.sparse.csr_matrix(scipy.sparse.vstack(parts)),
        spots[["section", "donor", "tissue"]].set_index(pd.Index(spots["spot"].to_numpy(str))),
        pd.DataFrame({"symbol": symbols}, index=pd.Index(genes, dtype=str)),
        {"units": "counts", "inputs": digest},
    )
    write_text(out / SPOTS, safe_table(spots).to_csv(index=False))
    write_anndata(out / COUNTS, everything)
    of_any = len(set().union(*(table.var_names for table in tables.values())))
    with_tiles = int((spots["reason"] == "").sum())
    lines = [f"{out / SPOTS}: {len(spots):,} spots with counts, {with_tiles:,} of them with a tile."]
    if of_any > len(genes):
        lines.append(f"{of_any - len(genes):,} genes left out: not measured in every section.")
    return [*lines, f"{out / COUNTS}: {len(spots):,} spots × {len(genes):,} genes, raw counts."]


def common_genes(tables: dict[str, anndata.AnnData]) -> tuple[list[str], list[str]]:
    """Genes of all sections, in the order of the first that has them, and their symbols."""
    symbol_of: dict[str, str] = {}
    for table in tables.values():
        for gene, symbol in zip(table.var_names, table.var["symbol"].astype(str), strict=True):
            symbol_of[gene] = symbol_of.get(gene) or symbol
    complete = [set(table.var_names) for table in tables.values() if table.uns["complete"]]
    genes = [gene for gene in symbol_of if all(gene in own for own in complete)]
    if not genes:
        raise ValueError(f"Sections {first_few(tables)} have no gene in common; build them into folders of their own.")
    return genes, [symbol_of[gene] for gene in genes]


def _of_genes(table: anndata.AnnData, genes: list[str]) -> scipy.sparse.csr_matrix:
    """Its counts by a list of genes; 0 where it has no such gene."""
    columns = pd.Index(genes).get_indexer(table.var_names)
    own = np.flatnonzero(columns >= 0)
    into = scipy.sparse.csr_matrix((np.ones(len(own), np.int32), (own, columns[own])), (table.n_vars, len(genes)))
    return scipy.sparse.csr_matrix(scipy.sparse.csr_matrix(table.X) @ into)
