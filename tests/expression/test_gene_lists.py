import gzip
from pathlib import Path

import pytest

from rnagan.expression.gene_selection import read_gene_list, read_gtf

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
