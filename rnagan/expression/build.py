"""One expression file of a cohort from an expression table: profiles joined to donor, tissue and split."""

from pathlib import Path

import numpy as np
import pandas as pd

import rnagan
from rnagan.cohort.table import read_cohort
from rnagan.expression.genes import count_and_names, positions, read_gene_list
from rnagan.expression.store import OBS_COLUMNS, Expression, inputs_digest, write_expression
from rnagan.expression.tables import ExpressionTable, read_table
from rnagan.files import sha256_of, sha256_of_file


def build_expression(
    table: Path,
    cohort: Path,
    out: Path,
    *,
    units: str | None = None,
    genes: Path | None = None,
    sample_column: str = "sample",
) -> list[str]:
    """Write `out` (.h5ad) with the profiles of `table` that `cohort` knows; returns lines that say what happened.

    `genes`: a CSV whose first column lists the genes to keep, in the order wanted. `sample_column`: the first
    column of a CSV or TSV table. Nothing is done when `out` was made from the same inputs. Raises
    with the file's name on bad input, and when no sample is in both tables.
    """
    inputs = _digest_of_inputs(table, cohort, genes, units, sample_column)
    if inputs_digest(out) == inputs:
        return [f"{out} is up to date."]
    people = profiles_of_cohort(read_cohort(cohort), cohort)
    source = read_table(table, units, sample_column)
    size = f"{len(source.samples):,} samples × {len(source.genes):,} genes"
    lines = [f"{table}: {size} in {source.units} ({source.units_from})."]
    if source.par_y_dropped:
        lines.append(f"Dropped {source.par_y_dropped} genes of the Y chromosome that are copies of a gene on X (PAR).")
    columns = np.arange(len(source.genes))
    if genes is not None:
        columns, line = _choose_genes(source, genes)
        lines.append(line)
    unknown = [sample for sample in source.samples if sample not in people.index]
    without = [sample for sample in people.index if sample not in set(source.samples)]
    rows = np.flatnonzero([sample in people.index for sample in source.samples])
    if len(rows) == 0:
        raise ValueError(
            f"No sample of {table} is in {cohort}: the table starts with {source.samples[0]}, "
            f"the cohort with {people.index[0]}; use the same sample ids."
        )
    if unknown:
        lines.append(f"Left out {count_and_names(unknown, 'sample')} of the table without a row in the cohort.")
    if without:
        lines.append(f"Left out {count_and_names(without, 'sample')} of the cohort without a profile in the table.")
    obs = people.loc[[source.samples[row] for row in rows]]
    made = Expression(
        source.values[np.ix_(rows, columns)],
        obs,
        [source.genes[i] for i in columns],
        [source.symbols[i] for i in columns],
        source.units,
    )
    write_expression(out, made, inputs)
    splits = ", ".join(f"{count:,} {name}" for name, count in obs["split"].value_counts().items())
    lines.append(f"{out}: {len(rows):,} profiles ({splits}) × {len(columns):,} genes.")
    return lines


def profiles_of_cohort(cohort: pd.DataFrame, source: Path) -> pd.DataFrame:
    """One row a sample (index) with OBS_COLUMNS, from a cohort table with a row for each of its slides."""
    people = cohort[["sample", *OBS_COLUMNS]].drop_duplicates()
    twice = people["sample"][people["sample"].duplicated()].tolist()
    if twice:
        raise ValueError(f"{source} gives {count_and_names(twice, 'sample')} more than one donor, tissue or split.")
    return people.set_index("sample")


def _choose_genes(source: ExpressionTable, genes: Path) -> tuple[np.ndarray, str]:
    listed = read_gene_list(genes)
    place = positions(source.genes, listed.ids)
    found, absent = place[place >= 0], [gene for gene, i in zip(listed.ids, place, strict=True) if i < 0]
    if len(found) == 0:
        raise ValueError(
            f"None of the {len(listed.ids):,} genes of {genes} is in the table: the list starts with {listed.ids[0]}, "
            f"the table with {source.genes[0]}; use the same kind of gene id."
        )
    missing = f"; missing {count_and_names(absent, 'gene')}" if absent else ""
    twins = f" ({listed.par_y_dropped} PAR copies dropped)" if listed.par_y_dropped else ""
    surplus = len(source.genes) - len(found)
    return found, f"{genes}: {len(found):,} of {len(listed.ids):,} genes{twins}{missing}; {surplus:,} others left out."


def _digest_of_inputs(table: Path, cohort: Path, genes: Path | None, *options: str | None) -> str:
    for name, path in (("expression table", table), ("cohort table", cohort), ("gene list", genes)):
        if path is not None and not Path(path).is_file():
            raise FileNotFoundError(f"The {name} {path} does not exist.")
    files = [sha256_of_file(path) if path else None for path in (table, cohort, genes)]
    return sha256_of([rnagan.__version__, files, *options])
