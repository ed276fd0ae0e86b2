"""Which genes are wanted, which of a table are taken, in which order, and what became of the others."""

import csv
import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.expression.gene_map import GeneMap, map_genes
from rnagan.expression.genes import CleanGenes, clean_genes, count_and_names, positions
from rnagan.io.gene_names import is_transcript
from rnagan.io.matrix_parquet_h5ad import read_h5ad
from rnagan.io.tables import UNREADABLE, open_bytes

_PROTEIN_CODING = re.compile(rb'gene_(?:bio)?type "?protein_coding"?')
_ID, _NAME = re.compile(rb'gene_id "([^"]+)"'), re.compile(rb'gene_name "([^"]+)"')
_LOW = 0.8  # a share of the wanted genes below this gets a warning


@dataclasses.dataclass(frozen=True)
class WantedGenes:
    """Genes to keep, in the order wanted, with symbols (empty where unknown) and how many PAR copies were dropped."""

    ids: list[str]
    symbols: list[str]
    par_y_dropped: int
    source: Path


def read_gene_list(path: Path | str) -> WantedGenes:
    """Gene ids in the first column of a CSV file with a header line, or the genes of an .h5ad."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The gene list {path} does not exist.")
    if path.suffix.lower() == ".h5ad":
        data = read_h5ad(path, backed=True)
        names, symbols = data.var_names.tolist(), data.var.get("symbol", pd.Series("", data.var_names)).astype(str)
        data.file.close()
        return _wanted(names, symbols.tolist(), path)
    with open(path, newline="", encoding="utf-8-sig") as handle:
        rows = [row for row in csv.reader(handle) if row]
    if len(rows) < 2:
        raise ValueError(f"The gene list {path} is empty; it needs a header line and one gene id a line.")
    return _wanted([row[0] for row in rows[1:]], [""] * (len(rows) - 1), path)


def read_gtf(path: Path | str) -> WantedGenes:
    """The protein-coding genes of a GENCODE or Ensembl GTF (plain or .gz), in its order: rows of the feature `gene`
    whose gene_type or gene_biotype is protein_coding."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The GTF {path} does not exist.")
    names, symbols = [], []
    try:
        with open_bytes(path) as handle:
            for line in handle:
                if b"\tgene\t" not in line:
                    continue
                cells = line.split(b"\t", 8)
                gene = _ID.search(cells[-1])
                if cells[2] == b"gene" and gene and _PROTEIN_CODING.search(cells[-1]):
                    symbol = _NAME.search(cells[-1])
                    names.append(gene[1].decode())
                    symbols.append(symbol[1].decode() if symbol else "")
    except UNREADABLE as error:
        raise ValueError(f"The GTF {path} can't be read ({error}).".replace("\n", " ")) from None
    if not names:
        raise ValueError(
            f"The GTF {path} has no row of the feature gene with gene_type or gene_biotype protein_coding; give "
            "GENCODE's annotation, such as gencode.v26.annotation.gtf.gz."
        )
    return _wanted(names, symbols, path)


def _wanted(names: list[str], symbols: list[str], path: Path) -> WantedGenes:
    clean = clean_genes(names, str(path), all_are_genes=True)
    own = [symbols[i] or said for i, said in zip(clean.kept, clean.symbols, strict=True)]
    return WantedGenes(clean.ids, own, clean.par_y_dropped, path)


@dataclasses.dataclass(frozen=True)
class GeneChoice:
    """Genes that are kept: where they stand in the table, ids and symbols; lines to print, and a row for every gene.

    `report`: gene, status (kept, missing, surplus, par_copy, no_gene, unmapped, ambiguous, rare: seen in too few
    training spots), in_table (its name there).
    """

    columns: NDArray[np.intp]
    ids: list[str]
    symbols: list[str]
    lines: list[str]
    report: pd.DataFrame

    def frequent(self, kept: NDArray[np.intp]) -> Self:
        """Those of its genes at `kept`; the others are rare."""
        rare = self.report["status"].where(~self.report["gene"].isin(np.delete(self.ids, kept)), "rare")
        ids, symbols = ([given[k] for k in kept] for given in (self.ids, self.symbols))
        return dataclasses.replace(
            self, columns=self.columns[kept], ids=ids, symbols=symbols, report=self.report.assign(status=rare)
        )


def choose_genes(
    names: Sequence[str],
    symbols: Sequence[str],
    table: Path,
    wanted: WantedGenes | None = None,
    mapping: GeneMap | None = None,
    min_overlap: float = 0.5,
) -> GeneChoice:
    """Clean the table's gene names, map them (`mapping`) and keep those wanted, in that order; all without `wanted`.

    Raises `ValueError` with the files' names on genes that come twice, and where fewer than `min_overlap` of the wanted
    genes are in the table.
    """
    clean = clean_genes(names, str(table))
    if not clean.ids:
        raise ValueError(f"{table} holds no gene; it needs some.")
    if sum(map(is_transcript, names)) * 2 > len(names):
        raise ValueError(
            f"{table} holds transcripts ({names[0]} …), not genes; add them up by gene first, as tximport does."
        )
    lines = []
    if clean.no_genes:
        lines.append(
            f"Set aside {count_and_names(clean.no_genes, 'name')}: no {'genes' if len(clean.no_genes) > 1 else 'gene'}."
        )
    if clean.par_y_dropped:
        lines.append(f"Dropped {clean.par_y_dropped} genes of the Y chromosome that are copies of a gene on X (PAR).")
    ids: list[str | None] = list(clean.ids)
    status = ["kept"] * len(ids)
    if mapping is not None:
        mapped = map_genes(clean.ids, mapping)
        ids, status = mapped.ids, mapped.status
        lines.append(mapped.line)
    mapped_ids = [gene or "" for gene in ids]
    if wanted is None:
        place = np.flatnonzero([gene is not None for gene in ids])
    else:
        at = positions(mapped_ids, wanted.ids)
        _refuse_or_warn(wanted, at, mapped_ids, table, min_overlap, lines)
        place = at[at >= 0]
        in_list = set(wanted.ids)
        status = [
            "surplus" if word == "kept" and gene not in in_list else word
            for word, gene in zip(status, mapped_ids, strict=True)
        ]
    chosen = [mapped_ids[i] for i in place]
    known = dict(zip(wanted.ids, wanted.symbols, strict=True)) if wanted else {}
    further = mapping.symbols if mapping else {}
    of_table = [symbols[clean.kept[i]] or clean.symbols[i] for i in place]
    said = [own or known.get(gene, "") or further.get(gene, "") for own, gene in zip(of_table, chosen, strict=True)]
    report = _report(names, clean, mapped_ids, status, wanted)
    return GeneChoice(clean.kept[place], chosen, said, lines, report)


def _refuse_or_warn(
    wanted: WantedGenes, at: NDArray[np.intp], ids: Sequence[str], table: Path, min_overlap: float, lines: list[str]
) -> None:
    absent = [gene for gene, i in zip(wanted.ids, at, strict=True) if i < 0]
    found = len(wanted.ids) - len(absent)
    share = found / len(wanted.ids)
    if found == 0:
        raise ValueError(
            f"None of the {len(wanted.ids):,} genes of {wanted.source} is in {table}: the list starts with "
            f"{wanted.ids[0]}, the table with {ids[0] or 'unmapped genes'}; use the same kind of gene id, or give a "
            "mapping table with --gene-map."
        )
    if share < min_overlap:
        raise ValueError(
            f"Only {found:,} of the {len(wanted.ids):,} genes of {wanted.source} ({share:.0%}) are in {table}; missing "
            f"{count_and_names(absent, 'gene')}. If that is as it should be, lower --min-overlap ({min_overlap:g})."
        )
    missing = f"; missing {count_and_names(absent, 'gene')}" if absent else ""
    twins = f" ({wanted.par_y_dropped} PAR copies dropped)" if wanted.par_y_dropped else ""
    surplus = sum(gene != "" for gene in ids) - found
    lines.append(
        f"{wanted.source}: {found:,} of {len(wanted.ids):,} genes{twins}{missing}; {surplus:,} others left out."
    )
    if share < _LOW:
        lines.append(f"Warning: only {share:.0%} of the wanted genes are in the table; a model would guess the others.")


def _report(
    names: Sequence[str],
    clean: CleanGenes,
    ids: Sequence[str],
    status: Sequence[str],
    wanted: WantedGenes | None,
) -> pd.DataFrame:
    """Wanted genes first, in their order, then the others of the table, in its order."""
    rows = {gene: (gene, "missing", "") for gene in wanted.ids} if wanted else {}
    others = []
    of_kept = dict(zip(clean.kept.tolist(), zip(ids, status, strict=True), strict=True))
    set_aside = set(clean.no_genes)
    for i, name in enumerate(names):
        gene, word = of_kept.get(i, ("", "no_gene" if name in set_aside else "par_copy"))
        if word == "kept":
            rows[gene] = (gene, word, name)
        else:
            others.append((gene or name, word, name))
    return pd.DataFrame([*rows.values(), *others], columns=["gene", "status", "in_table"])


def count_by_status(report: pd.DataFrame) -> str:
    """`2,379 kept, 3 missing …`, in one line."""
    counts = Counter(report["status"])
    return ", ".join(f"{count:,} {word}" for word, count in counts.most_common())
