import gzip
from pathlib import Path

import pytest

from rnagan.expression.gene_map import GeneMap
from rnagan.expression.gene_selection import WantedGenes, choose_genes, count_by_status, read_gene_list, read_gtf
from rnagan.io.matrix_text import read_layout

GTF = (
    "##description: evidence-based annotation of the human genome (GRCh38), version 26 (Ensembl 88)\n"
    'chr1\tHAVANA\tgene\t65419\t71585\t.\t+\t.\tgene_id "ENSG00000186092.4"; gene_type "protein_coding"; '
    'gene_name "OR4F5"; level 2;\n'
    'chr1\tHAVANA\ttranscript\t65419\t71585\t.\t+\t.\tgene_id "ENSG00000186092.4"; gene_type "protein_coding";\n'
    'chr1\tHAVANA\tgene\t11869\t14409\t.\t+\t.\tgene_id "ENSG00000223972.5"; gene_type '
    '"transcribed_unprocessed_pseudogene"; gene_name "DDX11L1";\n'
    'X\tensembl\tgene\t1\t9\t.\t+\t.\tgene_id "ENSG00000002586"; gene_biotype "protein_coding";\n'
    'chrY\tENSEMBL\tgene\t1\t9\t.\t+\t.\tgene_id "ENSG00000002586.18_PAR_Y"; gene_type "protein_coding";\n'
)


@pytest.mark.parametrize("name", ["gencode.gtf", "gencode.gtf.gz"])
def test_protein_coding_genes_of_a_gtf(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(GTF.encode()) if name.endswith("gz") else GTF.encode())
    wanted = read_gtf(tmp_path / name)
    assert (wanted.ids, wanted.symbols) == (["ENSG00000186092", "ENSG00000002586"], ["OR4F5", ""])
    assert wanted.par_y_dropped == 1


def test_a_gtf_without_genes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="The GTF .*no.gtf does not exist"):
        read_gtf(tmp_path / "no.gtf")
    (tmp_path / "x.gtf").write_text("gene,ENSG\n")
    with pytest.raises(ValueError, match="x.gtf has no row of the feature gene with gene_type"):
        read_gtf(tmp_path / "x.gtf")
    (tmp_path / "x.gtf.gz").write_text("not gzipped")
    with pytest.raises(ValueError, match="x.gtf.gz can't be read"):
        read_gtf(tmp_path / "x.gtf.gz")


def test_the_articles_list(real_data: Path) -> None:
    wanted = read_gene_list(real_data / "gtex/protein_coding_genes.csv")
    assert (len(wanted.ids), wanted.par_y_dropped) == (19_179, 19)


TABLE = Path("table.csv")
NAMES = ["ENSG00000000001.2", "ENSG00000000002.1", "ENSG00000000002.1_PAR_Y", "ENSG00000000003"]
SYMBOLS = ["A", "", "B", "C"]


def wanted(*ids: str) -> WantedGenes:
    return WantedGenes(list(ids), [f"symbol of {gene}" for gene in ids], 0, Path("list.csv"))


def test_wanted_genes_come_in_their_order_and_all_others_are_reported() -> None:
    choice = choose_genes(NAMES, SYMBOLS, TABLE, wanted("ENSG00000000002", "ENSG00000000009", "ENSG00000000001"))
    assert choice.columns.tolist() == [1, 0]
    assert choice.ids == ["ENSG00000000002", "ENSG00000000001"]
    assert choice.symbols == ["symbol of ENSG00000000002", "A"]  # the table's own, where it has one
    assert choice.report.to_numpy().tolist() == [
        ["ENSG00000000002", "kept", NAMES[1]],
        ["ENSG00000000009", "missing", ""],
        ["ENSG00000000001", "kept", NAMES[0]],
        [NAMES[2], "par_copy", NAMES[2]],
        ["ENSG00000000003", "surplus", NAMES[3]],
    ]
    assert count_by_status(choice.report) == "2 kept, 1 missing, 1 par_copy, 1 surplus"
    said = " ".join(choice.lines)
    assert "Dropped 1 genes of the Y chromosome" in said and "2 of 3 genes; missing 1 gene" in said
    assert "Warning: only 67% of the wanted genes" in said


def test_all_genes_without_a_list() -> None:
    choice = choose_genes(NAMES, SYMBOLS, TABLE)
    assert choice.columns.tolist() == [0, 1, 3] and choice.symbols == ["A", "", "C"]
    assert not any("Warning" in line for line in choice.lines)


def test_a_map_then_a_list() -> None:
    one, two = "ENSG00000000001", "ENSG00000000002"
    mapping = GeneMap(
        {"entrez": {"11": {one}, "22": {two}, "33": {one, two}}}, {one: "A", two: "B"}, "e", Path("m.csv")
    )
    choice = choose_genes(["22", "33", "44", "11"], [""] * 4, TABLE, wanted(one), mapping)
    assert (choice.columns.tolist(), choice.ids) == ([3], [one])
    assert dict(choice.report[["in_table", "status"]].to_numpy().tolist()) == {
        "11": "kept",
        "22": "surplus",
        "33": "ambiguous",
        "44": "unmapped",
    }


def test_too_few_genes_are_refused() -> None:
    many = wanted("ENSG00000000001", *(f"ENSG0000000{n}" for n in range(1000, 1004)))
    with pytest.raises(
        ValueError, match=r"Only 1 of the 5 genes of list\.csv \(20%\) are in table\.csv.*--min-overlap"
    ):
        choose_genes(NAMES, SYMBOLS, TABLE, many)
    assert len(choose_genes(NAMES, SYMBOLS, TABLE, many, min_overlap=0.2).ids) == 1
    with pytest.raises(ValueError, match=r"None of the 1 genes of list\.csv .* --gene-map"):
        choose_genes(NAMES, SYMBOLS, TABLE, wanted("TP53"))
    with pytest.raises(ValueError, match=r"table\.csv holds 1 gene \(ENSG00000000001\) more than once"):
        choose_genes(["ENSG00000000001.1", "ENSG00000000001.2"], ["", ""], TABLE)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("gtex_heart_muscle_counts_20x58037_erssa.csv.gz", {"kept": 19_150, "missing": 29, "par_copy": 45}),
        ("tcga_stad_counts_10x60483_iobr.csv.gz", {"kept": 19_108, "missing": 71, "par_copy": 50}),
        ("gtex_brain_heart_liver_tpm_180x2379.csv.gz", {"kept": 2_167, "missing": 17_012, "surplus": 212}),
    ],
)
def test_the_articles_genes_in_real_tables(real_data: Path, name: str, counts: dict[str, int]) -> None:
    layout = read_layout(real_data / "expression" / name)
    listed = read_gene_list(real_data / "gtex/protein_coding_genes.csv")
    choice = choose_genes(layout.names, [""] * len(layout.names), TABLE, listed, min_overlap=0.1)
    found = choice.report["status"].value_counts().to_dict()
    assert {status: found[status] for status in counts} == counts
