import gzip
from pathlib import Path

import pytest

from rnagan.expression.checked_table import open_table
from rnagan.io.matrix import matrix_samples
from rnagan.io.matrix_text import read_layout
from tests.expression.whole_table import read_whole

E1, E2 = "ENSG00000000003.14", "ENSG00000000419.12"


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text", "rows_are", "why", "names"),
    [
        ("x.csv", f"sample,{E1},{E2}\na,1,2\n", "samples", "columns are named by Ensembl ids", [E1, E2]),
        ("x.csv", f",a,b\n{E1},1,2\n", "genes", "rows are named by Ensembl ids", ["a", "b"]),
        # UCSC Xena calls the column of its genes "sample"
        ("x.tsv.gz", f"sample\ta\tb\n{E1}\t1\t2\n", "genes", "rows are named by Ensembl ids", ["a", "b"]),
        # R's write.table: no name for the row names, everything quoted, parted by spaces
        ("x.txt", f'"a" "b"\n"{E1}" 1 2\n', "genes", "rows are named by Ensembl ids", ["a", "b"]),
        ("x.tsv", "GeneID\tGSM1\tGSM2\n1\t1\t2\n", "genes", "columns are named by ids of GTEx", ["GSM1", "GSM2"]),
        ("x.tsv", "GeneID\ta\tb\n1\t1\t2\n", "genes", "first column is GeneID", ["a", "b"]),
        ("x.csv", "sample,tissue,9496,22797\ns,lung,1,2\n", "samples", "first column is sample", ["9496", "22797"]),
        ("x.csv", "sample,tissue,9496\ns,7,1\n", "samples", "first column is sample", ["9496"]),
        (
            "x.tsv",
            f"# Program:featureCounts\nGeneid\tChr\tStart\tLength\ta.bam\n{E1}\t1\t3\t9\t1\n",
            "genes",
            "rows are named by Ensembl ids",
            ["a.bam"],
        ),
        ("x.csv", "symbol,TCGA-05-4244-01A,TCGA-05-4245-01A\nTP53,1,2\n", "genes", "ids of GTEx, TCGA", None),
    ],
)
def test_the_rule_for_rows(tmp_path: Path, name: str, text: str, rows_are: str, why: str, names: list | None) -> None:
    layout = read_layout(write(tmp_path / name, text))
    assert layout.rows_are == rows_are and why in layout.why
    assert names is None or layout.names == names


def test_rows_can_be_said_and_are_refused_in_doubt(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", ",TP53,KRAS\ns1,1,2\ns2,3,4\n")
    with pytest.raises(
        ValueError, match=r"x\.csv doesn't say whether its rows are samples or genes.*say --rows samples"
    ):
        read_layout(path)
    as_samples, as_genes = read_whole(path, rows="samples"), read_whole(path, rows="genes")
    assert (as_samples.samples, as_samples.genes) == (["s1", "s2"], ["TP53", "KRAS"])
    assert (as_genes.samples, as_genes.genes) == (as_samples.genes, as_samples.samples)
    assert as_genes.values.tolist() == as_samples.values.T.tolist()
    assert open_table(path, rows="genes").matrix.why == "as declared"
    with pytest.raises(ValueError, match="--rows must be samples or genes, not 'both'"):
        read_layout(path, rows="both")


GCT13 = (
    "#1.3\n2\t3\t2\t1\nid\tpr_gene_symbol\tpr_type\tS1\tS2\tS3\nbatch\tna\tna\tA\tB\tC\n"
    f"{E1}\tTSPAN6\tcoding\t1.5\t2\t3\n{E2}\tDPM1\tcoding\t4\t5\t60\n"
)


def test_gct_13_has_metadata_of_rows_and_columns(tmp_path: Path) -> None:
    table = read_whole(write(tmp_path / "x.gct.gz", GCT13))
    assert (table.samples, table.symbols) == (["S1", "S2", "S3"], ["TSPAN6", "DPM1"])
    assert table.values.tolist() == [[1.5, 4], [2, 5], [3, 60]]
    assert read_layout(tmp_path / "x.gct.gz").ignored == ("pr_type",)


def test_gtex_gcts_of_one_tissue_have_an_id_before_the_name(tmp_path: Path) -> None:
    text = f"#1.2\n1\t2\nid\tName\tDescription\tS1\tS2\n0\t{E1}\tTSPAN6\t1\t2\n"
    table = read_whole(write(tmp_path / "x.gct", text))
    assert (table.genes, table.symbols, table.values.tolist()) == (["ENSG00000000003"], ["TSPAN6"], [[1], [2]])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GCT13.replace("\t2\t1\nid", "\nid"), "is no GCT 1.2 or 1.3"),
        (GCT13.replace("2\t3\t2\t1", "2\t4\t2\t1"), "declares 4 columns on line 2 and names 3 on line 3"),
        (GCT13.replace("2\t3\t2\t1", "9\t3\t2\t1"), "declares 9 rows on line 2 and holds 2; it is cut"),
        (GCT13.replace("2\t3\t2\t1", "1\t3\t2\t1"), "declares 1 rows on line 2 and holds more; it is cut"),
        ("", "is no GCT 1.2 or 1.3"),
    ],
)
def test_gcts_that_contradict_themselves(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_whole(write(tmp_path / "x.gct", text))


def test_samples_without_reading_the_numbers(tmp_path: Path) -> None:
    down = write(tmp_path / "a.csv", f'sample,{E1}\n"S,1",1\nS2,no number\n\n')
    across = write(tmp_path / "b.tsv.gz", f"\tS1\tS2\n{E1}\t1\tno number\n")
    assert matrix_samples(down) == ["S,1", "S2"]
    assert matrix_samples(across) == ["S1", "S2"]
