"""Trainings of other settings or inputs make room for new ones; what doesn't depend on a change stays."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from rnagan.article.earlier_runs import set_aside
from rnagan.article.experiments import Cohort
from rnagan.article.modes import run_configs
from rnagan.config.reproduction import Settings
from rnagan.expression.h5ad import open_profiles
from rnagan.generation import generate_tiles
from rnagan.io.files import read_yaml
from rnagan.tracking.run_log import RunLog
from rnagan.training.gan.train import train_gan
from rnagan.training.simclr.train import pretrain_simclr
from rnagan.training.tile_inputs import TileInputs
from rnagan.training.vae.data import VAEInputs
from rnagan.training.vae.train import train_vae

EACH = 4  # tiles a profile that SimCLR learns from
RUNS = ("vae", "modes/gan", "modes/noise_only", "modes/rnagan", "simclr")
Change = Callable[[Settings], Settings]


@pytest.fixture(scope="module")
def settings() -> Settings:
    toy = Settings.read("toy")
    one = {"precision": "float32"}  # what Accelerate takes first in a process stays
    gan = toy.gan.replace(images=16, checkpoint_every=8, validate_every=0, **one)
    return dataclasses.replace(toy, vae=toy.vae.replace(**one), gan=gan, simclr=toy.simclr.replace(**one))


@pytest.fixture(scope="module")
def cohort(inputs: TileInputs) -> Cohort:
    assert inputs.expression is not None
    return Cohort(str(inputs.shards), inputs.cohort, inputs.expression)


@pytest.fixture(scope="module")
def reproduced(cohort: Cohort, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trainings of a reproduction; copy it, never write into it."""
    out = tmp_path_factory.mktemp("reproduced")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunLog, "_start_mlflow", lambda *_: None)
        train_vae(settings.vae, VAEInputs(cohort.expression), out / "vae")
        inputs = TileInputs(cohort.shards, cohort.cohort, cohort.expression, out / "vae")
        for mode, config in run_configs(settings.gan, inputs)[0].items():
            own = inputs if mode == "rnagan" else TileInputs(cohort.shards, cohort.cohort)
            train_gan(config, own, out / "modes" / mode)
        asked = {"n": EACH, "seed": 0, "form": "shards", "split": "train", "samples": []}
        generate_tiles(out / "modes/rnagan", cohort.expression, out / "pretraining", **asked)
        pretrain_simclr(settings.simclr, out / "pretraining", out / "simclr")
    return out


def section(name: str, **changes: object) -> Change:
    return lambda settings: dataclasses.replace(settings, **{name: getattr(settings, name).replace(**changes)})


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        (section("vae"), []),
        (section("vae", beta=0.1), ["vae", "modes/rnagan", "simclr"]),
        (section("gan", noise_units=4), ["modes/gan", "modes/noise_only", "modes/rnagan", "simclr"]),
        (section("gan", batch_size=4), ["modes/gan", "modes/noise_only", "modes/rnagan", "simclr"]),
        (section("gan", images=8), ["modes/gan", "modes/noise_only", "modes/rnagan", "simclr"]),
        (section("gan", images=24), []),  # they go on
        (section("gan", threads=2), []),
        (section("simclr", temperature=0.9), ["simclr"]),
        (section("classifier", epochs=2), []),  # its command knows which folds are done
        (section("evaluation", fid_tiles=30), []),
    ],
)
def test_what_depends_on_changed_settings_is_moved_and_nothing_else(
    reproduced: Path, cohort: Cohort, settings: Settings, tmp_path: Path, change: Change, moved: list[str]
) -> None:
    out = Path(shutil.copytree(reproduced, tmp_path / "out"))
    set_aside(cohort, change(settings), out, EACH)
    assert [run for run in RUNS if not (out / run).exists()] == [run for run in RUNS if run in moved]
    for run in map(Path, moved):
        assert (out / run.parent / "earlier" / f"{run.name}-1" / "config.yaml").is_file()
    set_aside(cohort, change(settings), out, EACH)
    assert len(list(out.glob("**/earlier/*"))) == len(moved)


def test_changed_inputs_count_too(
    reproduced: Path, cohort: Cohort, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more_tiles, others, fewer = (Path(shutil.copytree(reproduced, tmp_path / name)) for name in "abc")
    set_aside(cohort, settings, more_tiles, EACH + 1)
    assert [run for run in RUNS if not (more_tiles / run).exists()] == ["simclr"]
    said = capsys.readouterr()
    assert f"{more_tiles / 'simclr'} was trained with other settings or inputs" in said.out + said.err

    table = pd.read_csv(cohort.cohort, dtype=str, keep_default_na=False).assign(age="50")
    table.to_csv(tmp_path / "cohort.csv", index=False)
    set_aside(dataclasses.replace(cohort, cohort=tmp_path / "cohort.csv"), settings, others, EACH)
    assert [run for run in RUNS if (others / run).exists()] == ["vae"]

    open_profiles(cohort.expression)[:-1].copy().write_h5ad(tmp_path / "fewer.h5ad")
    set_aside(dataclasses.replace(cohort, expression=tmp_path / "fewer.h5ad"), settings, fewer, EACH)
    assert [run for run in RUNS if (fewer / run).exists()] == ["modes/gan", "modes/noise_only"]


@pytest.mark.usefixtures("no_mlflow")
def test_a_run_that_was_moved_is_trained_anew_in_its_place(
    reproduced: Path, cohort: Cohort, settings: Settings, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(reproduced, tmp_path / "out"))
    for number, beta in enumerate((0.1, 0.2), start=1):
        changed = section("vae", beta=beta)(settings)
        with pytest.raises(ValueError, match="holds a run with other settings"):  # what it would have met
            train_vae(changed.vae, VAEInputs(cohort.expression), out / "vae")
        set_aside(cohort, changed, out, EACH)
        assert train_vae(changed.vae, VAEInputs(cohort.expression), out / "vae")
        assert read_yaml(out / "vae/config.yaml")["beta"] == beta
        assert (out / f"earlier/vae-{number}/model/model.json").is_file()


def test_an_empty_folder_has_nothing_to_move(cohort: Cohort, settings: Settings, tmp_path: Path) -> None:
    set_aside(cohort, settings, tmp_path / "out", EACH)
    assert not (tmp_path / "out").exists()
