"""Donors by the ids of samples, row by row: mixtures, strangers, other spellings."""

import numpy as np
import pandas as pd
import pytest

from rnagan.cohort.build import CohortOptions, make_cohort_table
from rnagan.cohort.people import person_of
from rnagan.cohort.readers import gtex, tcga
from rnagan.cohort.table import read_cohort

LETTERS = list("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789")


def person(random: np.random.Generator, project: str) -> str:
    def text(n):
        return "".join(random.choice(LETTERS, n))

    return {
        "GTEx": f"GTEX-{text(random.integers(4, 6))}",
        "TCGA": f"TCGA-{text(2)}-{text(4)}",
        "TARGET": f"TARGET-{random.integers(10, 60)}-{text(6)}",
        "CPTAC": f"C3{random.choice(['L', 'N'])}-{random.integers(10000, 99999)}",
    }[project]


def sample(random: np.random.Generator, of: str) -> str:
    ends = {"GTEX": ["-0226-SM-5GZZ7", "-0003-SM-58Q7G.1"], "TCGA": ["-01", "-11A", "-01A-01R-1107-07"]}
    name = of + str(random.choice(ends.get(of[:4], ["-01", "-09A"])))
    name = name.replace("-", ".") if random.random() < 0.2 else name
    return name.lower() if random.random() < 0.2 else name


def test_random_ids_name_their_person() -> None:
    random = np.random.default_rng(3)
    for _ in range(1000):
        project = str(random.choice(["GTEx", "TCGA", "TARGET", "CPTAC"]))
        of = person(random, project)
        assert person_of(sample(random, of)) == (project, of)


@pytest.mark.parametrize("text", ["K-562-SM-2AXVE", "S1", "SIM-0001-0226", "GSM123", "TCGA", "GTEX", "TCGA-05-42"])
def test_other_ids_name_nobody(text: str) -> None:
    assert person_of(text) == ("", "")


SPELLINGS = [(sign, change) for sign in "-._" for change in (str.upper, str.lower, str.title)]
NAMED = {  # what comes behind the person, and the place that it says
    "GTEx": {"-0725": "07", "-1926-SM-5GZZ7": "19", "-5005-SM-58Q7G.1": "5005", "-0011-R10a-SM-58Q7G": ""},
    "TCGA": {"-01A-01R-1107-07": "01", "-11B": "11", "": None, "-06A-11H-A12B-07": "06"},
}
SLIDES = {"GTEx": {"-0725": "07", "-2525": "25"}, "TCGA": {"-01Z-00-DX1": "01", "-11A-01-TS1_0a1b-22": "11"}}


@pytest.mark.parametrize(("sign", "change"), SPELLINGS)
@pytest.mark.parametrize("project", NAMED)
def test_readers_and_donor_rule_agree_on_every_spelling(project: str, sign: str, change) -> None:
    """Names are spelled as projects, R, file systems and laboratories do."""
    random, notes = np.random.default_rng(5), list[str]()
    persons = [person(random, project) for _ in range(20)]
    for ends, what in ((NAMED[project], "sample"), (SLIDES[project], "slide")):
        ids = [change((each + end).replace("-", sign)) for each in persons for end in ends]
        table = pd.DataFrame({what: ids, "tissue": "lung", "site": ""})
        if project == "GTEx":
            assert gtex.is_id(table[what]).all()
            found = gtex.prepare_samples(table, notes) if what == "sample" else gtex.prepare_slides(table, notes)
        elif what == "sample":
            assert tcga.is_sample(table[what]).all()
            found = tcga.prepare_samples(table, ["01", "06", "11"], True, (), notes)
        else:
            assert tcga.is_slide(table[what]).all() and not tcga.is_sample(table[what]).any()
            found = tcga.prepare_slides(table, "both", ["01", "11"], notes)
        assert len(found) == len(ids) and not any("left out" in note for note in notes)
        places = {change((each + end).replace("-", sign)): ends[end] for each in persons for end in ends}
        for name, donor, place in found[[what, "donor", "place"]].itertuples(index=False):
            assert (project, donor) == person_of(name) and donor in persons
            assert place == (places[name] or ("01" if project == "TCGA" else ""))


@pytest.mark.parametrize("sign", list("-._"))
def test_an_rna_sample_is_no_slide_in_any_spelling(sign: str) -> None:
    slides = pd.DataFrame({"slide": ["gtex-11dxy-0526-sm-5eggq".replace("-", sign)], "site": ""})
    with pytest.raises(ValueError, match="--slides lists RNA samples"):
        gtex.prepare_slides(slides, [])


def test_slides_of_a_laboratory_pair_with_rna_that_r_wrote(tmp_path) -> None:
    slides = [f"TCGA.05.42{n}4.01Z.00.DX1.svs" for n in range(3)] + ["tcga-05-4294-01z-00-dx1.svs"]
    (tmp_path / "slides.csv").write_text("\n".join(["slide", *slides]) + "\n")
    table = expression(tmp_path / "t.tsv", [f"tcga.05.42{n}4.01a.11r.1858.07" for n in (0, 1, 2, 9)])
    make_cohort_table(table, tmp_path / "slides.csv", tmp_path / "c.csv", CohortOptions(tissue="lung"))
    cohort = read_cohort(tmp_path / "c.csv")
    assert (cohort["slide"] != "").all() and cohort["donor"].tolist() == [f"TCGA-05-42{n}4" for n in (0, 1, 2, 9)]


def expression(path, samples: list[str]):
    values = [f"ENSG{k:011d}.1\t" + "\t".join(["1.5"] * len(samples)) for k in range(3)]
    path.write_text("\n".join(["\t".join(["gene_id", *samples]), *values]) + "\n")
    return path


def test_a_mixture_of_projects_keeps_everybody_in_one_split(tmp_path) -> None:
    random = np.random.default_rng(11)
    persons = [person(random, project) for project in ("GTEx", "TCGA", "TARGET") for _ in range(12)]
    of = {name: each for each in persons for name in {sample(random, each) for _ in range(6)}}
    table = expression(tmp_path / "toil.tsv", list(of))
    lines = make_cohort_table(table, None, tmp_path / "c.csv", CohortOptions(tissue="lung"))
    cohort = read_cohort(tmp_path / "c.csv")
    assert cohort["donor"].tolist() == [of[name] for name in cohort["sample"]]
    assert (cohort.groupby("donor")["split"].nunique() == 1).all()
    assert any("Donors are those that the samples' ids name: " in line and "of TARGET" in line for line in lines)


IDS = ["GTEX-1117F-0226-SM-5GZZ7", "GTEX-1117F-0426-SM-5EGHI", "GTEX-111CU-0226-SM-5GZXC"]


def test_a_stranger_is_refused_or_declared(tmp_path) -> None:
    table = expression(tmp_path / "t.tsv", [*IDS, "biopsy 7"])
    with pytest.raises(
        ValueError, match=r"1 of 4 samples of .*t\.tsv \(biopsy 7\) have no id of GTEx.* --source table"
    ):
        make_cohort_table(table, None, tmp_path / "c.csv", CohortOptions(tissue="lung"))
    lines = make_cohort_table(table, None, tmp_path / "c.csv", CohortOptions(tissue="lung", source="table"))
    assert any("3 of GTEx, 1 of no project (biopsy 7), each a donor of its own." in line for line in lines)
    donors = dict(read_cohort(tmp_path / "c.csv")[["sample", "donor"]].to_numpy())
    assert donors == dict(zip([*IDS, "biopsy 7"], ["GTEX-1117F", "GTEX-1117F", "GTEX-111CU", "biopsy 7"], strict=True))


def test_one_person_is_one_donor_whatever_a_column_says(tmp_path) -> None:
    path = tmp_path / "s.csv"
    pd.DataFrame({"sample": IDS, "donor": IDS, "tissue": "lung"}).to_csv(path, index=False)
    with pytest.raises(ValueError, match="gives 1 people several donors: GTEX-1117F, as the ids say, is GTEX-1117F-02"):
        make_cohort_table(path, None, tmp_path / "c.csv", CohortOptions(source="table"))
    pd.DataFrame(
        {"sample": IDS, "donor": IDS, "tissue": "", "split": ["train", "test", "train"], "slide": "", "site": ""}
    ).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"has a person in two splits \(GTEX-1117F\)"):
        read_cohort(path)


@pytest.mark.parametrize("corner", ["sample", "Sample", "gene", "", "#gene_id"])
@pytest.mark.parametrize("name", ["m.tsv", "m.TSV", "m.csv"])
def test_the_columns_of_a_matrix_are_its_samples_whatever_its_corner_says(tmp_path, corner: str, name: str) -> None:
    path = expression(tmp_path / name, IDS)
    text = path.read_text().replace("gene_id", corner)
    path.write_text(text if "tsv" in name.lower() else text.replace("\t", ","))
    make_cohort_table(path, None, tmp_path / "c.csv", CohortOptions(tissue="lung"))
    assert read_cohort(tmp_path / "c.csv")["sample"].tolist() == sorted(IDS)


def test_symbols_are_no_samples_though_the_corner_says_sample(tmp_path) -> None:
    rows = [f"{gene}\t1.5\t2" for gene in ("ARHGEF10L", "TP53", "HIF3A", "EGFR", "GAPDH")]
    (tmp_path / "m.tsv").write_text("\n".join(["sample\tpatient one\tpatient two", *rows]) + "\n")
    make_cohort_table(tmp_path / "m.tsv", None, tmp_path / "c.csv", CohortOptions(tissue="lung"))
    assert read_cohort(tmp_path / "c.csv")["sample"].tolist() == ["patient one", "patient two"]
