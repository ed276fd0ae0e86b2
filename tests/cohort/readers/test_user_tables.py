import numpy as np
import pandas as pd
import pytest

from rnagan.cohort.readers.user_tables import read_samples, read_slides
from rnagan.io.matrix import matrix_samples


def table(columns, *rows):
    return pd.DataFrame([row.split(",") for row in rows], columns=columns.split(","))


def test_gtex_attributes_are_recognised(tmp_path):
    path = tmp_path / "attributes.tsv"
    path.write_text(
        "SAMPID\tSMATSSCR\tSMTS\tSMTSD\tSMCENTER\tSMAFRZE\n"
        "GTEX-1117F-0226-SM-5GZZ7\t0\tLung\tLung\tB1\tRNASEQ\n"
        "GTEX-1117F-0003-SM-58Q7G\t\tBlood\tWhole Blood\tB1, A1\tWGS\n"
    )
    assert read_samples(path).values.tolist() == [["GTEX-1117F-0226-SM-5GZZ7", "GTEX-1117F", "Lung", "B1"]]


def test_a_wide_expression_table_gives_the_samples(tmp_path):
    path = tmp_path / "expression.csv.gz"
    wide = table("sample,tissue", "GTEX-1-2-SM-3,NA", "GTEX-4-2-SM-3,Lung").join(
        pd.DataFrame(np.ones((2, 500)), columns=range(500))
    )
    wide.to_csv(path, index=False)
    assert read_samples(path).values.tolist() == [
        ["GTEX-1-2-SM-3", "GTEX-1", "NA", ""],
        ["GTEX-4-2-SM-3", "GTEX-4", "Lung", ""],
    ]
    assert read_samples(path, {"donor": "tissue"})["donor"].tolist() == ["NA", "Lung"]


def test_slides_by_file_name_and_tables_of_tiles(tmp_path):
    path = tmp_path / "slides.csv"
    path.write_text("slide,donor,tissue\nA-1.0.svs,d1,Lung\nB.2,d2,Lung\n")
    assert read_slides(path)["slide"].tolist() == ["A-1_0", "B_2"]
    path.write_text("path,tissue,source\na.png,lung,d.1\nb.png,lung,d.1\nc.png,colon,d2\n")
    assert read_slides(path, {"donor": "source"})[["slide", "donor", "tissue"]].values.tolist() == [
        ["d_1", "d.1", "lung"],
        ["d2", "d2", "colon"],
    ]


def test_a_gct_is_asked_for_its_header_alone(write, tmp_path):
    path = write("x.gct.gz", "#1.2", "2|2", "Name|Description|S1|S2", "no|number|at all|here")
    assert matrix_samples(path) == ["S1", "S2"]
    samples = read_samples(path, tissue="Lung")
    assert samples.values.tolist() == [["S1", "S1", "Lung", ""], ["S2", "S2", "Lung", ""]]
    with pytest.raises(ValueError, match="x.gct.gz has no column tissue or SMTSD or .* say with --tissue-is"):
        read_samples(path)


def test_the_first_column_of_a_table_names_its_samples(tmp_path):
    rows = [["sample", "g1"], ["S1", "1"], ['"S,2"', "2"], ["", ""], ["S3" + "x" * 200, "3"]]
    path = tmp_path / "x.csv"
    path.write_text("\ufeff" + "\r\n".join(",".join(row) if any(row) else "" for row in rows), encoding="utf-8")
    assert matrix_samples(path) == ["S1", "S,2", "S3" + "x" * 200]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.gct", b"#1.2\n2\t2\nGene\tS1\n", "x.gct is no GCT 1.2 or 1.3: line 1 must be"),
        ("x.gct.gz", b"\x1f\x8b\x08\x00cut", "x.gct.gz can't be read"),
        ("x.xlsx", b"", "x.xlsx ends in none of .gct, .csv, .tsv, .txt"),
        ("x.csv", b"sample,g\n\xff\xfe,1\n", "x.csv can't be read"),
    ],
)
def test_unreadable_expression_tables(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        matrix_samples(tmp_path / name)


def test_a_missing_expression_table(tmp_path):
    with pytest.raises(FileNotFoundError, match="The expression table .*x.gct does not exist"):
        matrix_samples(tmp_path / "x.gct")


def test_a_normal_of_a_gdc_project_is_another_tissue_in_any_sheet(write):
    # since 2024 the portal says Tissue Type where it said Sample Type
    path = write(
        "gdc_sample_sheet.2025-10-01.tsv",
        "File ID|File Name|Data Category|Data Type|Project ID|Case ID|Sample ID|Tissue Type|Tumor Descriptor|"
        "Specimen Type|Preservation Method",
        "1|C3L-1-21.svs|Biospecimen|Slide Image|CPTAC-3|C3L-1|C3L-1-21|Tumor|Primary|Solid Tissue|FFPE",
        "2|C3L-1-26.svs|Biospecimen|Slide Image|CPTAC-3|C3L-1|C3L-1-26|Normal|Not Applicable|Solid Tissue|FFPE",
    )
    notes = []
    slides = read_slides(path, notes=notes)
    assert slides[["slide", "donor", "tissue"]].values.tolist() == [
        ["C3L-1-21", "C3L-1", "CPTAC-3"],
        ["C3L-1-26", "C3L-1", "CPTAC-3 (normal)"],
    ]
    assert notes == []
    with pytest.raises(ValueError, match="holds no sample"):
        read_samples(path, notes=notes)
