"""rnagan perturb on the toy cohort, from file to file."""

import json
import re
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from rnagan.api import RNAGAN
from rnagan.evaluation import perturbation
from rnagan.evaluation.morphology import MEASURES, measure
from rnagan.evaluation.perturbation import Request, perturb_tiles
from rnagan.expression.h5ad import read_expression
from rnagan.training.tile_inputs import TileInputs

TOOL = Path(__file__).parents[2] / "tools/perturb.py"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # twelve steps of training: profiles are far soon


@pytest.fixture(scope="module")
def programmes(inputs: TileInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy's programme, whose ten genes follow it, and another."""
    genes = read_expression(inputs.expression).genes
    rows = [(gene, "programme", 1.0) for gene in genes[:10]] + [(genes[20], "other", 0.5), ("ENSG9", "other", 1.0)]
    path = tmp_path_factory.mktemp("programmes") / "programmes.csv"
    pd.DataFrame(rows, columns=["gene", "programme", "loading"]).to_csv(path, index=False)
    return path


@pytest.fixture
def perturb(trained: Path, inputs: TileInputs, tmp_path: Path):
    def call(*arguments: str) -> Result:
        main = runpy.run_path(str(TOOL))["main"]
        given = [f"--model={trained}", f"--profiles={inputs.expression}", f"--out={tmp_path / 'out'}"]
        return CliRunner().invoke(main, [*given, "--split=test", "--n=2", "--steps=3", *arguments])

    return call


def test_programme_beside_the_truth(perturb, programmes: Path, truth: Path, inputs: TileInputs, tmp_path: Path) -> None:
    table = pd.read_csv(truth).merge(pd.read_csv(inputs.cohort)[["sample", "programme"]], on="sample")
    table.to_csv(tmp_path / "truth.csv", index=False)
    done = perturb(f"--programme={programmes}", "--name=programme", f"--truth={tmp_path / 'truth.csv'}", "--reach=0.5")
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "out/perturbation.json").read_text())
    assert result["genes"] == 10 and result["steps"] == [-0.5, 0, 0.5] and set(result["tissues"]) == {"cortex", "lung"}
    of_lung = result["tissues"]["lung"]["truth"]
    assert of_lung["nuclear_density"]["expected"] == pytest.approx(300) and of_lung["site_stain"]["expected"] == 0
    assert "air_fraction" not in result["tissues"]["cortex"]["truth"]
    assert "shouldn't move" in done.output and "ratio" in done.output
    curves = pd.read_csv(tmp_path / "out/curves.csv")
    assert len(curves) == 2 * 3 * len(MEASURES) and (curves["low"] <= curves["high"]).all()
    assert set(curves["donors"]) == {5}
    with Image.open(tmp_path / "out/strip_lung.png") as strip:
        assert strip.text["Synthetic"] == "true"
        assert strip.size[1] == 18 + 4 * 2 * (32 + 2) - 2  # four donors, two noises each
    assert (tmp_path / "out/curves.png").is_file()


def test_tiles_differ_by_the_profile_alone(
    trained: Path, inputs: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle, where nothing is moved, they are those of `generate`; beside it the noise is the same."""
    kept: dict[str, np.ndarray] = {}
    monkeypatch.setattr(
        perturbation, "tile_strip", lambda path, tiles, names, *_: kept.update({path.stem: tiles, "names": names})
    )
    model, data = RNAGAN.from_pretrained(trained), read_expression(inputs.expression)
    request = Request(inputs.expression, genes=data.genes[0], samples=("D9-lung",), steps=3, n=3, seed=4)
    perturb_tiles(trained, request, tmp_path)
    row = data.obs.index.get_loc("D9-lung")
    x = data.values[row : row + 1]
    tiles = model.generate_tiles(model.latents(x, data.genes, "tpm")[0], 3, 4, "D9-lung")
    strip = kept["strip_lung"]
    assert strip.shape[:2] == (2, 3) and kept["names"] == ["D9-lung"]
    assert np.abs(strip[:, 1].astype(int) - tiles[:2]).max() <= 1  # through Z scores and back
    z = model.vae.transform.apply(x, data.genes, "tpm")
    z[:, 0] += 3
    moved = model.generate_tiles(model.latents(model.vae.transform.invert(z), data.genes, "tpm")[0], 3, 4, "D9-lung")
    assert np.abs(strip[:, 2].astype(int) - moved[:2]).max() <= 1
    curves = pd.read_csv(tmp_path / "curves.csv").set_index(["measure", "step"])
    assert curves.loc[("site_stain", 3.0), "mean"] == pytest.approx(measure(moved, 1.0)["site_stain"].mean(), abs=0.02)
    assert curves["low"].isna().all()  # one donor: no interval


def test_genes_together_and_as_they_vary(perturb, inputs: TileInputs, tmp_path: Path) -> None:
    genes = read_expression(inputs.expression).genes
    (tmp_path / "list.txt").write_text("\n".join([*genes[:10], "ENSG9"]))
    done = perturb(f"--genes={tmp_path / 'list.txt'}", "--tissue=lung", "--donors=3", "--leading", "--reach=1")
    assert done.exit_code == 0, done.output
    assert "Left out 1 genes that the model doesn't have." in done.output and "for each SD" in done.output
    result = json.loads((tmp_path / "out/perturbation.json").read_text())
    assert result["move"] == "list" and result["genes"] == 10 and result["tissues"]["lung"]["donors"] == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Say what to move: either --genes, or --programme"),
        (["--genes=ENSG00000000001", "--programme=P"], "Say what to move"),
        (["--genes=ENSG00000000001", "--leading"], "needs two genes"),
        (["--genes=ENSG00000000001", "--truth=x.csv"], "--truth needs --programme"),
        (["--programme=nowhere.csv"], "nowhere.csv does not exist"),
        (["--programme=P"], r"holds several programmes \(other, programme\); choose one with --name"),
        (["--programme=P", "--name=air"], "has no programme air; it has other, programme"),
        (["--programme=P", "--name=other", "--truth=T"], "has no column other"),
    ],
)
def test_mistakes_are_one_sentence(perturb, programmes: Path, truth: Path, arguments: list[str], said: str) -> None:
    given = [word.replace("=P", f"={programmes}").replace("=T", f"={truth}") for word in arguments]
    done = perturb(*given)
    assert done.exit_code == 1 and done.output.count("\n") == 1, done.output
    assert re.search(said, done.output)
