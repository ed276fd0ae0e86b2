import pytest

from rnagan.expression.gene_selection import read_gene_list
from rnagan.expression.genes import clean_genes, gene_id, positions


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ENSG00000186092.4", "ENSG00000186092"),
        ("ENSG00000186092", "ENSG00000186092"),
        ("ENSMUSG00000051951.6", "ENSMUSG00000051951"),
        ("RP11-34P13.7", "RP11-34P13.7"),  # a symbol's dot is part of its name
        ("9496", "9496"),  # Entrez
    ],
)
def test_version_is_cut_from_ensembl_ids_only(name: str, expected: str) -> None:
    assert gene_id(name) == expected


def test_par_twins_are_dropped_in_both_spellings() -> None:
    names = ["ENSG00000002586.18", "ENSG00000002586.18_PAR_Y", "ENSGR0000124333", "rna_ENSG00000124333.1"]
    clean = clean_genes(names, "table.csv")
    assert clean.ids == ["ENSG00000002586", "ENSG00000124333"]
    assert clean.kept.tolist() == [0, 3]
    assert clean.par_y_dropped == 2


def test_other_duplicates_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"table\.csv holds 1 gene \(ENSG00000000003\) more than once"):
        clean_genes(["ENSG00000000003.14", "ENSG00000000003.15", "ENSG00000000005"], "table.csv")


def test_gene_list_has_a_header_and_ids_first(tmp_path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("Gene,symbol\nrna_ENSG00000186092.4,OR4F5\nrna_ENSG00000187634.11,SAMD11\n")
    assert read_gene_list(path).ids == ["ENSG00000186092", "ENSG00000187634"]
    path.write_text("Gene\n")
    with pytest.raises(ValueError, match="is empty"):
        read_gene_list(path)
    with pytest.raises(FileNotFoundError, match="The gene list .* does not exist"):
        read_gene_list(tmp_path / "other.csv")


def test_positions_of_wanted_genes() -> None:
    assert positions(["a", "b", "c"], ["c", "x", "a"]).tolist() == [2, -1, 0]
