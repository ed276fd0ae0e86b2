import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from rnagan import rng
from rnagan.config import VAEConfig
from rnagan.expression.store import Expression, write_expression
from rnagan.losses.vae import vae_loss
from rnagan.models.vae import BetaVAE
from rnagan.training import vae
from rnagan.training.tracking import RunLog, read_metrics
from rnagan.vae import load_vae

TOOL = Path(__file__).parents[2] / "tools/train_vae.py"
GENES = [f"ENSG{i:011d}" for i in range(40)]
SMALL = VAEConfig(
    hidden="24,16", latent=6, lr=3e-3, epochs=4, batch_size=16, checkpoint_epochs=1, precision="float32", threads=1
)


def simulated(
    profiles: int = 90, splits: tuple[str, ...] = ("train", "train", "train", "validation", "test")
) -> Expression:
    """TPM of two hidden programmes, their donors spread over `splits` in turn."""
    draw = np.random.default_rng(0)
    programmes = draw.normal(size=(profiles, 2))
    log_tpm = 3 + programmes @ draw.normal(size=(2, len(GENES))) + 0.3 * draw.normal(size=(profiles, len(GENES)))
    numbers = range(profiles)
    obs = pd.DataFrame(
        {"donor": [f"D{i}" for i in numbers], "tissue": "lung", "split": [splits[i % len(splits)] for i in numbers]},
        index=pd.Index([f"S{i}" for i in numbers], name="sample"),
    )
    return Expression(np.exp(log_tpm).astype(np.float32), obs, GENES, GENES, "tpm")


@pytest.fixture(autouse=True)
def _no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunLog, "_start_mlflow", lambda *_: None)


@pytest.fixture
def expression(tmp_path: Path) -> Path:
    write_expression(tmp_path / "e.h5ad", simulated(), "digest")
    return tmp_path / "e.h5ad"


def same_weights(one: Path, other: Path) -> bool:
    a, b = (load_file(run / "model/vae.safetensors") for run in (one, other))
    return all(torch.equal(a[name], b[name]) for name in a)


def test_order_is_an_endless_sequence_of_permutations() -> None:
    order = vae.profile_order(3, 10, 0, 30)
    assert [sorted(part) for part in order.reshape(3, 10).tolist()] == [list(range(10))] * 3
    assert not np.array_equal(order[:10], order[10:20])
    np.testing.assert_array_equal(vae.profile_order(3, 10, 7, 16), order[7:23])


def test_learning_rate_warms_up_and_falls() -> None:
    rates = [vae.learning_rate(VAEConfig(lr=1.0, warmup_share=0.2), step, 10) for step in range(10)]
    np.testing.assert_allclose(rates, [0.5, 1.0, *(0.5 * (1 + np.cos(np.pi * np.arange(8) / 8)))])


def test_steps_equal_a_plain_loop(expression: Path, tmp_path: Path) -> None:
    """Truth is Adam on a plain network, fed by hand with the addressed order and noise."""
    config = SMALL.replace(precision="float64", epochs=1, patience_epochs=1)
    data = simulated()
    x = np.log1p(data.split("train").astype(np.float64))
    x = torch.from_numpy(((x - x.mean(0)) / x.std(0)).astype(np.float32)).double()
    torch.manual_seed(config.seed)
    network = BetaVAE(len(GENES), config).double()
    adam = torch.optim.Adam(network.parameters())
    for step in range(4):  # 54 profiles in batches of 16
        adam.param_groups[0]["lr"] = vae.learning_rate(config, step, 4)
        rows = vae.profile_order(config.seed, len(x), 16 * step, 16)
        eps = torch.from_numpy(rng.normal(config.seed, "vae noise", 16 * step, 16, config.latent))
        adam.zero_grad()
        vae_loss(x[rows], *network(x[rows], eps), config.beta).total.backward()
        adam.step()
    vae.train_vae(config, expression, tmp_path / "run")
    trained = load_file(tmp_path / "run/model/vae.safetensors")
    for name, weight in network.state_dict().items():
        torch.testing.assert_close(trained[name], weight.float(), rtol=1e-5, atol=1e-7)


def test_interrupted_run_ends_in_the_same_bits(
    expression: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    vae.train_vae(SMALL, expression, tmp_path / "whole")
    step = vae.VAETrainer._train_step

    def power_cut(trainer: vae.VAETrainer) -> None:
        if trainer.step == 10:  # between the checkpoints after steps 8 and 12
            raise KeyboardInterrupt
        step(trainer)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(vae.VAETrainer, "_train_step", power_cut)
        vae.train_vae(SMALL, expression, tmp_path / "cut")
    assert not (tmp_path / "cut/model").exists()
    vae.train_vae(SMALL, expression, tmp_path / "cut")
    assert "goes on from step 8 of 14" in capsys.readouterr().out
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    rows = [[{**row, "seconds": 0} for row in read_metrics(tmp_path / run)] for run in ("whole", "cut")]
    assert rows[0] == rows[1]
    vae.train_vae(SMALL.replace(seed=1), expression, tmp_path / "other")
    assert not same_weights(tmp_path / "whole", tmp_path / "other")


def test_finished_run_is_up_to_date_and_refuses_other_settings(
    expression: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = tmp_path / "run"
    vae.train_vae(SMALL, expression, run)
    before = (run / "model/model.json").stat().st_mtime_ns
    vae.train_vae(SMALL, expression, run)
    assert "model is up to date" in capsys.readouterr().out
    assert (run / "model/model.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"was started with beta 0\.005, not 0\.1"):
        vae.train_vae(SMALL.replace(beta=0.1), expression, run)
    write_expression(expression, simulated(80), "other")
    with pytest.raises(ValueError, match="was started with another expression file"):
        vae.train_vae(SMALL, expression, run)


def test_product_encodes_and_knows_its_active_units(expression: Path, tmp_path: Path) -> None:
    data = simulated(300)
    write_expression(expression, data, "digest")
    vae.train_vae(SMALL.replace(epochs=40), expression, tmp_path / "run")
    model = load_vae(tmp_path / "run/model")
    mu = model.encode(data.values, data.genes, "tpm").latents
    assert (mu.shape, mu.dtype) == ((300, 6), np.float32)
    train = mu[(data.obs["split"] == "train").to_numpy()]
    space = model.space
    np.testing.assert_allclose(train.mean(0), space.mean, atol=1e-5)
    np.testing.assert_allclose(train.std(0), space.sd, atol=1e-5)
    assert np.all(np.diff(space.kl[space.active]) <= 0) and np.all(space.kl[space.active] > 0.01)
    assert model.record["metrics"]["active_units"] == len(space.active) >= 2
    assert model.record["metrics"]["test_rmse"] < 0.75  # 1 is the mean profile
    assert model.record["tissues"] == ["lung"]
    with pytest.warns(UserWarning, match="lack up to 50% of the model's 40 genes"):
        half = model.encode(data.values[:, :20], data.genes[:20], "tpm").latents
    assert not np.allclose(half, mu)
    with pytest.raises(ValueError, match="fitted on tpm"):
        model.encode(data.values, data.genes, "log2")


def test_training_stops_early_and_keeps_the_best(expression: Path, tmp_path: Path) -> None:
    config = SMALL.replace(epochs=200, lr=0.02, beta=0.0, patience_epochs=2)
    vae.train_vae(config, expression, tmp_path / "run")
    told = load_vae(tmp_path / "run/model").record
    totals = [row["validation_total"] for row in read_metrics(tmp_path / "run") if "train_total" in row]
    assert told["steps"] < 675 and told["steps"] - told["best_step"] == 8
    assert told["metrics"]["validation_total"] == min(totals)


def test_changed_model_folder_is_refused(expression: Path, tmp_path: Path) -> None:
    vae.train_vae(SMALL.replace(epochs=1), expression, tmp_path / "run")
    genes = tmp_path / "run/model/transform.json"
    genes.write_text(genes.read_text().replace(GENES[0], GENES[1]))
    with pytest.raises(ValueError, match=r"transform\.json is missing or was changed"):
        load_vae(tmp_path / "run/model")
    with pytest.raises(FileNotFoundError, match=r"model\.json does not exist"):
        load_vae(tmp_path)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_released_pieces_train(expression: Path, tmp_path: Path, norm: str) -> None:
    config = SMALL.replace(norm=norm, output="tanh", input_dropout=0.5, logarithm="paper", decoder_hidden="16")
    vae.train_vae(config, expression, tmp_path / "run")
    rows = [row for row in read_metrics(tmp_path / "run") if "train_total" in row]
    assert rows[-1]["train_total"] < rows[0]["train_total"]


@pytest.mark.parametrize(("kept", "word"), [(("validation", "test"), "training"), (("train", "test"), "validation")])
def test_empty_split_is_refused(tmp_path: Path, kept: tuple[str, ...], word: str) -> None:
    write_expression(tmp_path / "e.h5ad", simulated(splits=kept), "digest")
    with pytest.raises(ValueError, match=f"holds no {word} profiles"):
        vae.train_vae(SMALL, tmp_path / "e.h5ad", tmp_path / "run")


def test_loss_that_is_not_finite_stops_the_run(expression: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="The loss is not finite at step"):
        vae.train_vae(SMALL.replace(lr=1e30), expression, tmp_path / "run")
    assert not (tmp_path / "run/model").exists()


def test_script(expression: Path, tmp_path: Path) -> None:
    main = runpy.run_path(str(TOOL))["main"]
    options = [f"--expression={expression}", f"--out={tmp_path / 'run'}", "--hidden=24,16", "--latent=6", "--epochs=1"]
    dry = CliRunner().invoke(main, [*options, "--dry-run"])
    assert dry.exit_code == 0 and "steps: 1 of 128 profiles over all processes" in dry.output
    assert not (tmp_path / "run").exists()
    assert CliRunner().invoke(main, options).exit_code == 0
    assert json.loads((tmp_path / "run/model/model.json").read_text())["config"]["latent"] == 6
    unknown = CliRunner().invoke(main, [*options, "--preset", "faithfull"])
    assert unknown.exit_code == 2 and "'faithfull' is not one of" in unknown.output
    bad = CliRunner().invoke(main, ["--expression", "none.h5ad", "--out", str(tmp_path / "x")])
    assert bad.exit_code == 1 and "none.h5ad does not exist; make it with shards/build_expression.py" in bad.output


@pytest.mark.distributed
def test_two_processes_equal_one(expression: Path, tmp_path: Path) -> None:
    config = SMALL.replace(precision="float64", epochs=3, input_dropout=0.2)
    settings = [f"--{name.replace('_', '-')}={value}" for name, value in config.to_dict().items() if value != ""]
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node=2",
            str(TOOL),
            f"--expression={expression}",
            f"--out={tmp_path / 'two'}",
            *settings,
        ],
        env=os.environ | {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    vae.train_vae(config, expression, tmp_path / "one")
    vae.train_vae(config.replace(batch_size=8), expression, tmp_path / "half")  # what two strangers would do
    one, two, half = (load_file(tmp_path / name / "model/vae.safetensors") for name in ("one", "two", "half"))
    assert load_vae(tmp_path / "two/model").record["processes"] == 2
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-6, atol=1e-7)
    assert (half["to_mu.weight"] - one["to_mu.weight"]).abs().max() > 1e-3
