"""TCGA as it is downloaded: slides pair with RNA by donor and sample type."""

import pytest

from rnagan.cohort.build import CohortOptions, make_cohort_table
from rnagan.cohort.table import read_cohort

UUID = "d4ff32cd-38cf-40ea-8213-45c2b100ac01"
SLIDES = tuple(
    f"{name}.{UUID}.svs"
    for name in (
        "TCGA-05-4244-01Z-00-DX1",
        "TCGA-05-4244-01Z-00-DX2",
        "TCGA-05-4244-01A-01-TS1",
        "TCGA-05-4244-11A-01-BS1",
        "TCGA-44-2656-01Z-00-DX1",
        "TCGA-44-2656-06A-01-MSA",
        "TCGA-99-9999-01Z-00-DX1",
    )
)
ALIQUOTS = (
    "sample|tissue",
    "TCGA-05-4244-01A-01R-1107-07|lung",
    "TCGA-05-4244-11A-01R-1107-07|lung",
    "TCGA-44-2656-01A-02R-0946-07|lung",
    "TCGA-44-2656-01A-02R-A278-07|lung",
    "TCGA-44-2656-01B-06R-A277-07|lung",
    "TCGA-44-2656-06A-01R-A277-07|lung",
)
SHEET = "File ID|File Name|Data Category|Data Type|Project ID|Case ID|Sample ID|Sample Type"
RNA = "Transcriptome Profiling|Gene Expression Quantification|TCGA-LUAD"


def pairs(path):
    cohort = read_cohort(path)
    return dict(cohort.loc[cohort["slide"] != "", ["slide", "sample"]].values.tolist())


def slide(name):
    return f"{name}_{UUID}"


@pytest.fixture
def build(tmp_path, slide_folder, write):
    def make(slides=None, samples=None, extend=None, **options):
        slides = slide_folder(*SLIDES) if slides is None else slides
        samples = write("aliquots.csv", *ALIQUOTS) if samples is None else samples
        out = tmp_path / "cohort.csv"
        if extend is None:
            out.unlink(missing_ok=True)
        return make_cohort_table(samples, slides, out, CohortOptions(**options), extend=extend), out

    return make


def test_diagnostic_slides_go_with_the_tumour_and_a_normal_is_another_tissue(build):
    notes, out = build()
    assert pairs(out) == {
        slide("TCGA-05-4244-01Z-00-DX1"): "TCGA-05-4244-01A-01R-1107-07",
        slide("TCGA-05-4244-01Z-00-DX2"): "TCGA-05-4244-01A-01R-1107-07",
        slide("TCGA-44-2656-01Z-00-DX1"): "TCGA-44-2656-01A-02R-A278-07",
    }
    cohort = read_cohort(out).drop_duplicates("sample").set_index("sample")
    assert cohort.loc["TCGA-05-4244-01A-01R-1107-07", ["donor", "tissue", "site"]].tolist() == [
        "TCGA-05-4244",
        "lung",
        "05",
    ]
    assert cohort.loc["TCGA-05-4244-11A-01R-1107-07", ["donor", "tissue"]].tolist() == ["TCGA-05-4244", "lung (normal)"]
    assert notes == [
        "Rule tcga (recognised by the ids): a slide goes with the RNA profile of its donor and sample type.",
        "1 samples left out: sample type 06 (TCGA-44-2656-06A-01R-A277-07).",
        "2 further aliquots of 1 donors' samples are left out (vial A first, then GDAC's rule: analyte H, R, T; later "
        "plate): TCGA-44-2656-01A-02R-0946-07, TCGA-44-2656-01B-06R-A277-07.",
        "4 slides are diagnostic (DX, FFPE) and 3 frozen (TS, BS, MS); --tcga-slides diagnostic.",
        f"3 slides left out: frozen ({slide('TCGA-05-4244-01A-01-TS1')}, {slide('TCGA-05-4244-11A-01-BS1')}, "
        f"{slide('TCGA-44-2656-06A-01-MSA')}).",
        f"3 slides are paired by donor and sample type, 1 not at all and left out "
        f"({slide('TCGA-99-9999-01Z-00-DX1')}), 1 of them of donors without a profile.",
        f"1 donors' sample types have several slides, which share a profile, as {slide('TCGA-05-4244-01Z-00-DX1')}, "
        f"{slide('TCGA-05-4244-01Z-00-DX2')}.",
        "1 profiles have no slide and are kept for the VAE: TCGA-05-4244-11A-01R-1107-07.",
        f"{out}: 3 profiles, 3 slides, 2 donors (1 train, 1 validation, 0 test).",
    ]


def test_frozen_slides_of_a_normal_go_with_the_normal(build):
    _, out = build(tcga_slides="frozen", sample_types=("01", "06", "11"))
    assert pairs(out) == {
        slide("TCGA-05-4244-01A-01-TS1"): "TCGA-05-4244-01A-01R-1107-07",
        slide("TCGA-05-4244-11A-01-BS1"): "TCGA-05-4244-11A-01R-1107-07",
        slide("TCGA-44-2656-06A-01-MSA"): "TCGA-44-2656-06A-01R-A277-07",
    }
    tissues = dict(read_cohort(out)[["sample", "tissue"]].values)
    assert tissues["TCGA-44-2656-06A-01R-A277-07"] == "lung (metastatic)"
    _, out = build(tcga_slides="both")
    assert len(pairs(out)) == 5


def test_the_aliquot_follows_gdac(build, write):
    """T is dropped for R and H, H wins over R, then the later plate, then the last name; but vial A comes first."""
    for better, worse in (
        ("TCGA-55-7913-01A-11H-2237-01", "TCGA-55-7913-01A-11R-2238-01"),
        ("TCGA-55-7913-01A-11R-2237-01", "TCGA-55-7913-01A-11T-2238-01"),
        ("TCGA-55-7913-01A-11R-A28V-07", "TCGA-55-7913-01A-11R-2241-07"),
        ("TCGA-55-7913-01A-12R-2237-01", "TCGA-55-7913-01A-11R-2237-01"),
        ("TCGA-55-7913-01A-11T-2237-01", "TCGA-55-7913-01B-11H-2238-01"),
    ):
        for order in ((better, worse), (worse, better)):
            _, out = build(samples=write("a.csv", "sample|tissue", *(f"{name}|lung" for name in order)),
                           slides=write("s.csv", "slide", "TCGA-55-7913-01Z-00-DX1.svs"))  # fmt: skip
            assert pairs(out) == {"TCGA-55-7913-01Z-00-DX1": better}
            assert read_cohort(out)["sample"].tolist() == [better]


def test_all_aliquots_are_kept_if_asked_and_the_slides_still_go_with_one(build):
    notes, out = build(all_aliquots=True)
    assert len(read_cohort(out)["sample"].unique()) == 5
    assert pairs(out)[slide("TCGA-44-2656-01Z-00-DX1")] == "TCGA-44-2656-01A-02R-A278-07"
    assert any("2 further aliquots of 1 donors' samples are kept without a slide" in note for note in notes)


def test_a_later_aliquot_does_not_take_over_in_an_extended_table(build, write):
    first = [row for row in ALIQUOTS if "A278" not in row]
    _, out = build(samples=write("first.csv", *first))
    before = read_cohort(out)
    assert pairs(out)[slide("TCGA-44-2656-01Z-00-DX1")] == "TCGA-44-2656-01A-02R-0946-07"
    notes, out = build(extend=out)
    assert read_cohort(out).equals(before) and notes[-1].endswith("is up to date.")


def test_cases_alone_are_primary_tumours(build, write):
    samples = write("stad.csv.gz", "sample|ENSG1|ENSG2", "TCGA-05-4244|1|2", "TCGA-44-2656|3|4")
    with pytest.raises(ValueError, match="stad.csv.gz has no column tissue or SMTSD"):
        build(samples=samples)
    notes, out = build(samples=samples, tissue="stomach", tcga_slides="both")
    assert any("2 samples are called by their case alone and taken as type 01: TCGA-05-4244, TCGA" in n for n in notes)
    assert set(pairs(out)) == {
        slide("TCGA-05-4244-01Z-00-DX1"),
        slide("TCGA-05-4244-01Z-00-DX2"),
        slide("TCGA-05-4244-01A-01-TS1"),
        slide("TCGA-44-2656-01Z-00-DX1"),
    }
    assert set(read_cohort(out)["tissue"]) == {"stomach"}
    with pytest.raises(ValueError, match="aliquots.csv has the tissue column tissue; leave out --tissue-is"):
        build(tissue="lung")


@pytest.fixture
def sheet(write):
    """A sample sheet of the GDC: RNA and slides of the same cases, and a file of another kind."""
    return write(
        "gdc_sample_sheet.2025-01-31.tsv",
        SHEET,
        f"1|a.rna_seq.augmented_star_gene_counts.tsv|{RNA}|TCGA-05-4244|TCGA-05-4244-01A|Primary Tumor",
        f"2|b.rna_seq.augmented_star_gene_counts.tsv|{RNA}|TCGA-05-4244|TCGA-05-4244-11A|Solid Tissue Normal",
        f"3|c.rna_seq.augmented_star_gene_counts.tsv|{RNA}|TCGA-44-2656|TCGA-44-2656-01A|Primary Tumor",
        f"4|d.rna_seq.augmented_star_gene_counts.tsv|{RNA}|TCGA-44-2656|TCGA-44-2656-01A|Primary Tumor",
        "5|e.maf.gz|Simple Nucleotide Variation|Masked Somatic Mutation|TCGA-LUAD|TCGA-05-4244, TCGA-05-4244|"
        "TCGA-05-4244-01A, TCGA-05-4244-10A|Primary Tumor, Blood Derived Normal",
        f"6|{SLIDES[0]}|Biospecimen|Slide Image|TCGA-LUAD|TCGA-05-4244|TCGA-05-4244-01Z|Primary Tumor",
        f"7|{SLIDES[3]}|Biospecimen|Slide Image|TCGA-LUAD|TCGA-05-4244|TCGA-05-4244-11A|Solid Tissue Normal",
        f"8|{SLIDES[4]}|Biospecimen|Slide Image|TCGA-LUAD|TCGA-44-2656|TCGA-44-2656-01Z|Primary Tumor",
    )


def test_a_gdc_sample_sheet_gives_both(build, sheet):
    notes, out = build(samples=sheet, slides=sheet, tcga_slides="both")
    assert pairs(out) == {
        slide("TCGA-05-4244-01Z-00-DX1"): "TCGA-05-4244-01A",
        slide("TCGA-05-4244-11A-01-BS1"): "TCGA-05-4244-11A",
        slide("TCGA-44-2656-01Z-00-DX1"): "TCGA-44-2656-01A",
    }
    cohort = read_cohort(out)
    assert cohort.columns.tolist() == ["sample", "donor", "tissue", "split", "slide", "site"]
    assert dict(cohort[["sample", "tissue"]].values) == {
        "TCGA-05-4244-01A": "TCGA-LUAD",
        "TCGA-05-4244-11A": "TCGA-LUAD (normal)",
        "TCGA-44-2656-01A": "TCGA-LUAD",
    }
    assert any("4 rows" in n and "is not Gene Expression Quantification (3 Slide Image, 1 Masked" in n for n in notes)
    assert any("5 rows" in n and "is not Slide Image" in n for n in notes)
    assert any(
        "1 further files of a sample share its id and count as one profile: TCGA-44-2656-01A" in n for n in notes
    )


def test_profiles_called_by_their_file_keep_their_barcodes(build, sheet):
    _, out = build(samples=sheet, slides=sheet, columns={"sample": "File ID"})
    assert pairs(out) == {slide("TCGA-05-4244-01Z-00-DX1"): "1", slide("TCGA-44-2656-01Z-00-DX1"): "4"}
    assert "barcode" not in read_cohort(out)


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        (["TCGA-05-4244-01A-01R-1107-07", "TCGA-05-4244-11A-01R-1758-07", "TCGA-77-7777-01A-01R-1107-07"], (0, 1)),
        (["TCGA-44-2656", "TCGA-05-4244"], (0, 1)),
    ],
)
def test_a_matrix_may_call_samples_by_longer_or_shorter_barcodes(build, sheet, write, ids, found):
    expression = write("counts.csv", "sample|ENSG1", *(f"{name}|1" for name in ids))
    notes, out = build(samples=sheet, slides=sheet, expression=expression, tcga_slides="both")
    tissues = dict(read_cohort(out)[["sample", "tissue"]].values)
    assert set(tissues) == {ids[n] for n in found}
    assert all(("-11A" in name) == (tissue == "TCGA-LUAD (normal)") for name, tissue in tissues.items())
    assert any("Samples are called as in" in note for note in notes)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sample_types": ("1",)}, "--sample-types must be two-digit codes like 01,11, not '1'"),
        ({"sample_types": ()}, "--sample-types must be two-digit codes"),
        ({"sample_types": ("03",)}, "No sample of .*aliquots.csv is left: .*sample type 01"),
        ({"tcga_slides": "fixed", "source": "tcga"}, "--tcga-slides must be one of diagnostic, frozen, both"),
        ({"source": "tgca"}, "--source must be one of auto, gtex, tcga, table"),
    ],
)
def test_mistakes_cost_one_sentence(build, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(**options)
