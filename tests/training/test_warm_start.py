"""A tissue added to a trained model: what the new run takes over, and what it refuses to start from."""

import dataclasses
import json
import re
import runpy
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from rnagan.config.gan import GANConfig
from rnagan.io.files import read_json, sha256_of_file
from rnagan.tracking.run_folder import latest_checkpoint
from rnagan.tracking.run_log import RunLog, read_metrics
from rnagan.training import tile_trainer as trainer
from rnagan.training.gan.step import StepRecord
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs

pytestmark = pytest.mark.usefixtures("no_mlflow")
ROOT = Path(__file__).parents[2]


def digests(run: Path) -> dict[str, str]:
    newest = latest_checkpoint(run)
    assert newest is not None
    return {path.name: sha256_of_file(path) for path in newest.iterdir()}


@pytest.fixture(scope="module")
def both(small: GANConfig) -> GANConfig:
    return small.replace(images=64, tissue_weights="balanced")


@pytest.fixture(scope="module")
def cortex(small: GANConfig, inputs: TileInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of cortex alone; read it, never write into it."""
    run = tmp_path_factory.mktemp("cortex") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunLog, "_start_mlflow", lambda *_: None)
        train_gan(small.replace(where="tissue=cortex", seed=3), inputs, run)
    return run


def first_state(monkeypatch: pytest.MonkeyPatch, stop_at: int = -1) -> dict[str, dict]:
    """Filled with the networks before the first step of the next run, which is broken off before step `stop_at`."""
    found: dict[str, dict] = {}
    one_step = trainer.TileTrainer._one_step

    def patched(trainer: trainer.TileTrainer, batch: object) -> StepRecord:
        if trainer.steps == stop_at:
            raise KeyboardInterrupt
        if not found:
            for name, module in trainer._modules().items():
                found[name] = {key: value.clone() for key, value in module.state_dict().items()}
            found["moments"] = {name: dict(own.state) for name, (_, own) in trainer.step.optimizers.items()}
            found["clock"] = {"images": trainer.images, "before": trainer.images_before}
        return one_step(trainer, batch)

    monkeypatch.setattr(trainer.TileTrainer, "_one_step", patched)
    return found


@pytest.mark.slow
@pytest.mark.guard
def test_a_tissue_is_added(
    both: GANConfig,
    inputs: TileInputs,
    cortex: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    started = dataclasses.replace(inputs, init_from=cortex)
    with monkeypatch.context() as patched:
        found = first_state(patched)
        train_gan(both, started, tmp_path / "whole")
    assert f"Starts from {cortex} at 96 images (cortex)." in capsys.readouterr().out
    for name in ("generator", "critic", "average"):
        stored = load_file(latest_checkpoint(cortex) / f"{name}.safetensors")
        assert (
            all(torch.equal(stored[key], value) for key, value in found[name].items())
            and stored.keys() == found[name].keys()
        )
    assert not any(found["moments"].values()) and found["clock"] == {"images": 0, "before": 96}
    record = read_json(tmp_path / "whole/model/model.json")
    assert record["tissues"] == ["cortex", "lung"] and record["images"] == 64
    assert sha256_of_file(tmp_path / "whole/model/condition.safetensors") == sha256_of_file(
        cortex / "model/condition.safetensors"
    )

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        first_state(patched, stop_at=7)
        train_gan(both, started, tmp_path / "cut")
    train_gan(both, started, tmp_path / "cut")
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")
    train_gan(both, inputs, tmp_path / "anew")
    anew, own = digests(tmp_path / "anew"), digests(tmp_path / "whole")
    assert all(anew[name] != own[name] for name in own)


def test_a_run_goes_on_from_the_start_it_had(
    both: GANConfig, inputs: TileInputs, cortex: Path, trained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train_gan(both.replace(images=16), dataclasses.replace(inputs, init_from=cortex), run)
    for other in (dataclasses.replace(inputs, init_from=trained), inputs):
        with pytest.raises(ValueError, match=r"run was started with another earlier run; choose another --out\."):
            train_gan(both, other, run)
    with pytest.raises(ValueError, match=r"run can't start from itself: choose another --out"):
        train_gan(both, dataclasses.replace(inputs, init_from=run), run)


def test_a_tissue_left_out_is_reported(
    both: GANConfig, inputs: TileInputs, cortex: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    started = dataclasses.replace(inputs, init_from=cortex)
    train_gan(both.replace(where="tissue=lung"), started, tmp_path / "run", dry_run=True)
    assert "Without tiles of cortex, which the earlier run learnt and this one will forget." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "changes"),
    [
        ({"critic_width": 8}, r"critic_width 4 → 8"),
        ({"generator_width": 8, "noise_units": 4}, r"noise_units 8 → 4, generator_width 4 → 8"),
        ({"critic": "image_only"}, r"critic projection → image_only"),
        ({"resolution": 64}, r"resolution 32 → 64, µm per px 1 → 0\.5"),
    ],
)
def test_networks_that_do_not_fit_are_refused(
    both: GANConfig, inputs: TileInputs, cortex: Path, tmp_path: Path, change: dict, changes: str
) -> None:
    started = dataclasses.replace(inputs, init_from=cortex)
    refused = rf"can't start from {re.escape(str(cortex))} with other settings \({changes}\)"
    with pytest.raises(ValueError, match=refused):
        train_gan(both.replace(**change), started, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_inputs_that_do_not_fit_are_refused(both: GANConfig, inputs: TileInputs, cortex: Path, tmp_path: Path) -> None:
    def refuse(sentence: str, error: type[Exception] = ValueError, **changes: Path) -> None:
        with pytest.raises(error, match=sentence):
            train_gan(both, dataclasses.replace(inputs, **{"init_from": cortex} | changes), tmp_path / "run")

    vae = shutil.copytree(inputs.vae, tmp_path / "vae")
    (vae / "model.json").write_text(json.dumps(read_json(vae / "model.json") | {"trained": "again"}))
    refuse("was trained with another VAE, so its condition means something else; give the same --vae", vae=vae)
    table = pd.read_csv(inputs.cohort)
    table["split"] = table["split"].where(table["donor"] != "D0", "test")
    table.to_csv(tmp_path / "cohort.csv", index=False)
    refuse(r"was trained on donors that the cohort table holds out \(D0\)", cohort=tmp_path / "cohort.csv")
    refuse("holds no trained model", FileNotFoundError, init_from=tmp_path)
    refuse("holds no checkpoint of a GAN to start from", FileNotFoundError, init_from=cortex / "model")
    assert not (tmp_path / "run").exists()


def test_what_the_new_run_has_seen_is_the_sum(
    both: GANConfig, inputs: TileInputs, cortex: Path, tmp_path: Path
) -> None:
    """Donors of an earlier cohort table count as seen: evaluation must not take them for held out."""
    table = pd.read_csv(inputs.cohort)
    table[table["donor"] != "D0"].to_csv(tmp_path / "cohort.csv", index=False)
    changed = dataclasses.replace(inputs, init_from=cortex, cohort=tmp_path / "cohort.csv")
    train_gan(both.replace(images=8), changed, tmp_path / "run")
    seen = [read_json(run / "model/model.json")["train_donors"] for run in (cortex, tmp_path / "run")]
    assert seen[0] == seen[1] and len(seen[0]) == 5


def test_the_average_goes_on_at_its_full_half_life(
    both: GANConfig, inputs: TileInputs, cortex: Path, tmp_path: Path
) -> None:
    """A young average follows closely (half-life: a twentieth of the images seen); one that starts again must not."""
    train_gan(both.replace(images=16), dataclasses.replace(inputs, init_from=cortex), tmp_path / "run")
    before, after, raw = (
        load_file(latest_checkpoint(run) / f"{name}.safetensors")["start.weight"].numpy()
        for run, name in ((cortex, "average"), (tmp_path / "run", "average"), (tmp_path / "run", "generator"))
    )
    kept = 0.5 ** (16 / ((96 + 16) / 20))
    np.testing.assert_allclose(after, kept * before + (1 - kept) * raw, atol=1e-6)
    young = 0.5 ** (16 / (16 / 20))
    assert not np.allclose(after, young * before + (1 - young) * raw, atol=1e-6)


def test_script_takes_the_earlier_run(
    both: GANConfig, inputs: TileInputs, cortex: Path, tmp_path: Path, command_line
) -> None:
    main = runpy.run_path(str(ROOT / "tools/train_rnagan.py"))["main"]
    options = command_line(both.replace(images=8), inputs, tmp_path / "run")
    done = CliRunner().invoke(main, [*options, "--init-from", str(cortex)])
    assert done.exit_code == 0 and "Starts from" in done.output
    assert CliRunner().invoke(main, options).exit_code == 1


@pytest.mark.slow
@pytest.mark.guard
def test_figures_before_and_after_are_measured(
    both: GANConfig, inputs: TileInputs, cortex: Path, tmp_path: Path
) -> None:
    started = dataclasses.replace(inputs, init_from=cortex)
    for every, expected in ((48, [0, 48, 64]), (0, [])):
        run = tmp_path / str(every)
        assert train_gan(both.replace(images=64, validate_every=every, validation_tiles=16), started, run)
        rows = [row for row in read_metrics(run) if any(name.startswith("frechet_") for name in row)]
        assert [row["images"] for row in rows] == expected
        assert all(any("cortex" in name for name in row) for row in rows)  # the old tissue
