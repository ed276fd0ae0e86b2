"""One expression file of a cohort from an expression table: profiles joined to donor, tissue and split."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import rnagan
from rnagan.cohort.table import CAVEATS, read_cohort, split_by
from rnagan.expression.checked_table import CheckedTable, open_table
from rnagan.expression.gene_map import read_gene_map
from rnagan.expression.gene_selection import GeneChoice, choose_genes, count_by_status, read_gene_list, read_gtf
from rnagan.expression.genes import count_and_names, gene_id
from rnagan.expression.h5ad import OBS_COLUMNS, POOLED, ProfileWriter, inputs_digest, open_expression, var_table
from rnagan.expression.spot_steps import SpotSteps, prepare_spots, profiles_of_spots
from rnagan.expression.transpose import Transposer
from rnagan.expression.units import CENTRED, check_units
from rnagan.io.cells import safe_table
from rnagan.io.files import atomic_path, sha256_of, sha256_of_file


def build_expression(
    table: Path,
    cohort: Path,
    out: Path,
    *,
    units: str | None = None,
    genes: Path | None = None,
    gtf: Path | None = None,
    gene_map: Path | None = None,
    rows: str | None = None,
    sample_column: str = "sample",
    min_overlap: float = 0.5,
    min_spots: int = 0,
    pool_spots: int = 0,
    centre_by: str = "",
) -> list[str]:
    """Write `out` (.h5ad) with the profiles of `table` that `cohort` knows; returns lines that say what happened.

    `genes`: a CSV whose first column lists the genes to keep, in the order wanted, or an .h5ad that has them; or `gtf`:
    its protein-coding genes.
    `gene_map`: a table that gives Ensembl ids to Entrez ids or symbols. `rows` (samples or genes) and `sample_column`
    say how the table lies, where its header doesn't. Fewer than `min_overlap` (0 to 1) of the genes wanted are refused.
    `min_spots`, `pool_spots`, `centre_by`: as `SpotSteps`. What became of every gene is written beside `out`, in
    NAME.genes.csv. Nothing is done when `out` was made from the same inputs. Memory does not grow with the table.
    Raises with the file's name on bad input, and when no sample is in both tables.
    """
    check_units(units)
    if genes is not None and gtf is not None:
        raise ValueError("--genes and --gtf both say which genes to keep; give one of them.")
    if not 0 <= min_overlap <= 1:
        raise ValueError(f"--min-overlap is a share from 0 to 1, not {min_overlap:g}.")
    steps = SpotSteps(min_spots, pool_spots, centre_by)
    asked: list[object] = [units, rows, sample_column, min_overlap, *([dataclasses.astuple(steps)] if steps else [])]
    inputs = _digest_of_inputs(table, cohort, genes, gtf, gene_map, asked)
    if inputs_digest(out) == inputs:
        return [f"{out} is up to date."]
    people_table = read_cohort(cohort)
    people, by = profiles_of_cohort(people_table, cohort), split_by(people_table)
    spots = profiles_of_spots(people_table, steps, cohort, table) if steps else None
    wanted = read_gene_list(genes) if genes else read_gtf(gtf) if gtf else None
    mapping = read_gene_map(gene_map) if gene_map else None
    source = open_table(table, rows, sample_column)
    if source.matrix.rows_are == "genes":
        _need_samples(source.matrix.names, people, source, cohort)
    choose = functools.partial(choose_genes, table=source.path, wanted=wanted, mapping=mapping, min_overlap=min_overlap)
    done: list[str] = []
    with atomic_path(out) as temporary:
        joined = temporary if spots is None else temporary.parent / "as_in_table.h5ad"
        with ProfileWriter(joined) as writer:
            if source.matrix.rows_are == "samples":
                samples, choice = _from_samples(source, people, choose, writer)
            else:
                listed = set(wanted.ids) if wanted is not None and mapping is None else None
                turned = temporary.parent / "genes_by_samples"
                samples, choice = _from_genes(source, people, listed, choose, writer, turned)
            _need_samples(samples, people, source, cohort)
            found = source.units(units)
            if found.convert is not None:
                writer.convert(found.convert)
            obs = people.loc[[sample for sample in samples if sample in people.index]]
            uns: dict[str, Any] = {"units": found.units, "inputs": inputs, "split_by": by}
            writer.finish(obs, var_table(choice.ids, choice.symbols), uns)
        if spots is not None:
            with open_expression(joined) as stored, ProfileWriter(temporary) as writer:
                columns, done = prepare_spots(stored, spots, steps, writer)
                choice = choice.frequent(columns)
                uns |= {"units": CENTRED, "centred_by": centre_by} if centre_by else {}
                uns |= {POOLED: pool_spots} if pool_spots else {}
                writer.finish(obs.join(spots[steps.columns]), var_table(choice.ids, choice.symbols), uns)
        report = out.with_suffix(".genes.csv")
        with atomic_path(report) as unfinished:
            safe_table(choice.report).to_csv(unfinished, index=False)
    lines = [
        f"{table}: {len(samples):,} samples × {_genes_of_table(choice):,} genes in {found.units} "
        f"({found.why}); rows are {source.matrix.rows_are} ({source.matrix.why}).",
    ]
    if source.matrix.ignored:
        lines.append(f"Left out {count_and_names(source.matrix.ignored, 'column')}: no expression.")
    lines += [found.warning] if found.warning else []
    lines += [*choice.lines, *done]
    unknown = [sample for sample in samples if sample not in people.index]
    given = set(samples)
    without = [sample for sample in people.index if sample not in given]
    if unknown:
        lines.append(f"Left out {count_and_names(unknown, 'sample')} of the table without a row in the cohort.")
    if without:
        lines.append(f"Left out {count_and_names(without, 'sample')} of the cohort without a profile in the table.")
    lines.append(f"{report}: {count_by_status(choice.report)}.")
    if by in CAVEATS:
        lines.append(CAVEATS[by])
    splits = ", ".join(f"{count:,} {name}" for name, count in obs["split"].value_counts().items())
    lines.append(f"{out}: {len(obs):,} profiles ({splits}) × {len(choice.ids):,} genes.")
    return lines


def profiles_of_cohort(cohort: pd.DataFrame, source: Path) -> pd.DataFrame:
    """One row a sample (index) with OBS_COLUMNS, from a cohort table with a row for each of its slides."""
    people = cohort[["sample", *OBS_COLUMNS]].drop_duplicates()
    twice = people["sample"][people["sample"].duplicated()].tolist()
    if twice:
        raise ValueError(f"{source} gives {count_and_names(twice, 'sample')} more than one donor, tissue or split.")
    return people.set_index("sample")


def _from_samples(
    source: CheckedTable,
    people: pd.DataFrame,
    choose: Callable[..., GeneChoice],
    writer: ProfileWriter,
) -> tuple[list[str], GeneChoice]:
    """Rows are samples: each is written as it comes. Returns all samples of the table, and its genes."""
    choice, samples = choose(source.matrix.names, source.matrix.symbols), []
    for block in source.blocks():
        samples += block.labels
        known = np.array([label in people.index for label in block.labels])
        writer.append(_part(block.values, known, choice.columns))
    return samples, choice


def _from_genes(
    source: CheckedTable,
    people: pd.DataFrame,
    listed: set[str] | None,
    choose: Callable[..., GeneChoice],
    writer: ProfileWriter,
    scratch: Path,
) -> tuple[list[str], GeneChoice]:
    """Rows are genes: they are turned round on disk, without those that aren't `listed`. Returns as `_from_samples`."""
    known = np.flatnonzero([sample in people.index for sample in source.matrix.names])
    names: list[str] = []
    symbols: list[str] = []
    stored: list[NDArray[np.intp]] = []
    with Transposer(scratch, len(known)) as turned:
        for block in source.blocks():
            keep = np.array([listed is None or gene_id(label) in listed for label in block.labels])
            turned.add(_part(block.values, keep, known))
            stored.append(np.flatnonzero(keep) + len(names))
            names += block.labels
            symbols += block.symbols
        choice = choose(names, symbols)
        for band in turned.rows(np.searchsorted(np.concatenate(stored), choice.columns)):
            writer.append(band)
    return source.matrix.names, choice


def _part(values: NDArray[np.float32], rows: NDArray[np.bool_], columns: NDArray[np.intp]) -> NDArray[np.float32]:
    """Some rows and columns, copied only where they aren't all."""
    if not rows.all():
        values = values[rows]
    return values if np.array_equal(columns, np.arange(values.shape[1])) else values[:, columns]


def _need_samples(samples: list[str], people: pd.DataFrame, source: CheckedTable, cohort: Path) -> None:
    if not samples:
        raise ValueError(f"{source.path} holds no sample; it needs some.")
    if not any(sample in people.index for sample in samples):
        other = "genes" if source.matrix.rows_are == "samples" else "samples"
        raise ValueError(
            f"No sample of {source.path} is in {cohort}: the table starts with {samples[0]}, the cohort with "
            f"{people.index[0]}; use the same sample ids (rows are taken for {source.matrix.rows_are}: "
            f"{source.matrix.why}; if they are {other}, say --rows {other})."
        )


def _genes_of_table(choice: GeneChoice) -> int:
    return int((~choice.report["status"].isin(["missing", "no_gene"])).sum())


def _digest_of_inputs(
    table: Path, cohort: Path, genes: Path | None, gtf: Path | None, gene_map: Path | None, options: list[object]
) -> str:
    named = {"expression table": table, "cohort table": cohort, "gene list": genes, "GTF": gtf, "gene map": gene_map}
    for name, path in named.items():
        if path is not None and not Path(path).is_file():
            raise FileNotFoundError(f"The {name} {path} does not exist.")
    files = [sha256_of_file(path) if path else None for path in named.values()]
    return sha256_of([rnagan.__version__, files, options])
