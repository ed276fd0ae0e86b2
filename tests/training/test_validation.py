import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from rnagan import RNAGAN
from rnagan.cohort.table import read_cohort
from rnagan.config.gan import GANConfig
from rnagan.data.index import open_dataset
from rnagan.data.selection import select
from rnagan.evaluation.features import make_extractor
from rnagan.evaluation.morphology import MEASURES
from rnagan.expression.h5ad import read_expression, write_expression
from rnagan.io.files import read_json, sha256_of_file
from rnagan.models.gan_generator import GANGenerator
from rnagan.tracking.run_folder import latest_checkpoint, read_record
from rnagan.tracking.run_log import RunLog, read_metrics
from rnagan.training import validation
from rnagan.training.checkpoint import best_checkpoint
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs
from rnagan.training.validation import TileValidation, faithfulness, metric_part
from rnagan.training.validation_rows import choose_rows, what_is_missing
from tests import programs

pytestmark = pytest.mark.usefixtures("no_mlflow")
WEIGHTS = ("generator", "critic", "average", "generator_optimizer", "critic_optimizer")


class Colours:
    """Mean colours as features."""

    name, width = "colours", 3

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        return tiles.mean((1, 2)).astype(np.float32)


@pytest.fixture(autouse=True)
def _quick_extractor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A distance in 1,280 dimensions takes seconds: one test has it."""
    monkeypatch.setattr(validation, "make_extractor", lambda *_, **__: Colours())


@pytest.fixture(scope="module")
def five(inputs: TileInputs, tmp_path_factory: pytest.TempPathFactory) -> TileInputs:
    """The toy cohort with its five test donors as validation donors."""
    folder = tmp_path_factory.mktemp("five")
    swap = {"train": "train", "test": "validation", "validation": "test"}
    cohort = pd.read_csv(inputs.cohort, dtype=str, keep_default_na=False)
    cohort.assign(split=cohort["split"].map(swap)).to_csv(folder / "cohort.csv", index=False)
    data = read_expression(inputs.expression)
    swapped = dataclasses.replace(data, obs=data.obs.assign(split=data.obs["split"].map(swap)))
    write_expression(folder / "expression.h5ad", swapped, "digest")
    return dataclasses.replace(inputs, cohort=folder / "cohort.csv", expression=folder / "expression.h5ad")


@pytest.fixture(scope="module")
def config(small: GANConfig) -> GANConfig:
    return small.replace(images=64, validate_every=32, validation_tiles=40, sample_every=1000)


@pytest.fixture(scope="module")
def validated(config: GANConfig, five: TileInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was validated after 32 and 64 images; read it only."""
    run = tmp_path_factory.mktemp("validated") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "make_extractor", lambda *_, **__: Colours())
        patch.setattr(RunLog, "_start_mlflow", lambda *_: None)
        train_gan(config, five, run)
    return run


def validations(run: Path) -> list[dict]:
    return [row for row in read_metrics(run) if any(name.startswith("frechet_") for name in row)]


def metrics(own: TileValidation, generator: nn.Module) -> dict[str, float]:
    width = 0 if own.conditions is None else own.conditions.shape[1]
    return own.compare(own.describe(GANGenerator(own.config, generator, width)))


def rows_of(config: GANConfig, inputs: TileInputs, known: list[str] | None) -> pd.DataFrame:
    shards, cohort = open_dataset(inputs.shards), read_cohort(inputs.cohort)
    return choose_rows(config, shards, cohort, select(shards, cohort, "train", 600), known)


def test_rows_of_a_run(validated: Path) -> None:
    found = validations(validated)
    assert [row["images"] for row in found] == [32, 64]
    for row in found:
        frechet = {name for name in row if name.startswith("frechet_")}
        assert {name.rpartition("_")[0] for name in frechet} == {
            f"frechet_colours/{part}" for part in ("all", "cortex", "lung")
        }
        assert all(row[name] > 0 for name in frechet)
        assert -1 <= row["faithfulness/mean"] <= 1
        each = {name for name in row if name.startswith("faithfulness/lung/")}
        assert "faithfulness/lung/matrix_colour" in each and len(each) < len(MEASURES)  # noise tiles hold no nuclei
        assert all(re.fullmatch(r"[\w\-./ ]+", name) for name in row)  # what MLflow takes
    trained_on = [row for row in read_metrics(validated) if row not in found]
    assert all(
        {"gradient_norm/critic", "machine/images_per_second", "machine/memory_gb"} < set(row) for row in trained_on
    )
    assert trained_on[0]["gradient_norm/generator"] > 0


def test_validation_leaves_no_trace_in_the_training(
    config: GANConfig, five: TileInputs, validated: Path, tmp_path: Path
) -> None:
    train_gan(config.replace(validate_every=0), five, tmp_path / "run")
    one, other = (latest_checkpoint(run) for run in (validated, tmp_path / "run"))
    assert one is not None and other is not None and one.name == other.name
    for name in WEIGHTS:
        assert sha256_of_file(one / f"{name}.safetensors") == sha256_of_file(other / f"{name}.safetensors")
    assert not validations(tmp_path / "run") and not (tmp_path / "run/model-best").exists()


def test_best_is_kept_as_a_checkpoint_and_as_a_model(validated: Path) -> None:
    name = next(name for name in validations(validated)[0] if "/all_" in name)
    values = {row["images"]: row[name] for row in validations(validated)}
    best = min(values, key=values.get)
    marked = best_checkpoint(validated)
    assert marked is not None and int(marked.name) == best
    assert read_json(validated / "best.json")["metric"] == name
    record = read_json(validated / "model-best/model.json")
    assert record["images"] == best and read_json(validated / "model/model.json")["images"] == 64
    assert RNAGAN.from_pretrained(validated / "model-best").tissues == ["cortex", "lung"]


def test_faithfulness_as_the_best_is_the_highest(config: GANConfig) -> None:
    row = {"faithfulness/mean": 0.4, "frechet_lite/all_40": 7.0}
    validation = TileValidation.__new__(TileValidation)
    validation.config = config.replace(best_by="faithfulness")
    assert validation.score(row) == ("faithfulness/mean", -0.4)
    assert validation.score({}) is None
    validation.config = config.replace(best_by="none")
    assert validation.score(row) is None


@pytest.mark.parametrize("cut", ["during", "after"])
def test_validation_that_was_cut_off_is_done_again(
    config: GANConfig, five: TileInputs, validated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    def power_cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        if cut == "during":
            patched.setattr(TileValidation, "describe", power_cut)
        else:  # the checkpoint is there and marked, the model and the row are not
            patched.setattr("rnagan.training.train_tiles.write_model", power_cut)
        train_gan(config.replace(checkpoint_every=32), five, tmp_path)
    assert not validations(tmp_path) and not (tmp_path / "model-best").exists()
    train_gan(config.replace(checkpoint_every=32), five, tmp_path)
    assert [strip(row) for row in validations(tmp_path)] == [strip(row) for row in validations(validated)]
    for name in ("model", "model-best"):
        one, other = (read_json(run / name / "model.json")["images"] for run in (tmp_path, validated))
        assert one == other
    one, other = latest_checkpoint(tmp_path), latest_checkpoint(validated)
    assert sha256_of_file(one / "average.safetensors") == sha256_of_file(other / "average.safetensors")


def strip(row: dict) -> dict:
    return {name: value for name, value in row.items() if name != "seconds"}


def test_real_tiles_are_described_once(
    config: GANConfig, five: TileInputs, validated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(validated, tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr(validation, "tiles_of_slides", None)
        train_gan(config.replace(images=96), five, run)
    assert [row["images"] for row in validations(run)] == [32, 64, 96]
    other = shutil.copytree(validated, tmp_path / "other")
    (other / "validation.safetensors").write_bytes(b"nonsense")
    train_gan(config.replace(images=96), five, other)
    assert strip(validations(other)[2]) == strip(validations(run)[2])


def test_other_tiles_are_described_anew(config: GANConfig, five: TileInputs, tmp_path: Path) -> None:
    rows = rows_of(config, five, None)
    conditions = torch.zeros(len(rows), 0)
    shards = open_dataset(five.shards)
    one = TileValidation(config, shards, rows, conditions, tmp_path, extractor=Colours())
    one._describe_real()
    described = one._real
    np.testing.assert_array_equal(
        TileValidation(config, shards, rows, conditions, tmp_path, extractor=Colours())._stored().measures,
        described.measures,
    )
    for changed in (rows.iloc[1:], rows.assign(tiles=1)):
        assert TileValidation(config, shards, changed, conditions, tmp_path, extractor=Colours())._stored() is None


class Generator(nn.Module):
    """Generates what a condition's first number says, in the colours of the toy cohort."""

    def __init__(self, sign: float = 1.0) -> None:
        super().__init__()
        self.sign = nn.Parameter(torch.tensor(sign))

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        red = 150 + 40 * torch.tanh(self.sign * code[:, 0])
        grey = torch.stack([red, torch.full_like(red, 120), torch.full_like(red, 180)], dim=1)
        return (grey / 127.5 - 1)[:, :, None, None].expand(-1, -1, 32, 32)


@pytest.mark.parametrize("sign", [1.0, -1.0, 0.0])
def test_a_generator_that_follows_the_profile_is_distinguished_from_one_that_does_not(
    config: GANConfig, five: TileInputs, tmp_path: Path, sign: float
) -> None:
    cohort = read_cohort(five.cohort)
    rows = rows_of(config, five, cohort["sample"].tolist())
    programme = cohort.set_index("sample")["programme"].astype(float)[rows["sample"]].to_numpy()
    conditions = torch.from_numpy(programme)[:, None].float()
    validation = TileValidation(config, open_dataset(five.shards), rows, conditions, tmp_path, extractor=Colours())
    row = metrics(validation, Generator(sign))
    r = row["faithfulness/cortex/matrix_colour"]
    assert r * sign > 0.9 or r == sign == 0
    assert row["faithfulness/mean"] * sign > 0.5 or sign == 0
    counts = rows.groupby("tissue")["tiles"].sum()
    names = {f"frechet_colours/all_{counts.sum()}", *(f"frechet_colours/{tissue}_{n}" for tissue, n in counts.items())}
    assert {name for name in row if name.startswith("frechet_")} == names


def test_correlation_is_over_donors_within_tissue_and_only_where_donors_differ() -> None:
    draw = np.random.default_rng(0)
    donors = np.repeat([f"D{k}" for k in range(6)] * 2, 8)
    tissues = np.repeat(["a", "b (left)"], 48)
    truth = draw.normal(size=(12,)).repeat(8)
    real = np.stack([truth, 0 * truth, truth, truth], axis=1) + 0.1 * draw.normal(size=(96, 4))
    generated = np.stack([2 * truth, truth, -truth, truth], axis=1) + 10 * (tissues == "a")[:, None]
    row = faithfulness(generated, real, tissues, donors)
    names = ("nuclear_density", "matrix_colour", "site_stain")  # the second differs by chance alone
    assert set(row) == {"faithfulness/mean"} | {f"faithfulness/{t}/{name}" for t in ("a", "b _left_") for name in names}
    assert row["faithfulness/a/nuclear_density"] > 0.99 > -0.99 > row["faithfulness/a/matrix_colour"]
    assert row["faithfulness/mean"] == pytest.approx(0, abs=0.01)  # the site's stain isn't counted
    for tissue in ("a", "b (left)"):
        own = tissues == tissue
        means = [[values[own & (donors == d), 0].mean() for d in np.unique(donors)] for values in (generated, real)]
        assert row[f"faithfulness/{metric_part(tissue)}/nuclear_density"] == pytest.approx(np.corrcoef(*means)[0, 1])
    few = np.isin(donors, ["D0", "D1"])
    assert faithfulness(generated[few], real[few], tissues[few], donors[few]) == {}


def test_rows_are_of_validation_donors_with_an_equal_share_a_tissue(config: GANConfig, five: TileInputs) -> None:
    cohort = read_cohort(five.cohort)
    held_out = set(cohort.loc[cohort["split"] == "validation", "donor"])
    rows = rows_of(config, five, cohort["sample"].tolist())
    assert set(rows["donor"]) <= held_out and not rows["slide"].duplicated().any()
    tiles = rows.groupby("tissue")["tiles"].sum()
    assert 30 < tiles.sum() <= 44 and abs(tiles["lung"] - tiles["cortex"]) <= 5
    some = rows_of(config, five, ["D7-lung", "D8-lung", "D0-lung"])
    assert some["sample"].tolist() in (["D7-lung", "D8-lung"], ["D8-lung", "D7-lung"])
    few = rows_of(config.replace(validation_tiles=16), five, cohort["sample"].tolist())
    assert len(few) < len(rows) and few["tiles"].min() > 2  # rather all of few donors than one of each
    unequal = config.replace(tissue_weights="lung=3,cortex=1", validation_tiles=20)
    tiles = rows_of(unequal, five, None).groupby("tissue")["tiles"].sum()
    assert tiles["cortex"] <= 6 and tiles["lung"] > 10
    assert set(rows_of(config.replace(tissue_weights="lung=1,cortex=0"), five, None)["tissue"]) == {"lung"}
    assert rows_of(config.replace(where="tissue=lung"), five, None)["tissue"].unique().tolist() == ["lung"]


def test_what_cannot_be_measured_is_said_or_refused(config: GANConfig, five: TileInputs, inputs: TileInputs) -> None:
    rows = rows_of(config, five, None)
    assert what_is_missing(config, rows, 1.0) == ""
    assert "don't say the µm per px" in what_is_missing(config, rows, None)
    two = rows_of(config, inputs, None)  # two validation donors
    assert "No faithfulness in validation: no tissue has 3 validation donors" in what_is_missing(config, two, 1.0)
    assert what_is_missing(config.replace(mode="gan"), two, 1.0) == ""
    mixed = pd.concat([rows, two.assign(tissue="heart")])
    assert "No faithfulness in validation of heart" in what_is_missing(config, mixed, 1.0)
    assert "No validation: no slide of the validation split" in what_is_missing(config, rows.iloc[:0], 1.0)
    with pytest.raises(ValueError, match="best_by faithfulness can't be measured: no tissue has 3 validation donors"):
        what_is_missing(config.replace(best_by="faithfulness"), two, 1.0)
    with pytest.raises(ValueError, match="best_by faithfulness needs mode rnagan, not gan"):
        config.replace(best_by="faithfulness", mode="gan")


def test_mode_without_profiles_has_the_distance_of_all_alone(
    config: GANConfig, five: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "make_extractor", make_extractor)  # the real one, once
    run = tmp_path / "run"
    train_gan(config.replace(mode="gan", images=32), TileInputs(five.shards, five.cohort), run)
    (row,) = validations(run)
    assert [name.rpartition("_")[0] for name in set(row) - {"images", "seconds"}] == ["frechet_efficientnet_lite0/all"]
    assert read_json(run / "model-best/model.json")["validation_extractor"] == "efficientnet_lite0, a witness"
    assert read_record(run)["tags"]["validation_extractor"] == "efficientnet_lite0, a witness"


@pytest.mark.parametrize(
    ("backbone", "witness"),
    [("none", "efficientnet_lite0"), ("efficientnet_lite0", "efficientnet_lite2"), ("uni", "efficientnet_lite0")],
)
def test_what_chooses_the_best_took_no_part_in_training(
    config: GANConfig, five: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: str, witness: str
) -> None:
    monkeypatch.setattr(validation, "make_extractor", make_extractor)
    rows = rows_of(config, five, None).iloc[:2].assign(tiles=3)
    config = config.replace(backbone=backbone, mode="gan")
    own = TileValidation(config, open_dataset(five.shards), rows, None, tmp_path, device="cpu")
    assert own.extractor_label == f"{witness}, a witness"
    row = metrics(own, Generator())
    assert own.score(row) == (f"frechet_{witness}/all_6", row[f"frechet_{witness}/all_6"])
    assert own.extractor_label == f"{witness}, a witness"
    critics_own = make_extractor("efficientnet_lite0", device="cpu")
    other = TileValidation(config, open_dataset(five.shards), rows, None, tmp_path, extractor=critics_own)
    own_network = backbone == "efficientnet_lite0"
    assert other.extractor_label == f"efficientnet_lite0, {'in training' if own_network else 'a witness'}"


@pytest.mark.slow
@pytest.mark.guard
def test_a_run_with_a_critic_on_features_keeps_the_best_by_a_witness(
    config: GANConfig, five: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "make_extractor", make_extractor)
    pair = config.replace(mode="gan", images=32, pixel_loss="relativistic", backbone="efficientnet_lite0")
    train_gan(pair, TileInputs(five.shards, five.cohort), tmp_path)
    (row,) = validations(tmp_path)
    (name,) = (name for name in row if name.startswith("frechet_"))
    assert name.startswith("frechet_efficientnet_lite2/all_") and np.isfinite(row[name])
    assert read_json(tmp_path / "best.json")["metric"] == name
    for folder in ("model", "model-best"):
        assert read_json(tmp_path / folder / "model.json")["validation_extractor"] == "efficientnet_lite2, a witness"
    assert read_record(tmp_path)["tags"]["validation_extractor"] == "efficientnet_lite2, a witness"


def test_numbers_of_different_units_are_compared_in_sds_of_the_real_tiles(
    config: GANConfig, five: TileInputs, tmp_path: Path
) -> None:
    class Scaled(Colours):
        standardised = True
        scale = np.float32([1000, 0.01, 1])

        def __call__(self, tiles: np.ndarray) -> np.ndarray:
            return super().__call__(tiles) * self.scale

    class Unscaled(Scaled):
        scale = np.float32([1, 1, 1])

    rows, shards = rows_of(config, five, None), open_dataset(five.shards)
    conditions = torch.zeros(len(rows), 1)

    def measured(extractor: Colours) -> dict[str, float]:
        folder = tmp_path / f"{type(extractor).__name__}"
        folder.mkdir()
        return metrics(TileValidation(config, shards, rows, conditions, folder, extractor=extractor), Generator())

    scaled, unscaled, raw = measured(Scaled()), measured(Unscaled()), measured(Colours())
    names = [name for name in scaled if name.startswith("frechet_")]
    assert len(names) == 3
    for name in names:
        assert scaled[name] == pytest.approx(unscaled[name], rel=1e-3)
        assert abs(raw[name] / unscaled[name] - 1) > 0.5


def test_run_without_validation_donors_goes_on(
    config: GANConfig, inputs: TileInputs, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    cohort = pd.read_csv(inputs.cohort, dtype=str, keep_default_na=False)
    cohort = cohort[cohort["split"] != "validation"]
    cohort.to_csv(tmp_path / "cohort.csv", index=False)
    train_gan(
        config.replace(mode="gan", images=32), TileInputs(inputs.shards, tmp_path / "cohort.csv"), tmp_path / "run"
    )
    assert "No validation: no slide of the validation split" in capsys.readouterr().out
    assert validations(tmp_path / "run") == []


def test_a_run_says_that_its_distances_are_of_few_tiles(
    config: GANConfig, five: TileInputs, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    train_gan(config, five, tmp_path / "run", dry_run=True)
    count = rows_of(config, five, read_cohort(five.cohort)["sample"].tolist())["tiles"].sum()
    said = f"Validation: A Fréchet distance of fewer than 10,000 tiles (here {count}) is too large"
    assert said in capsys.readouterr().out


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.guard
def test_two_processes_validate_once_and_measure_what_one_does(
    config: GANConfig, five: TileInputs, tmp_path: Path, command_line: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "make_extractor", make_extractor)
    whole = config.replace(mode="gan", images=32, precision="float64")
    train_gan(whole, five, tmp_path / "one")
    command = ("rnagan", "train-rnagan", *command_line(whole, five, tmp_path / "two"))
    environment = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "OMP_NUM_THREADS": "1"}
    programs.run(*command, env=environment, processes=2).check()
    (one,), (two,) = (validations(tmp_path / name) for name in ("one", "two"))
    assert strip(two) == pytest.approx(strip(one), rel=1e-3)
    assert read_json(tmp_path / "two/model-best/model.json")["images"] == 32
    norms = [
        [row["gradient_norm/critic"] for row in read_metrics(tmp_path / run) if "gradient_norm/critic" in row]
        for run in ("one", "two")
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-6) and norms[0]
