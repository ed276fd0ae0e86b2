"""GTEx as it is downloaded: slides pair with RNA by donor and tissue site."""

import pytest

from rnagan.cohort.build import CohortOptions, make_cohort_table
from rnagan.cohort.table import read_cohort

ATTRIBUTES = (
    "SAMPID|SMTS|SMTSD|SMCENTER|SMTSISCH|SMAFRZE",
    "GTEX-11GSP-0726-SM-5986L|Lung|Lung|B1|120|RNASEQ",
    "GTEX-11GSP-0526-SM-AAAAA|Lung|Lung|B1|130|RNASEQ",
    "GTEX-11GSP-0626-SM-5986T|Liver|Liver|C1|90|RNASEQ",
    "GTEX-11GSP-0011-R10a-SM-BBBBB|Brain|Brain - Frontal Cortex (BA9)|D1||RNASEQ",
    "GTEX-11GSP-0005-SM-CCCCC|Blood|Whole Blood|B1||RNASEQ",
    "GTEX-11GSP-0004-SM-DDDDD|Blood|Whole Blood|B1||WGS",
    "GTEX-1117F-0326-SM-EEEEE|Lung|Lung|B1||EXCLUDE",
    "GTEX-1117F-3126-SM-FFFFF|Brain|Brain - Cortex|C1||RNASEQ",
    "GTEX-145ME-5005-SM-GGGGG|Esophagus|Esophagus - Mucosa|C1||RNASEQ",
    "GTEX-145ME-5001-SM-HHHHH|Lung|Lung|C1||RNASEQ",
)
SLIDES = (
    "GTEX-11GSP-0725.svs",
    "GTEX-11GSP-0625.svs",
    "GTEX-1117F-0325.svs",
    "GTEX-1117F-3125.svs",
    "GTEX-145ME-5001.svs",
)


def pairs(path):
    cohort = read_cohort(path)
    return dict(cohort.loc[cohort["slide"] != "", ["slide", "sample"]].values.tolist())


@pytest.fixture
def build(tmp_path, slide_folder, write):
    """build(options…, slides=…, attributes=…) → notes and path of the cohort table."""

    def make(slides=None, attributes=ATTRIBUTES, extend=None, **options):
        out = tmp_path / "cohort.csv"
        slides = slide_folder(*SLIDES) if slides is None else slides
        samples = write("SampleAttributesDS.txt", *attributes)
        return make_cohort_table(samples, slides, out, CohortOptions(**options), extend=extend), out

    return make


def test_a_slide_goes_with_the_rna_of_its_donor_and_site(build):
    notes, out = build()
    # By donor and tissue, 0725 could go with either lung sample of the donor, and the first by name is the wrong one.
    assert pairs(out) == {
        "GTEX-11GSP-0725": "GTEX-11GSP-0726-SM-5986L",
        "GTEX-11GSP-0625": "GTEX-11GSP-0626-SM-5986T",
        "GTEX-1117F-3125": "GTEX-1117F-3126-SM-FFFFF",
        "GTEX-145ME-5001": "GTEX-145ME-5001-SM-HHHHH",
    }
    cohort = read_cohort(out).set_index("slide")
    assert cohort.loc["GTEX-1117F-3125", ["donor", "tissue", "site"]].tolist() == ["GTEX-1117F", "Brain - Cortex", "C1"]
    assert notes[0] == (
        "Rule gtex (recognised by the ids): a slide goes with the RNA profile of its donor and tissue site."
    )
    assert "left out: SMAFRZE is not RNASEQ (1 WGS, 1 EXCLUDE)." in notes[1]
    assert notes[2].startswith("2 samples are blood, cultured cells or frozen brain (site code 00)")
    assert notes[3] == (
        "4 slides are paired by donor and tissue site, 1 not at all and left out (GTEX-1117F-0325), 0 of them of "
        "donors without a profile."
    )


def test_codes_from_50_on_number_pieces_and_name_no_site(build, slide_folder):
    # Both begin with 50: by two digits the lung slide would go with the oesophagus.
    rows = [row for row in ATTRIBUTES if "HHHHH" not in row]
    notes, out = build(attributes=rows)
    assert "GTEX-145ME-5001" not in pairs(out)
    assert "2 not at all and left out (GTEX-1117F-0325, GTEX-145ME-5001), 1 of them" not in notes[3]


def test_tissue_stands_in_where_the_slides_say_it_and_no_frozen_brain_is_used(build, write):
    slides = write(
        "GTEx Portal.csv",
        "Tissue Sample ID|Tissue|Subject ID",
        "GTEX-11GSP-0925|Lung|GTEX-11GSP",
        "GTEX-11GSP-3125|Brain - Frontal Cortex (BA9)|GTEX-11GSP",
        "GTEX-11GSP-0625|Liver|GTEX-11GSP",
    )
    notes, out = build(slides)
    assert pairs(out) == {"GTEX-11GSP-0625": "GTEX-11GSP-0626-SM-5986T", "GTEX-11GSP-0925": "GTEX-11GSP-0526-SM-AAAAA"}
    assert (
        "1 slides are paired by donor and tissue site, 1 by donor and tissue (GTEX-11GSP-0925), 1 not at all and left "
        "out (GTEX-11GSP-3125), 0 of them of donors without a profile." in notes
    )


def test_a_slide_that_says_another_tissue_than_its_site_is_reported(build, write):
    slides = write("s.csv", "slide|tissue", "GTEX-11GSP-0725|Liver", "GTEX-1117F-3125|Brain", "GTEX-11GSP-0525|lung")
    notes, out = build(slides)
    assert pairs(out)["GTEX-11GSP-0725"] == "GTEX-11GSP-0726-SM-5986L"
    assert (
        "1 slides are of another tissue than the profile of their tissue site, as GTEX-11GSP-0725, Liver against Lung."
        in notes
    )


def test_several_samples_or_slides_of_a_site_are_reported(build, slide_folder):
    extra = "GTEX-11GSP-0726-SM-11111|Lung|Lung|B1|1|RNASEQ"
    notes, out = build(slide_folder("GTEX-11GSP-0725.svs", "GTEX-11GSP-0726.svs"), attributes=(*ATTRIBUTES, extra))
    assert pairs(out) == dict.fromkeys(["GTEX-11GSP-0725", "GTEX-11GSP-0726"], "GTEX-11GSP-0726-SM-11111")
    assert (
        "1 donors' tissue sites with slides have several profiles; their slides go with the first, "
        "GTEX-11GSP-0726-SM-11111." in notes
    )
    assert (
        "1 donors' tissue sites have several slides, which share a profile, as GTEX-11GSP-0725, GTEX-11GSP-0726."
        in notes
    )


@pytest.mark.parametrize("name", ["tpm.gct", "tpm.gct.gz", "tpm.csv", "tpm.tsv.gz"])
def test_only_samples_of_the_expression_table_are_kept(build, write, name):
    wanted = ["GTEX-11GSP-0626-SM-5986T", "GTEX-1117F-3126-SM-FFFFF", "GTEX-XXXXX-0126-SM-ZZZZZ"]
    rows = (
        ("#1.2", "2|3", "|".join(["Name", "Description", *wanted]), "ENSG1|A|1|2|3")
        if ".gct" in name
        else ("sample|ENSG1", *(f"{sample}|1" for sample in wanted))
    )
    notes, out = build(expression=write(name, *rows))
    assert set(pairs(out).values()) == set(read_cohort(out)["sample"]) == set(wanted[:2])
    assert any("6 samples left out: not in" in note for note in notes)
    assert any("left out: --samples lacks them (GTEX-XXXXX-0126-SM-ZZZZZ)." in note for note in notes)


def test_an_expression_table_of_other_samples_is_refused(build, write):
    with pytest.raises(ValueError, match="No sample is in .*: it starts with A, the samples with GTEX-11GSP-0726"):
        build(expression=write("x.csv", "sample|gene", "A|1"))


def test_some_tissues_only(build):
    notes, out = build(tissues=("lung", "Brain - Cortex"))
    assert set(read_cohort(out)["tissue"]) == {"Lung", "Brain - Cortex"}
    assert set(pairs(out)) == {"GTEX-11GSP-0725", "GTEX-1117F-3125", "GTEX-145ME-5001"}
    assert any(note.startswith("4 profiles and 1 slides left out: of other tissues (Brain - Frontal") for note in notes)
    with pytest.raises(
        ValueError, match=r"No profile is of tissue Kidney .--tissues.; there are Brain - Cortex, Brain"
    ):
        build(tissues=("Lung", "Kidney"))


def test_further_columns_are_carried(build, write):
    slides = write("s.csv", "wsi_file_name|mpp|scanner", "GTEX-11GSP-0725.svs|0.4942|AT2", "GTEX-11GSP-0625.svs||AT2")
    _, out = build(slides, keep=("SMTSISCH", "scanner"))
    cohort = read_cohort(out).set_index("sample")
    assert cohort.loc["GTEX-11GSP-0726-SM-5986L", ["mpp", "SMTSISCH", "scanner"]].tolist() == ["0.4942", "120", "AT2"]
    assert cohort.loc["GTEX-11GSP-0626-SM-5986T", ["mpp", "SMTSISCH", "scanner"]].tolist() == ["", "90", "AT2"]
    with pytest.raises(ValueError, match="Neither .* has the column age .--keep."):
        build(slides, keep=("age",))
    with pytest.raises(ValueError, match="--keep tissue names a column with a meaning of its own"):
        build(slides, keep=("tissue",))


def test_rna_samples_given_as_slides_are_refused(build, write):
    slides = write("gtex_liver.csv", "wsi_file_name", "GTEX-11DXY-0526-SM-5EGGQ")
    with pytest.raises(ValueError, match="--slides lists RNA samples .GTEX-11DXY-0526-SM-5EGGQ., not slides"):
        build(slides)


def test_strangers_among_the_slides_need_a_word(build, slide_folder):
    folder = slide_folder(*SLIDES, "CMU-1.svs")
    with pytest.raises(ValueError, match="donor and tissue, and 1 of 6 slides .CMU-1. aren't called as GTEx or TCGA"):
        build(folder)
    notes, out = build(folder, source="gtex")
    assert notes[0].startswith("Rule gtex (--source gtex)") and len(pairs(out)) == 4
    assert any("1 slides left out: no GTEx id (CMU-1)." in note for note in notes)


def test_the_rule_can_be_forced_to_the_columns(build, write):
    slides = write("s.csv", "slide|donor|tissue", "GTEX-11GSP-0725|GTEX-11GSP|Lung")
    notes, out = build(slides, source="table")
    assert notes[0] == "Rule table (--source table): a slide goes with the profile of its donor and tissue."
    assert pairs(out) == {"GTEX-11GSP-0725": "GTEX-11GSP-0526-SM-AAAAA"}  # the first lung sample, of another site
    with pytest.raises(ValueError, match="the ids say the donor; leave out --donor-column"):
        build(slides, source="gtex", columns={"donor": "donor"})
    with pytest.raises(ValueError, match="--pair-by tissue and --source gtex"):
        build(slides, source="gtex", pair_by="tissue")


def test_two_files_with_one_id_are_refused_by_name(build, slide_folder):
    with pytest.raises(ValueError, match="slides/0/GTEX-11GSP-0725.svs and .*1/GTEX-11GSP-0725.tif would both become"):
        build(slide_folder("GTEX-11GSP-0725.svs", "GTEX-11GSP-0725.tif"))


def test_an_empty_folder_is_refused(build, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty holds no slide"):
        build(tmp_path / "empty")
