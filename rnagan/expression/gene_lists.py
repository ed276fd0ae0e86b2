"""Which genes are wanted: a list in a CSV, or the protein-coding genes of a GENCODE GTF."""

import csv
import dataclasses
import re
from pathlib import Path

from rnagan.expression.genes import clean_genes
from rnagan.expression.layout import CANNOT_READ, open_bytes

_PROTEIN_CODING = re.compile(rb'gene_(?:bio)?type "?protein_coding"?')
_ID, _NAME = re.compile(rb'gene_id "([^"]+)"'), re.compile(rb'gene_name "([^"]+)"')


@dataclasses.dataclass(frozen=True)
class WantedGenes:
    """Genes to keep, in the order wanted, with symbols (empty where unknown) and how many PAR copies were dropped."""

    ids: list[str]
    symbols: list[str]
    par_y_dropped: int
    source: Path


def read_gene_list(path: Path | str) -> WantedGenes:
    """Gene ids in the first column of a CSV file with a header line."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The gene list {path} does not exist.")
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
    except CANNOT_READ as error:
        raise ValueError(f"The GTF {path} can't be read ({error}).".replace("\n", " ")) from None
    if not names:
        raise ValueError(
            f"The GTF {path} has no row of the feature gene with gene_type or gene_biotype protein_coding; give "
            "GENCODE's annotation, such as gencode.v26.annotation.gtf.gz."
        )
    return _wanted(names, symbols, path)


def _wanted(names: list[str], symbols: list[str], path: Path) -> WantedGenes:
    clean = clean_genes(names, str(path))
    return WantedGenes(clean.ids, [symbols[i] for i in clean.kept], clean.par_y_dropped, path)
