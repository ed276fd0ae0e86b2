import gzip
from pathlib import Path

import pytest

from rnagan.expression.gene_map import map_genes, read_gene_map

# NCBI's annotation of its counts of GEO, Human.GRCh38.p13.annot.tsv.gz, in a few lines and columns
NCBI = (
    "GeneID\tSymbol\tDescription\tSynonyms\tGeneType\tEnsemblGeneID\tStatus\n"
    "100287102\tDDX11L1\tDEAD/H-box helicase 11 like 1\t\tpseudo\tENSG00000223972\tactive\n"
    "653635\tWASH7P\tWASP family homolog 7\tFAM39F|WASH5P\tpseudo\tENSG00000227232\tactive\n"
    "102466751\tMIR6859-1\tmicroRNA 6859-1\t\tncRNA\t\tactive\n"
    "1\tTWINA\ta\t\tprotein-coding\tENSG00000000001\tactive\n"
    "2\tTWINB\tb\t\tprotein-coding\tENSG00000000001\tactive\n"
    "3\tSPLIT\tc\t\tprotein-coding\tENSG00000000003.4|ENSG00000000004\tactive\n"
    "4\tPAR\td\t\tprotein-coding\tENSG00000000005.1;ENSG00000000005.1_PAR_Y\tactive\n"
)


@pytest.fixture
def annotation(tmp_path: Path) -> Path:
    path = tmp_path / "Human.GRCh38.p13.annot.tsv.gz"
    path.write_bytes(gzip.compress(NCBI.encode()))
    return path


def test_entrez_ids_and_symbols_find_their_column(annotation: Path) -> None:
    mapping = read_gene_map(annotation)
    entrez = map_genes(["653635", "100287102", "102466751", "999"], mapping)
    assert entrez.ids == ["ENSG00000227232", "ENSG00000223972", None, None]
    assert entrez.status == ["kept", "kept", "unmapped", "unmapped"]
    assert "the table's genes are its GeneID; 2 of 4 have an Ensembl id, 2 have none" in entrez.line
    symbols = map_genes(["WASH7P", "DDX11L1"], mapping)
    assert symbols.ids == entrez.ids[:2] and "are its Symbol" in symbols.line
    assert mapping.symbols["ENSG00000227232"] == "WASH7P"


def test_what_is_not_one_to_one_is_left_out_and_counted(annotation: Path) -> None:
    mapping = read_gene_map(annotation)
    mapped = map_genes(["1", "2", "3", "4"], mapping)
    assert mapped.ids == [None, None, None, "ENSG00000000005"]
    assert mapped.status == ["ambiguous", "ambiguous", "ambiguous", "kept"]
    assert "1 have several and 2 share one" in mapped.line
    assert map_genes(["1", "4"], mapping).ids == ["ENSG00000000001", "ENSG00000000005"]  # its twin isn't there


def test_ensembl_ids_need_no_map(annotation: Path) -> None:
    mapped = map_genes(["ENSG00000227232", "ENSG00000999999"], read_gene_map(annotation))
    assert mapped.ids == ["ENSG00000227232", "ENSG00000999999"] and "not needed" in mapped.line


def test_maps_that_are_of_no_use(annotation: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="knows none of the table's genes, which start with ABC; its columns are GeneID"
    ):
        map_genes(["ABC"], read_gene_map(annotation))
    (tmp_path / "x.csv").write_text("entrez,symbol\n1,A\n")
    with pytest.raises(ValueError, match="x.csv has no column ensembl, .*; it has entrez, symbol"):
        read_gene_map(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_text("entrez,ensembl\n1,none\n")
    with pytest.raises(ValueError, match="has no Ensembl id in its column ensembl"):
        read_gene_map(tmp_path / "x.csv")
