import shlex

import pandas as pd
import pytest

from rnagan.cohort.build import CohortOptions, make_cohort_table
from rnagan.cohort.table import read_cohort
from tests import programs


@pytest.fixture
def tables(tmp_path):
    pd.DataFrame([{"SAMPID": f"SIM-{n:04d}-0226-SM-X", "SMTSD": "Lung", "SMCENTER": "B1"} for n in range(10)]).to_csv(
        tmp_path / "samples.tsv", sep="\t", index=False
    )
    pd.DataFrame(
        [{"slide": f"SIM-{n:04d}-0225", "donor": f"SIM-{n:04d}", "tissue": "Lung", "site": "S"} for n in range(5)]
    ).to_csv(tmp_path / "slides.csv", index=False)
    return tmp_path / "samples.tsv", tmp_path / "slides.csv", tmp_path / "cohort.csv"


def test_script_writes_repeats_and_extends(tables):
    samples, slides, out = tables
    command = ["rnagan", "build-cohort", "--samples", samples, "--slides", slides, "--out", out]
    first = programs.run(*command).check().stdout
    assert "10 profiles, 5 slides, 10 donors (6 train, 2 validation, 2 test)." in first
    before = read_cohort(out)
    assert "is up to date" in programs.run(*command).check().stdout
    samples.write_text(samples.read_text() + "SIM-0100-0226-SM-X\tLung\tB1\n")
    refused = programs.run(*command)
    assert refused.returncode == 1 and "exists and would change; add --extend" in refused.stderr
    programs.run(*command, "--extend", out).check()
    after = read_cohort(out)
    assert len(after) == 11 and after[:10].equals(before)


def test_missing_columns_are_named(tables):
    samples, slides, out = tables
    with pytest.raises(
        ValueError, match="Neither .*samples.tsv nor .*slides.csv has the column person .--donor-column."
    ):
        make_cohort_table(samples, slides, out, CohortOptions(columns={"donor": "person"}))
    slides.write_text("slide,donor\nw,d\n")
    with pytest.raises(ValueError, match="slides.csv has no column tissue; it has slide, donor"):
        make_cohort_table(samples, slides, out)


def test_the_script_hands_every_option_on(tmp_path, slide_folder, write):
    base, uuid = "TCGA-05-4244", "d4ff32cd-38cf-40ea-8213-45c2b100ac01"
    folder = slide_folder(f"{base}-01Z-00-DX1.{uuid}.svs", f"{base}-11A-01-TS1.{uuid}.svs", f"{base}-06A-01-TS1.svs")
    names = [f"{base}-{rest}-07" for rest in ("01A-01R-1107", "01A-01R-1108", "11A-01R-1107", "06A-01R-1107")]
    samples = write("samples.tsv", "name|purity", *(f"{name}|0.{number}" for number, name in enumerate(names)))
    expression = write("counts.csv", "sample|gene", *(f"{name}|1" for name in names[:3]))
    options = shlex.split(
        "--source tcga --tcga-slides both --sample-types 01,11 --aliquots all --tissue-is lung --keep purity "
        "--sample-column name --seed 3"
    )
    command = ["rnagan", "build-cohort", "--samples", samples, "--slides", folder, "--expression", expression]
    command += [*options, "--out", tmp_path / "cohort.csv"]
    said = programs.run(*command).check().stdout
    assert said.startswith("Rule tcga (--source tcga)")
    cohort = read_cohort(tmp_path / "cohort.csv")
    assert cohort[["sample", "tissue", "slide", "purity"]].values.tolist() == [
        [names[0], "lung", "", "0.0"],
        [names[1], "lung", f"{base}-01Z-00-DX1_{uuid}", "0.1"],
        [names[2], "lung (normal)", f"{base}-11A-01-TS1_{uuid}", "0.2"],
    ]
    wrong = programs.run(*command, "--tissues", "kidney")
    assert wrong.returncode == 1 and wrong.stderr.startswith("Error: No profile is of tissue kidney")
