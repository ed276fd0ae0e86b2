"""Random names of genes in the spellings that are in use, against the id that they were written from."""

import numpy as np
import pytest

from rnagan.expression.gene_selection import choose_genes
from rnagan.expression.genes import clean_genes, gene_id, is_par_y

SYMBOLS = ("TP53", "HLA-DRB1", "RP11-34P13.7", "7SK", "NKX2-1", "C1orf112", "5S_rRNA", "Metazoa_SRP", "MT-ND1")


def spelled(random: np.random.Generator) -> tuple[str, str, str, bool]:
    """A name, and what it was made from: id, symbol ('' where it says none), whether it is a PAR copy on Y."""
    gene = f"ENSG{random.integers(10**11):011d}"
    version = f".{random.integers(1, 30)}" if random.random() < 0.7 else ""
    lifted = f"_{random.integers(1, 12)}" if random.random() < 0.3 else ""
    par = "_PAR_Y" if random.random() < 0.2 else ""
    symbol = str(random.choice(SYMBOLS)) if random.random() < 0.5 else ""
    prefix = str(random.choice(["", "", "rna_", "gene:", "GRCh38_"]))
    name = prefix + gene + version + lifted + par
    if symbol:
        name += str(random.choice(["|", "_"])) + symbol
        name += "|protein_coding" if random.random() < 0.2 and f"|{symbol}" in name else ""
    if random.random() < 0.1:
        name = name.lower() if not symbol else name
    return name, gene, symbol, bool(par)


def test_random_ids_are_read_as_they_were_written() -> None:
    random = np.random.default_rng(7)
    for _ in range(2000):
        name, gene, symbol, par = spelled(random)
        clean = clean_genes([name], "table")
        assert gene_id(name) == gene, name
        assert is_par_y(name) == par, name
        assert (clean.ids, clean.symbols) == (([], []) if par else ([gene], [symbol])), name


@pytest.mark.parametrize(
    ("name", "gene", "symbol"),
    [
        ("ENSG00000168939.12_4", "ENSG00000168939", ""),  # GENCODE lifted to GRCh37
        ("ENSG00000141510.11|TP53", "ENSG00000141510", "TP53"),
        ("ENSG00000141510_TP53", "ENSG00000141510", "TP53"),
        ("TP53_ENSG00000141510.11", "ENSG00000141510", "TP53"),
        ("TP53 (ENSG00000141510)", "ENSG00000141510", "TP53"),
        ("TP53 (7157)", "7157", "TP53"),  # DepMap
        ("TP53|7157", "7157", "TP53"),  # Firehose
        ("?|100130426", "100130426", ""),
        ("ensg00000141510.11", "ENSG00000141510", ""),
        ("RP11-34P13.7", "RP11-34P13.7", ""),
        ("PC", "PC", ""),  # a gene, though it is two letters of a clinical table too
    ],
)
def test_spellings(name: str, gene: str, symbol: str) -> None:
    clean = clean_genes([name], "table")
    assert (clean.ids, clean.symbols, clean.no_genes) == ([gene], [symbol], [])


ENSEMBL = ["ENSG00000000003.14", "ENSG00000000005.6", "ENSG00000000419.12"]


@pytest.mark.parametrize(
    ("genes", "others"),
    [
        (ENSEMBL, ["N_unmapped", "__ambiguous"]),
        (ENSEMBL, ["ERCC-00002", "GFP"]),  # where most are ids, names of any other sort are none
        (["7157", "1956", "3845"], ["age", "RIN"]),
        (["TP53", "EGFR"], ["__no_feature", "N_noFeature", "Age", "total_counts", "Unassigned_NoFeatures", "OS.time"]),
    ],
)
def test_what_is_no_gene_is_set_aside_and_named(genes: list[str], others: list[str], tmp_path) -> None:
    names = [*others[:1], *genes, *others[1:]]
    choice = choose_genes(names, [""] * len(names), tmp_path / "t.tsv")
    assert [names[i] for i in choice.columns] == genes
    assert choice.lines[0].startswith(f"Set aside {len(others)} names ({others[0]}, ")
    assert choice.report.set_index("in_table")["status"][others].tolist() == ["no_gene"] * len(others)


def test_transcripts_are_no_genes(tmp_path) -> None:
    names = ["ENST00000456328.2|ENSG00000223972.5|x|y|", "ENST00000450305.2"]
    with pytest.raises(ValueError, match=r"holds transcripts \(ENST00000456328.*add them up by gene"):
        choose_genes(names, ["", ""], tmp_path / "t.tsv")
