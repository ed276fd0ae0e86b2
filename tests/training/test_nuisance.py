"""Training with the stain of each slide beside the profile: what is measured, what the networks get, refusals."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from rnagan.api import RNAGAN
from rnagan.cohort.table import read_cohort
from rnagan.commands.generate_tiles import main as generate_command
from rnagan.config.gan import GANConfig
from rnagan.data.index import open_dataset
from rnagan.data.selection import Selection, select
from rnagan.evaluation.real_tiles import tiles_of_slides
from rnagan.evaluation.stain import stain_of
from rnagan.expression.h5ad import read_expression
from rnagan.io.files import read_json, write_json
from rnagan.models.section_stain import FILE, STAINS, read_section_stain
from rnagan.training.gan.train import train_gan
from rnagan.training.nuisance import _rows_to_measure, section_stains
from rnagan.training.run import TrainingRun
from rnagan.training.tile_inputs import TileInputs

pytestmark = pytest.mark.usefixtures("no_mlflow")


@pytest.fixture(scope="module")
def stained(small: GANConfig) -> GANConfig:
    return small.replace(nuisance="section_stain", images=64)


@pytest.fixture(scope="module")
def run(stained: GANConfig, inputs: TileInputs, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("stained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rnagan.tracking.run_log.RunLog._start_mlflow", lambda *_: None)
        train_gan(stained, inputs, folder)
    return folder


def test_a_stain_is_that_of_the_tissue_alone():
    draw = np.random.default_rng(0)
    tissue = draw.integers(60, 190, (2, 32, 32, 3)).astype(np.uint8)
    glass = np.full((3, 32, 32, 3), 244, np.uint8)
    assert np.array_equal(stain_of(np.concatenate([tissue, glass])), stain_of(tissue))
    darker = (tissue * 0.8).astype(np.uint8)
    assert stain_of(darker)[0] > stain_of(tissue)[0] + 0.01
    bluer = tissue.copy()
    bluer[..., 0] //= 2  # red light is what haematoxylin takes
    assert stain_of(bluer)[0] > stain_of(tissue)[0] and stain_of(bluer)[2] < stain_of(tissue)[2]
    assert np.isfinite(stain_of(glass)).all() and np.isfinite(stain_of(np.zeros_like(glass))).all()


def test_what_stands_in_the_run_is_measured_on_its_training_slides(run, inputs, small):
    shards, cohort = open_dataset(inputs.shards), read_cohort(inputs.cohort)
    slides = select(shards, cohort, "train", small.tiles_per_slide, "").slides
    known = read_json(run / FILE)["slides"]
    assert sorted(known) == sorted(slides["slide"])
    row = slides.iloc[[1]].assign(tiles=shards.stored(slides.iloc[[1]]).clip(max=32))
    (tiles,) = tiles_of_slides(shards, row, small.resolution)
    assert known[row["slide"].iloc[0]] == stain_of(tiles).tolist()
    assert not [path for path in (run / "model").rglob("*") if path.name == FILE]


def test_the_condition_has_the_stain_beside_the_profile(run, trained, inputs):
    model, before = RNAGAN.from_pretrained(run, "cpu"), RNAGAN.from_pretrained(trained, "cpu")
    known = np.array(list(read_json(run / FILE)["slides"].values()))
    assert model.bottleneck.width == before.bottleneck.width + len(STAINS)
    np.testing.assert_allclose(model.bottleneck.nuisance_mean, known.mean(0), rtol=1e-5)
    latents = model.latents(*profiles(inputs))
    np.testing.assert_array_equal(model.conditions(latents), before.conditions(latents))
    own = model.bottleneck(torch.from_numpy(latents), torch.from_numpy(known[:1]))
    np.testing.assert_allclose(own[0, -4:], (known[0] - known.mean(0)) / known.std(0), rtol=1e-3, atol=1e-4)
    assert not model.bottleneck(torch.from_numpy(latents))[:, -4:].any()  # the average


def profiles(inputs: TileInputs):
    expression = read_expression(inputs.expression)
    return expression.values[:3], expression.genes, expression.units


def test_tiles_are_stained_as_they_are_told(run, inputs, tmp_path):
    section = sorted(read_json(run / FILE)["slides"])[0]
    words = [f"--model={run}", f"--profiles={inputs.expression}", "--split=test", "--n=1"]
    for name, more in (("average", []), ("section", [f"--stain-of={section}"])):
        done = CliRunner().invoke(generate_command, [*words, f"--out={tmp_path / name}", *more])
        assert done.exit_code == 0, done.output
    one, other = (sorted((tmp_path / name).glob("*/*.png")) for name in ("average", "section"))
    assert [path.name for path in one] == [path.name for path in other]
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(one, other, strict=True))


def test_a_resumed_run_ends_at_the_same_bits(run, stained, inputs, tmp_path, monkeypatch):
    def stop(self, *_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        saves = TrainingRun.save
        patch.setattr(TrainingRun, "save", lambda self, *a, **k: (saves(self, *a, **k), stop(self)))
        train_gan(stained.replace(checkpoint_every=40), inputs, tmp_path / "run")
    train_gan(stained.replace(checkpoint_every=40), inputs, tmp_path / "run")
    own, expected = (
        RNAGAN.from_pretrained(one, "cpu").generator.network.state_dict() for one in (tmp_path / "run", run)
    )
    assert all(torch.equal(own[name], expected[name]) for name in expected)


def test_stains_are_measured_once(run, stained, inputs, monkeypatch, tmp_path):
    shards = open_dataset(inputs.shards)
    selection = select(shards, read_cohort(inputs.cohort), "train", stained.tiles_per_slide, "")
    shutil.copy(run / FILE, tmp_path / FILE)
    made_from = read_json(run / "model/model.json")["made_from"]
    expected = section_stains(shards, selection, stained.resolution, made_from, tmp_path)
    monkeypatch.setattr("rnagan.training.nuisance.stain_of", None)
    assert np.array_equal(section_stains(shards, selection, stained.resolution, made_from, tmp_path), expected)
    with pytest.raises(TypeError):
        section_stains(shards, selection, stained.resolution, made_from | {"shards": "others"}, tmp_path)


def test_what_is_refused(run, trained, inputs, stained, tmp_path):
    with pytest.raises(ValueError, match="nuisance section_stain needs mode rnagan and condition bottleneck"):
        stained.replace(mode="gan")
    with pytest.raises(
        ValueError, match=r"has no section_stain.json; give the folder of a run trained with --nuisance"
    ):
        read_section_stain(run / "model", "any")
    with pytest.raises(ValueError, match="wasn't trained on a section 'any'; it was on"):
        read_section_stain(run, "any")
    shutil.copy(run / FILE, tmp_path / FILE)
    write_json(tmp_path / FILE, read_json(tmp_path / FILE) | {"slides": {"any": [1.0, 2.0]}})
    with pytest.raises(ValueError, match="isn't what this version of rnagan writes"):
        read_section_stain(tmp_path, "any")
    with pytest.raises(ValueError, match="was trained without nuisance section_stain"):
        RNAGAN.from_pretrained(trained, "cpu").stained_like(np.zeros(4))
    shards, cohort = open_dataset(inputs.shards), read_cohort(inputs.cohort)
    one = select(shards, cohort, "train", 4, "")
    one = one.only(np.arange(len(one.table)) == 0, {})
    with pytest.raises(ValueError, match="needs two training slides at least"):
        section_stains(shards, one, stained.resolution, {}, None)


def test_of_spots_it_is_measured_on_profiles_that_are_spread_over_the_section():
    table = pd.DataFrame({"slide": np.repeat(["A", "B"], [100, 5]), "sample": [f"S{k:03}" for k in range(105)]})
    selection = Selection(table, np.array([100, 5]), {}, stored=np.full(105, 2), most=600)
    rows = _rows_to_measure(selection)
    assert rows["slide"].value_counts().to_dict() == {"A": 32, "B": 5} and set(rows["tiles"]) == {1}
    steps = rows.loc[rows["slide"] == "A", "sample"].str[1:].astype(int).diff().dropna()
    assert rows["sample"].iloc[0] == "S000" and rows["sample"].iloc[31] == "S099" and set(steps) == {3, 4}
