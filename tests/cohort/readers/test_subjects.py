"""Age, sex and ischaemic time reach the cohort table, from samples' attributes and from tables of subjects."""

import pytest

from rnagan.cohort.build import CohortOptions, make_cohort_table
from rnagan.cohort.readers.subjects import read_subjects
from rnagan.cohort.table import read_cohort

ATTRIBUTES = (
    "SAMPID|SMTS|SMTSD|SMCENTER|SMTSISCH|SMRIN",
    "GTEX-11GSP-0726-SM-5986L|Lung|Lung|B1|120|7",
    "GTEX-11GSP-0626-SM-5986T|Liver|Liver|C1|-90|6",
    "GTEX-1117F-3126-SM-FFFFF|Brain|Brain - Cortex|C1||8",
)
PHENOTYPES = ("SUBJID|SEX|AGE|DTHHRDY", "GTEX-11GSP|2|60-69|3", "GTEX-1117F|1|20-29|", "GTEX-XXXXX|1|50-59|0")
BARCODES = ("TCGA-05-4244-01A-01R-1107-07", "TCGA-44-2656-01A-01R-A277-07")


def test_gtex_attributes_and_phenotypes(write, slide_folder, tmp_path):
    samples, subjects = write("Attributes.txt", *ATTRIBUTES), write("SubjectPhenotypesDS.txt", *PHENOTYPES)
    slides = slide_folder("GTEX-11GSP-0725.svs", "GTEX-1117F-3125.svs")
    make_cohort_table(samples, slides, tmp_path / "c.csv", CohortOptions(keep=("SMRIN",)), subjects=subjects)
    cohort = read_cohort(tmp_path / "c.csv").set_index("sample")
    columns = ["age", "sex", "ischaemic_min", "hardy_scale", "SMRIN", "slide"]
    assert cohort[columns].values.tolist() == [
        ["20-29", "male", "", "", "8", "GTEX-1117F-3125"],
        ["60-69", "female", "-90", "3", "6", ""],
        ["60-69", "female", "120", "3", "7", "GTEX-11GSP-0725"],
    ]


def test_without_subjects_a_table_has_what_the_attributes_say(write, tmp_path):
    make_cohort_table(write("a.txt", *ATTRIBUTES), None, tmp_path / "c.csv")
    cohort = read_cohort(tmp_path / "c.csv")
    assert cohort["ischaemic_min"].tolist() == ["", "-90", "120"] and not {"age", "sex"} & set(cohort)


@pytest.mark.parametrize("entity", [True, False])
def test_the_gdcs_clinical_table_has_a_row_for_each_treatment(write, tmp_path, entity):
    head = "cases.submitter_id|demographic.gender|demographic.age_at_index|treatments.type"
    head = head if entity else "case_submitter_id|gender|age_at_index|treatment_type"
    rows = ("TCGA-05-4244|male|70|a", "TCGA-05-4244|male|70|b", "TCGA-44-2656|Not Reported|'--|a")
    samples = write("aliquots.csv", "sample|tissue", *(f"{barcode}|lung" for barcode in BARCODES))
    notes = make_cohort_table(samples, None, tmp_path / "c.csv", subjects=write("clinical.tsv", head, *rows))
    assert "Rule tcga" in notes[0]
    assert read_cohort(tmp_path / "c.csv")[["age", "sex"]].values.tolist() == [["70", "male"], ["", ""]]


def test_any_table_and_further_columns(write, tmp_path):
    samples = write("samples.csv", "sample|donor|tissue|age|batch", "a|d1|lung|31|x", "b|d2|lung||y", "c|d3|lung|33|x")
    subjects = write("people.csv", "donor|age|smoker", "d1|99|yes", "d2|32|no")
    options = CohortOptions(keep=("smoker", "batch"))
    notes = make_cohort_table(samples, None, tmp_path / "c.csv", options, subjects=subjects)
    assert any(f"1 donors aren't in {subjects}, so nothing is known of them: d3." in note for note in notes)
    cohort = read_cohort(tmp_path / "c.csv")[["age", "smoker", "batch"]]
    assert cohort.values.tolist() == [["31", "yes", "x"], ["32", "no", "y"], ["33", "", "x"]]


@pytest.mark.parametrize(
    "rows, message",
    [
        (("name|age", "d1|3"), "people.csv has no column donor or SUBJID or case_submitter_id"),
        (("donor|height", "d1|3"), "people.csv has none of age, sex, ischaemic_min, hardy_scale; it has donor, height"),
        (("donor|age", "d1|3", "d1|4"), r"people.csv says different things of one donor \(d1\); keep one row each"),
        (("donor|age", "x1|3"), r"No donor is in .*people.csv \(--subjects\): it starts with x1, the samples with d1"),
    ],
)
def test_mistakes_are_reported(write, tmp_path, rows, message):
    samples = write("samples.csv", "sample|donor|tissue", "a|d1|lung")
    with pytest.raises(ValueError, match=message):
        make_cohort_table(samples, None, tmp_path / "c.csv", subjects=write("people.csv", *rows))


def test_sex_is_decoded_where_gtex_wrote_it_alone(write):
    assert read_subjects(write("a.txt", "SUBJID|SEX", "GTEX-1|1", "GTEX-2|2"))["sex"].tolist() == ["male", "female"]
    assert read_subjects(write("b.csv", "donor|sex", "d1|1", "d2|2"))["sex"].tolist() == ["1", "2"]
