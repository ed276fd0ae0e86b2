"""rnagan confounder-report on the toy cohort, from file to file."""

import base64
import json
import re
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from rnagan.evaluation.morphology import MEASURES
from rnagan.expression.h5ad import read_expression
from rnagan.training.tile_inputs import TileInputs

TOOL = Path(__file__).parents[2] / "tools/confounder_report.py"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # twelve steps of training: profiles are far soon


@pytest.fixture
def report(trained: Path, inputs: TileInputs, tmp_path: Path):
    """report(options…): the script on the toy cohort, which knows age and sex; another --cohort wins."""

    def call(*arguments: str) -> Result:
        cohort = pd.read_csv(inputs.cohort, keep_default_na=False)
        person = cohort["donor"].str[1:].astype(int)
        cohort = cohort.assign(age=(20 + 7 * person % 31).astype(str), sex=np.where(person % 3 > 0, "male", "female"))
        cohort.to_csv(tmp_path / "people.csv", index=False)
        main = runpy.run_path(str(TOOL))["main"]
        given = [f"--model={trained}", f"--shards={inputs.shards}", f"--expression={inputs.expression}"]
        given += [f"--cohort={tmp_path / 'people.csv'}", f"--out={tmp_path / 'out'}", "--n=2", "--draws=99"]
        return CliRunner().invoke(main, [*given, *arguments])

    return call


def test_from_files_to_files(report, tmp_path: Path) -> None:
    done = report("--covariates=site")
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "out/confounders.json").read_text())
    assert result["covariates"] == ["site"] and set(result["tissues"]) == set(result["conclusions"]) == {
        "cortex",
        "lung",
    }
    assert result["programmes"][0] == "unit 1" and "No --programmes" in result["notes"][0]
    assert all(result["tissues"][tissue]["donors"] == 5 for tissue in ("cortex", "lung"))
    table = pd.read_csv(tmp_path / "out/confounders.csv")
    rows = table[(table["tissue"] == "lung") & (table["section"] == "association with programme")]
    assert set(rows["tiles"]) == {"generated", "real"} and set(rows["measure"]) <= set(MEASURES)
    page = (tmp_path / "out/confounders.html").read_text(encoding="utf-8")
    assert result["conclusions"]["lung"].split(";")[0].split(",")[0] in page and 'src="http' not in page
    (png,) = re.findall(r"data:image/png;base64,([^\"]+)", page)
    assert base64.b64decode(png) == (tmp_path / "out/confounders.png").read_bytes()
    assert "What can't be said" in page and "5 donors" in page


def test_programmes_truth_and_the_same_result_again(report, inputs: TileInputs, truth: Path, tmp_path: Path) -> None:
    genes = read_expression(inputs.expression).genes
    rows = [(gene, "planted") for gene in genes[:10]] + [(genes[20], "other"), ("ENSG9", "other")]
    pd.DataFrame(rows, columns=["gene", "programme"]).to_csv(tmp_path / "sets.csv", index=False)
    options = (f"--programmes={tmp_path / 'sets.csv'}", f"--truth={truth}")
    done = report(*options)
    assert done.exit_code == 0, done.output
    first = (tmp_path / "out/confounders.json").read_bytes()
    result = json.loads(first)
    assert result["programmes"] == ["other", "planted"] and result["reference"] == "the truth"
    assert result["covariates"] == ["site", "age", "sex"]
    assert "people.csv has no column ischaemic_min" in result["notes"][0]
    assert "other: 1 of 2 genes aren't the model's." in result["notes"]
    assert any("no air fraction is expected" in note for note in result["tissues"]["cortex"]["notes"])
    assert report(*options).exit_code == 0 and (tmp_path / "out/confounders.json").read_bytes() == first


def test_a_programmes_score_follows_the_programme_that_made_its_genes(
    report, inputs: TileInputs, tmp_path: Path
) -> None:
    """The toy's ten genes move by one programme, which its real tiles' colour follows."""
    genes = read_expression(inputs.expression).genes
    pd.DataFrame({"gene": genes[:10]}).to_csv(tmp_path / "planted.csv", index=False)
    assert report(f"--programmes={tmp_path / 'planted.csv'}").exit_code == 0
    table = pd.read_csv(tmp_path / "out/confounders.csv")
    own = table[(table["with"] == "planted") & (table["tiles"] == "real") & (table["measure"] == "matrix_colour")]
    assert len(own) == 2 and (own["value"] < -0.8).all()


@pytest.mark.parametrize(
    "option, message",
    [
        ("--covariates=smoker", "people.csv has no column smoker"),
        ("--categories=batch", "--categories names batch, which is no covariate"),
        ("--programmes=nowhere.csv", "The table of programmes nowhere.csv does not exist"),
    ],
)
def test_mistakes_are_one_sentence(report, option: str, message: str) -> None:
    done = report(option)
    assert done.exit_code == 1 and message in done.output and "Traceback" not in done.output
