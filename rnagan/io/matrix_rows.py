"""What every format of expression table becomes when it is opened, and the rule for what its rows are.

Rows are samples or genes; the first of these that decides is named in the line that is printed:
1. `--rows` says it; a GCT's rows are genes;
2. most names of one axis are Ensembl ids (genes), or else ids of GTEx, TCGA, GEO or SRA (samples), or else some are
   symbols that every table of human genes has, such as TP53;
3. the first cell of the header is the sample column's name (samples), or one of `GENE_WORDS` (genes);
4. nothing: the table is refused (AnnData's obs are then samples).
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnagan.io.gene_names import SAMPLE, WELL_KNOWN, parse_gene

ROWS = ("samples", "genes")
_SYMBOLS_NEEDED = 3
_IDS = ("ensembl", "ensembl_id", "ensembl_gene_id", "entrez", "entrez_id", "entrezid")
GENE_WORDS = ("gene", "geneid", "gene_id", "gene_name", "gene_symbol", "hugo_symbol", "name", "symbol", *_IDS)
SYMBOL_WORDS = ("description", "symbol", "gene_symbol", "gene_name", "genename", "hgnc_symbol", "pr_gene_symbol")


@dataclasses.dataclass(frozen=True)
class Block:
    """Rows of a table: their names, their symbols (empty where there are none), and float32 (rows, names across)."""

    labels: list[str]
    symbols: list[str]
    values: NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Matrix:
    """An opened table: `names` across (samples where `rows_are` genes, and the other way round), `symbols` of those.

    `why`: what decided about the rows. `ignored`: columns of text that are left out. `says`: of an AnnData's uns.
    `labels` reads the names of the rows alone, `blocks` the rows.
    """

    rows_are: str
    why: str
    names: list[str]
    symbols: list[str]
    ignored: tuple[str, ...]
    says: Mapping[str, Any]
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
    for matches, kind, of_down, of_across in (
        (is_ensembl, "Ensembl ids", "genes", "samples"),
        (SAMPLE.fullmatch, "ids of GTEx, TCGA, GEO or SRA", "samples", "genes"),
    ):
        in_down, in_across = _share(matches, down), _share(matches, across)
        if max(in_down, in_across) > 0.5 and in_down != in_across:
            where = "rows" if in_down > in_across else "columns"
            return (of_down if in_down > in_across else of_across), f"its {where} are named by {kind}"
    known_down, known_across = (sum(bool(WELL_KNOWN.fullmatch(name)) for name in names) for names in (down, across))
    if max(known_down, known_across) >= _SYMBOLS_NEEDED and min(known_down, known_across) == 0:
        found = "rows are" if known_down else "columns are"
        return ("genes" if known_down else "samples"), f"its {found} named by symbols of genes"
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


def is_ensembl(name: str) -> bool:
    """Whether a name is an Ensembl id in any spelling, of six digits or more."""
    return (len(name) >= len("ENS000000") and (gene := parse_gene(name)).kind == "ensembl") and gene.id[-6:].isdigit()


def _share(matches: Callable[[str], object], names: Iterable[str]) -> float:
    """The share of names that match, among those that could be of a gene or a sample."""
    found = [bool(matches(name)) for name in names if parse_gene(name).kind != "other"]
    return sum(found) / max(len(found), 1)
