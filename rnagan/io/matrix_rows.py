"""What every format of expression table becomes when it is opened, and the rule for what its rows are.

Rows are samples or genes; the first of these that decides is named in the line that is printed:
1. `--rows` says it; a GCT's rows are genes;
2. most names of one axis are Ensembl ids (genes), or else ids of GTEx, TCGA, GEO or SRA (samples);
3. the first cell of the header is the sample column's name (samples), or one of `GENE_WORDS` (genes);
4. nothing: the table is refused (AnnData's obs are then samples).
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROWS = ("samples", "genes")
_IDS = ("ensembl", "ensembl_id", "ensembl_gene_id", "entrez", "entrez_id", "entrezid")
GENE_WORDS = ("gene", "geneid", "gene_id", "gene_name", "gene_symbol", "hugo_symbol", "name", "symbol", *_IDS)
SYMBOL_WORDS = ("description", "symbol", "gene_symbol", "gene_name", "genename", "hgnc_symbol", "pr_gene_symbol")
_ENSEMBL = re.compile(r"(rna_)?ENS[A-Z]*\d{6,}(\.\d+)?(_PAR_Y)?")
_SAMPLE = re.compile(r"(GTEX|TCGA)-.+|GSM\d+|[SED]RR\d+.*")


@dataclasses.dataclass(frozen=True)
class Block:
    """Rows of a table: their names, their symbols (empty where there are none), and float32 (rows, names across)."""

    labels: list[str]
    symbols: list[str]
    values: NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Matrix:
    """An opened table: `names` across (samples where `rows_are` genes, and the other way round), `symbols` of those.

    `why`: what decided about the rows. `ignored`: columns of text that are left out. `units`: as the file says them.
    `labels` reads the names of the rows alone, `blocks` the rows.
    """

    rows_are: str
    why: str
    names: list[str]
    symbols: list[str]
    ignored: tuple[str, ...]
    units: str | None
    labels: Callable[[], list[str]]
    blocks: Callable[[], Iterator[Block]]


def orientation(
    path: Path,
    first: str,
    across: Sequence[str],
    down: Sequence[str],
    rows: str | None = None,
    sample_column: str = "sample",
) -> tuple[str, str]:
    """`samples` or `genes`, and what decided it: the rule at the top of this module."""
    if rows is not None:
        if rows not in ROWS:
            raise ValueError(f"--rows must be samples or genes, not {rows!r}.")
        return rows, "as declared"
    for pattern, kind, of_down, of_across in (
        (_ENSEMBL, "Ensembl ids", "genes", "samples"),
        (_SAMPLE, "ids of GTEx, TCGA, GEO or SRA", "samples", "genes"),
    ):
        in_down, in_across = _share(pattern, down), _share(pattern, across)
        if max(in_down, in_across) > 0.5 and in_down != in_across:
            where = "rows" if in_down > in_across else "columns"
            return (of_down if in_down > in_across else of_across), f"its {where} are named by {kind}"
    if first.casefold() == sample_column.casefold():
        return "samples", f"its first column is {first}"
    if first.casefold().lstrip("#") in GENE_WORDS:
        return "genes", f"its first column is {first}"
    raise ValueError(
        f"{path} doesn't say whether its rows are samples or genes: its first column is called {first!r} and neither "
        "rows nor columns are named by Ensembl ids; say --rows samples or --rows genes, or name the sample's column "
        "with --sample-column."
    )


def unreadable(path: Path, why: object) -> ValueError:
    """One sentence for a table that is damaged."""
    return ValueError(f"{path} can't be read as a table of numbers ({why}).".replace("\n", " "))


def _share(pattern: re.Pattern[str], names: Iterable[str]) -> float:
    found = [bool(pattern.fullmatch(name)) for name in names]
    return sum(found) / max(len(found), 1)
