"""GSE120795 in miniature, as GEO ships it: series matrix, the authors' supplement, and NCBI's counts and annotation."""

import anndata
import pytest

from rnagan.cohort.build import CohortOptions, make_cohort_table
from rnagan.cohort.readers.geo import is_series_matrix, read_series_matrix
from rnagan.cohort.table import read_cohort
from tests import programs

MATRIX = (
    '!Series_title|"Transcriptomic profiling of 21 normal tissues"',
    '!Series_geo_accession|"GSE120795"',
    "",
    '!Sample_title|"Lung_1"|"Lung_2"|"Brain_1"|"Liver_1"',
    '!Sample_geo_accession|"GSM3415001"|"GSM3415002"|"GSM3415003"|"GSM3415004"',
    '!Sample_status|"Public"|"Public"|"Public"|"Public"',
    '!Sample_source_name_ch1|"lung tissue"|"lung tissue"|"brain tissue"|"liver tissue"',
    '!Sample_characteristics_ch1|"tissue: lung"|"tissue: lung"|"tissue: brain"|"age: 60"',
    '!Sample_characteristics_ch1|"Sex: male"|"Sex: female"|""|"Sex: male"',
    "!series_matrix_table_begin",
    '"ID_REF"|"GSM3415001"|"GSM3415002"|"GSM3415003"|"GSM3415004"',
    "!series_matrix_table_end",
)
SUPPLEMENT = (
    "|Lung_1|Lung_2|Brain_1|Liver_1",
    "ENSG00000223972|3|0|7|1",
    "ENSG00000227232|0|20|9|2",
    "ENSG00000227232_PAR_Y|0|0|0|0",
)
NCBI = (
    "GeneID|GSM3415001|GSM3415002|GSM3415003|GSM3415004",
    "100287102|1.5|0|30.25|1",
    "653635|0|20|9|2",
    "999|0|0|0|1",
)
ANNOTATION = (
    "GeneID|Symbol|Description|EnsemblGeneID",
    "100287102|DDX11L1|like 1|ENSG00000223972",
    "653635|WASH7P|family 7|ENSG00000227232",
    "999|NONE|no gene|",
)


@pytest.fixture
def matrix(write):
    return write("GSE120795_series_matrix.txt.gz", *MATRIX)


def test_samples_and_their_characteristics(matrix):
    assert is_series_matrix(matrix)
    table = read_series_matrix(matrix)
    assert table["geo_accession"].tolist() == [f"GSM341500{n}" for n in (1, 2, 3, 4)]
    assert table["title"].tolist() == ["Lung_1", "Lung_2", "Brain_1", "Liver_1"]
    assert table["tissue"].tolist() == ["lung", "lung", "brain", "liver tissue"]  # the source name where it isn't said
    assert table["sex"].tolist() == ["male", "female", "", "male"]
    assert table["age"].tolist() == ["", "", "", "60"]


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.parametrize(
    ("name", "rows", "options", "called", "units"),
    [
        ("GSE120795_total_norms_raw_counts.tsv.gz", SUPPLEMENT, [], "title", "counts"),
        ("GSE120795_norm_counts_TPM_GRCh38.p13_NCBI.tsv.gz", NCBI, ["--gene-map"], "geo_accession", "tpm"),
    ],
)
def test_from_geo_to_an_expression_file(matrix, write, tmp_path, name, rows, options, called, units):
    table, cohort, out = write(name, *rows), tmp_path / "cohort.csv", tmp_path / "external.h5ad"
    command = ("rnagan", "build-cohort", "--samples", matrix, "--expression", table, "--out", cohort)
    said = programs.run(*command, "--all-in", "test").check().stdout
    assert said.startswith("Rule table (the ids aren't all GTEx's or TCGA's): profiles without slides.")
    assert f"samples are called by their {called} (as in the expression table)" in said
    assert "No donor is known beside the sample: each sample counts as a donor of its own." in said
    assert "4 profiles, 0 slides, 4 donors (0 train, 0 validation, 4 test)." in said
    command = ["rnagan", "build-expression", "--table", table, "--cohort", cohort, "--out", out]
    command += [*options, write("Human.GRCh38.p13.annot.tsv.gz", *ANNOTATION)] if options else []
    said = programs.run(*command).check().stdout
    assert f"in {units} (" in said and "rows are genes" in said
    data = anndata.read_h5ad(out)
    assert data.obs_names.tolist() == read_series_matrix(matrix)[called].tolist()
    assert data.obs["tissue"].tolist() == ["lung", "lung", "brain", "liver tissue"]
    assert set(data.obs["split"]) == {"test"} and data.obs["donor"].tolist() == data.obs_names.tolist()
    assert data.var_names.tolist() == ["ENSG00000223972", "ENSG00000227232"]
    assert data.var["symbol"].tolist() == (["DDX11L1", "WASH7P"] if options else ["", ""])
    assert data.X[0].tolist() == ([1.5, 0] if options else [3, 0])


def test_a_donor_or_a_name_may_be_chosen(matrix, write, tmp_path):
    lines = make_cohort_table(matrix, None, tmp_path / "a.csv")
    assert any("called by their geo_accession (--sample-column title or --expression changes it)" in x for x in lines)
    options = CohortOptions(columns={"sample": "title", "donor": "sex"}, keep=("age",), all_in="test")
    lines = make_cohort_table(matrix, None, tmp_path / "b.csv", options)
    assert "1 samples have no sex: each counts as a donor of its own." in lines
    cohort = read_cohort(tmp_path / "b.csv")
    assert cohort["sample"].tolist() == ["Brain_1", "Liver_1", "Lung_1", "Lung_2"]
    assert cohort["donor"].tolist() == ["Brain_1", "male", "male", "female"]
    assert cohort["age"].tolist() == ["", "60", "", ""]


def test_broken_series_matrices(write, tmp_path):
    assert not is_series_matrix(write("x.txt", "SAMPID|SMTSD")) and not is_series_matrix(tmp_path / "none")
    with pytest.raises(ValueError, match="has no line !Sample_geo_accession"):
        read_series_matrix(write("x.txt", '!Sample_title|"a"'))
    with pytest.raises(ValueError, match="lines with different numbers of samples"):
        read_series_matrix(write("x.txt", '!Sample_title|"a"', '!Sample_geo_accession|"GSM1"|"GSM2"'))
    cut = write("x.txt.gz", *MATRIX)
    cut.write_bytes(cut.read_bytes()[:-60])
    with pytest.raises(ValueError, match="The series matrix .*x.txt.gz can't be read"):
        read_series_matrix(cut)


@pytest.mark.parametrize("cell", ["cut\rfrozen", 'a 5" cut', 'odd "quote', "tab-less; text"])
@pytest.mark.parametrize("place", range(1, 7))
def test_carriage_returns_and_quotes_in_a_cell_cost_no_line(tmp_path, cell, place):
    lines = [
        '!Series_title\t"x"',
        '!Sample_title\t"a1"\t"a2"\t"b1"',
        '!Sample_geo_accession\t"GSM1"\t"GSM2"\t"GSM3"',
        '!Sample_source_name_ch1\t"kidney"\t"kidney"\t"kidney"',
        '!Sample_characteristics_ch1\t"tissue: kidney"\t"tissue: kidney"\t"tissue: spleen"',
        '!Sample_characteristics_ch1\t"donor id: P"\t"donor id: P"\t"donor id: Q"',
    ]
    for tag in ("!Sample_treatment_protocol_ch1", "!Sample_characteristics_ch1"):
        own = list(lines)
        own.insert(place, f'{tag}\t"note: {cell}"\t"-"\t"-"')
        path = tmp_path / "s_series_matrix.txt"
        path.write_bytes(("\r\n" if "quote" in cell else "\n").join([*own, ""]).encode())
        table = read_series_matrix(path)
        assert table["tissue"].tolist() == ["kidney", "kidney", "spleen"]
        assert table["donor id"].tolist() == ["P", "P", "Q"]
