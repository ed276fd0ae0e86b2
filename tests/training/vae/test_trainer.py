import dataclasses
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from sklearn.decomposition import PCA

from rnagan.config.vae import TRANSFORMS, VAEConfig
from rnagan.data.build_profiles import build_profiles
from rnagan.data.profile_layout import Arrangement
from rnagan.expression.h5ad import Expression, write_expression
from rnagan.losses.beta_vae import vae_loss
from rnagan.models.trained_vae import load_vae
from rnagan.models.vae import BetaVAE
from rnagan.runtime import rng
from rnagan.tracking.run_log import RunLog, read_metrics
from rnagan.training.vae import data, trainer
from rnagan.training.vae.data import VAEInputs
from rnagan.training.vae.train import train_vae
from tests import programs

TOOL = Path(__file__).parents[3] / "tools/train_vae.py"
GENES = [f"ENSG{i:011d}" for i in range(40)]
SMALL = VAEConfig(
    architecture="mlp",
    hidden="24,16",
    latent=6,
    gene_dropout=0.5,
    beta=0.005,
    lr=3e-3,
    epochs=4,
    batch_size=16,
    checkpoint_epochs=1,
    precision="float32",
    threads=1,
)
SKIP = SMALL.replace(architecture="pca_skip", gene_dropout=0.0, beta=1e-4, lr=1e-3)  # training improves on PCA


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


def train(config: VAEConfig, expression: Path, run: Path, cohort: Path | None = None) -> bool:
    return train_vae(config, VAEInputs(expression, cohort), run)


def same_weights(one: Path, other: Path) -> bool:
    a, b = (load_file(run / "model/vae.safetensors") for run in (one, other))
    return all(torch.equal(a[name], b[name]) for name in a)


def test_learning_rate_warms_up_and_falls() -> None:
    rates = [trainer.learning_rate(VAEConfig(lr=1.0, warmup_share=0.2), step, 10) for step in range(10)]
    np.testing.assert_allclose(rates, [0.5, 1.0, *(0.5 * (1 + np.cos(np.pi * np.arange(8) / 8)))])


def test_steps_equal_a_plain_loop(expression: Path, tmp_path: Path) -> None:
    """Truth is Adam on a plain network, fed by hand with the addressed order and noise."""
    of_then = {"transform": "zscore", "architecture": "mlp"}
    config = SMALL.replace(**of_then, precision="float64", epochs=1, patience_epochs=1, gene_dropout=0.0)
    data = simulated()
    samples = data.obs.index[data.obs["split"] == "train"].tolist()
    selection = Arrangement.dealt(data.obs.index.tolist()).select(samples)
    order = selection.order(config.seed)
    row_of = {sample: row for row, sample in enumerate(samples)}
    x = np.log1p(data.split("train").astype(np.float64))
    x = torch.from_numpy(((x - x.mean(0)) / x.std(0)).astype(np.float32)).double()
    torch.manual_seed(config.seed)
    network = BetaVAE(len(GENES), config).double()
    adam = torch.optim.Adam(network.parameters())
    for step in range(4):  # 54 profiles in batches of 16
        adam.param_groups[0]["lr"] = trainer.learning_rate(config, step, 4)
        numbers = selection.rows(order.locate(16 * step, 16))
        rows = [row_of[selection.arrangement.samples[number]] for number in numbers]
        eps = torch.from_numpy(rng.normal(config.seed, "vae noise", 16 * step, 16, config.latent))
        adam.zero_grad()
        vae_loss(x[rows], *network(x[rows], eps), config.beta).total.backward()
        adam.step()
    train(config, expression, tmp_path / "run")
    trained = load_file(tmp_path / "run/model/vae.safetensors")
    for name, weight in network.state_dict().items():
        torch.testing.assert_close(trained[name], weight.float(), rtol=1e-5, atol=1e-7)


def test_pca_is_what_training_must_beat(expression: Path, tmp_path: Path) -> None:
    """Validation chooses the untrained network where training makes it worse, and it is PCA."""
    train(SKIP.replace(lr=0.1, epochs=2), expression, tmp_path / "spoiled")
    train(SKIP.replace(epochs=20), expression, tmp_path / "better")
    spoiled, better = (load_vae(tmp_path / name / "model") for name in ("spoiled", "better"))
    data = simulated()
    z = {name: spoiled.transform.apply(data.split(name), data.genes, "tpm") for name in ("train", "validation", "test")}
    pca = PCA(6).fit(z["train"].astype(float))
    expected = {name: np.sqrt(np.square(x - pca.inverse_transform(pca.transform(x))).mean()) for name, x in z.items()}
    assert spoiled.record["best_step"] == 0 < better.record["best_step"]
    for name in ("validation", "test"):
        assert spoiled.record["metrics"][f"{name}_rmse"] == pytest.approx(expected[name], rel=1e-5)
    rows = [row for row in read_metrics(tmp_path / "better") if "validation_total" in row]
    first = rows[0]["validation_total"]
    assert rows[0]["images"] == 0 and "train_total" not in rows[0] and "train_total" in rows[1]
    assert better.record["metrics"]["validation_total"] < first
    assert spoiled.record["metrics"]["validation_total"] == pytest.approx(first)


@pytest.mark.parametrize("small", [SMALL, SKIP], ids=["mlp", "pca_skip"])
def test_interrupted_run_ends_in_the_same_bits(
    small: VAEConfig, expression: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    train(small, expression, tmp_path / "whole")
    step = trainer.VAETrainer.train_step

    def power_cut(trainer: trainer.VAETrainer, batch: data.TrainingBatch) -> None:
        if trainer.step == 10:  # between the checkpoints after steps 8 and 12
            raise KeyboardInterrupt
        step(trainer, batch)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(trainer.VAETrainer, "train_step", power_cut)
        train(small, expression, tmp_path / "cut")
    assert not (tmp_path / "cut/model").exists()
    train(small, expression, tmp_path / "cut")
    assert "goes on from step 8 of 14" in capsys.readouterr().out
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    rows = [[{**row, "seconds": 0} for row in read_metrics(tmp_path / run)] for run in ("whole", "cut")]
    assert rows[0] == rows[1] and load_vae(tmp_path / "cut/model").record["best_step"] > 0
    train(small.replace(seed=1), expression, tmp_path / "other")
    assert not same_weights(tmp_path / "whole", tmp_path / "other")


def test_finished_run_is_up_to_date_and_refuses_other_settings(
    expression: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = tmp_path / "run"
    train(SMALL, expression, run)
    before = (run / "model/model.json").stat().st_mtime_ns
    train(SMALL, expression, run)
    assert "model is up to date" in capsys.readouterr().out
    assert (run / "model/model.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"holds a run with other settings \(beta 0\.005 → 0\.1\)"):
        train(SMALL.replace(beta=0.1), expression, run)
    write_expression(expression, simulated(80), "other")
    with pytest.raises(ValueError, match="was started with another expression; choose"):
        train(SMALL, expression, run)


def test_product_encodes_and_knows_its_active_units(expression: Path, tmp_path: Path) -> None:
    data = simulated(300)
    write_expression(expression, data, "digest")
    train(SMALL.replace(transform="zscore", epochs=40), expression, tmp_path / "run")
    model = load_vae(tmp_path / "run/model")
    mu = model.encode(data.values, data.genes, "tpm").latents
    assert (mu.shape, mu.dtype) == ((300, 6), np.float32)
    of_train = mu[(data.obs["split"] == "train").to_numpy()]
    space = model.space
    np.testing.assert_allclose(of_train.mean(0), space.mean, atol=1e-5)
    np.testing.assert_allclose(of_train.std(0), space.sd, atol=1e-5)
    assert np.all(np.diff(space.kl[space.active]) <= 0) and np.all(space.kl[space.active] > 0.01)
    assert model.record["metrics"]["active_units"] == len(space.active) >= 2
    assert model.record["metrics"]["test_rmse"] < 0.75  # 1 is the mean profile
    assert model.record["tissues"] == ["lung"] == list(space.tissues)
    with pytest.warns(UserWarning, match="lack up to 50% of the model's 40 genes"):
        half = model.encode(data.values[:, :20], data.genes[:20], "tpm").latents
    assert not np.allclose(half, mu)
    with pytest.raises(ValueError, match="fitted on tpm"):
        model.encode(data.values, data.genes, "log2")


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_each_transform_trains_and_its_product_encodes_by_it(expression: Path, tmp_path: Path, transform: str) -> None:
    config = SMALL.replace(transform=transform, epochs=2)
    assert train(config, expression, tmp_path / "run")
    model, x = load_vae(tmp_path / "run/model"), simulated().values[:5]
    assert model.transform.kind == transform and model.config == config
    together = model.encode(x, GENES, "tpm").latents
    np.testing.assert_array_equal(model.encode(x[3:4], GENES, "tpm").latents, together[3:4])
    x[3, :20] = np.nan
    with pytest.warns(UserWarning, match="lack up to 50%"):
        assert np.isfinite(model.encode(x, GENES, "tpm").latents).all()
    if transform == "normal_scores":
        np.testing.assert_array_equal(model.encode(np.log2(x[:3] + 1), GENES, "log2").latents, together[:3])


def test_training_stops_early_and_keeps_the_best(expression: Path, tmp_path: Path) -> None:
    config = SMALL.replace(epochs=200, lr=0.02, beta=0.0, patience_epochs=2)
    train(config, expression, tmp_path / "run")
    record = load_vae(tmp_path / "run/model").record
    totals = [row["validation_total"] for row in read_metrics(tmp_path / "run") if "train_total" in row]
    assert record["steps"] < 675 and record["steps"] - record["best_step"] == 8
    assert record["metrics"]["validation_total"] == min(totals)


def test_changed_model_folder_is_refused(expression: Path, tmp_path: Path) -> None:
    train(SMALL.replace(epochs=1), expression, tmp_path / "run")
    genes = tmp_path / "run/model/transform.json"
    genes.write_text(genes.read_text().replace(GENES[0], GENES[1]))
    with pytest.raises(ValueError, match=r"transform\.json is missing or was changed"):
        load_vae(tmp_path / "run/model")
    with pytest.raises(FileNotFoundError, match=r"model\.json does not exist"):
        load_vae(tmp_path)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_released_pieces_train(expression: Path, tmp_path: Path, norm: str) -> None:
    config = SMALL.replace(
        architecture="mlp", norm=norm, output="tanh", input_dropout=0.5, gene_dropout=0.0, logarithm="paper"
    )
    config = config.replace(decoder_hidden="16", epochs=40)
    train(config, expression, tmp_path / "run")
    rows = [row for row in read_metrics(tmp_path / "run") if "train_total" in row]
    totals = [row["train_total"] for row in rows]
    assert np.mean(totals[-5:]) < 0.9 * np.mean(totals[:5])


@pytest.mark.parametrize(("kept", "word"), [(("validation", "test"), "training"), (("train", "test"), "validation")])
def test_empty_split_is_refused(tmp_path: Path, kept: tuple[str, ...], word: str) -> None:
    write_expression(tmp_path / "e.h5ad", simulated(splits=kept), "digest")
    with pytest.raises(ValueError, match=f"holds no {word} profiles"):
        train(SMALL, tmp_path / "e.h5ad", tmp_path / "run")


def test_loss_that_is_not_finite_stops_the_run(expression: Path, tmp_path: Path) -> None:
    stopped = r"Losses or weights are no longer finite at 64 profiles .* there is no checkpoint yet\. Lower lr\."
    with pytest.raises(ValueError, match=stopped):
        train(SMALL.replace(lr=1e30), expression, tmp_path / "run")
    assert not (tmp_path / "run/model").exists() and not (tmp_path / "run/checkpoints").exists()


def test_a_signal_saves_no_state_that_is_not_finite(
    expression: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = trainer.VAETrainer.train_step

    def spoiled(own: trainer.VAETrainer, batch: data.TrainingBatch) -> None:
        step(own, batch)
        if own.step == 6:  # in the midst of the second epoch
            own.network.to_mu.weight.data.fill_(np.nan)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(trainer.VAETrainer, "train_step", spoiled)
    stopped = r"no longer finite at 96 profiles .* the last good checkpoint is .*000000000064\."
    with pytest.raises(ValueError, match=stopped):
        train(SMALL, expression, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["000000000064"]


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
    assert bad.exit_code == 1 and "none.h5ad does not exist; make it with rnagan build-expression" in bad.output


def stop_after(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """This process gets SIGTERM after each of these steps."""
    step = trainer.VAETrainer.train_step

    def interrupted(trainer: trainer.VAETrainer, batch: data.TrainingBatch) -> None:
        step(trainer, batch)
        if trainer.step in steps:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(trainer.VAETrainer, "train_step", interrupted)


def test_signal_stops_the_run_and_it_goes_on_in_the_same_bits(
    expression: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(SMALL, expression, tmp_path / "whole")
    stop_after(monkeypatch, 2, 9)  # in the midst of an epoch, before and after the first checkpoint
    assert [train(SMALL, expression, tmp_path / "cut") for _ in range(3)] == [False, False, True]
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    rows = [[{**row, "seconds": 0} for row in read_metrics(tmp_path / run)] for run in ("whole", "cut")]
    assert rows[0] == rows[1]


def test_a_stopped_command_says_so_by_its_exit_code(
    expression: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """75, as the other trainers: a batch script sends the job back to the queue."""
    main = runpy.run_path(str(TOOL))["main"]
    options = [f"--expression={expression}", f"--out={tmp_path / 'run'}", "--hidden=24,16", "--latent=6", "--epochs=3"]
    stop_after(monkeypatch, 1)
    stopped = CliRunner().invoke(main, options)
    assert stopped.exit_code == 75 and "Stopped at step 1 of 2; start again to go on." in stopped.output
    assert CliRunner().invoke(main, options).exit_code == 0
    assert (tmp_path / "run/model/model.json").is_file()


def test_streamed_from_shards_equals_memory_bit_for_bit(expression: Path, tmp_path: Path) -> None:
    data = simulated()
    build_profiles(expression, tmp_path / "shards")
    cohort = data.obs.reset_index().assign(slide="", site="")
    cohort.to_csv(tmp_path / "cohort.csv", index=False)
    train(SMALL, expression, tmp_path / "memory")
    train(SMALL, tmp_path / "shards", tmp_path / "streamed", tmp_path / "cohort.csv")
    assert same_weights(tmp_path / "memory", tmp_path / "streamed")
    models = [load_vae(tmp_path / name / "model") for name in ("memory", "streamed")]
    np.testing.assert_array_equal(models[0].transform.mean, models[1].transform.mean)
    np.testing.assert_array_equal(models[0].space.whitening, models[1].space.whitening)
    np.testing.assert_array_equal(models[0].imputer.loadings, models[1].imputer.loadings)
    with pytest.raises(ValueError, match="give --cohort too"):
        train(SMALL, tmp_path / "shards", tmp_path / "no_labels")


def test_where_chooses_profiles(expression: Path, tmp_path: Path) -> None:
    data = simulated(120)
    data.obs["tissue"] = np.repeat(["lung", "liver", "colon"], 40)
    write_expression(expression, data, "digest")
    train(SMALL.replace(transform="zscore", where="tissue=lung,colon"), expression, tmp_path / "run")
    model = load_vae(tmp_path / "run/model")
    assert model.space.tissues == ("colon", "lung") and model.record["splits"] == {
        "train": 48,
        "validation": 16,
        "test": 16,
    }
    train_values = data.values[((data.obs["split"] == "train") & (data.obs["tissue"] != "liver")).to_numpy()]
    np.testing.assert_allclose(model.transform.mean, np.log1p(train_values.astype(float)).mean(0), rtol=1e-9)
    with pytest.raises(ValueError, match="no row has tissue 'Lung'"):
        train(SMALL.replace(where="tissue=Lung"), expression, tmp_path / "other")


def test_split_by_sample_is_recorded(expression: Path, tmp_path: Path) -> None:
    data = simulated()
    data.obs["donor"] = [f"D{k // 2}" for k in range(90)]  # in several splits
    write_expression(expression, dataclasses.replace(data, split_by="sample"), "digest")
    train(SMALL.replace(epochs=1), expression, tmp_path / "run")
    assert load_vae(tmp_path / "run/model").record["split_by"] == "sample"
    write_expression(expression, data, "digest")
    with pytest.raises(ValueError, match="has a donor in two splits"):
        train(SMALL.replace(epochs=1), expression, tmp_path / "other")


def test_gene_dropout_hides_what_it_says() -> None:
    config = SMALL.replace(gene_dropout=0.6)
    batch = data._with_draws(config, 5, np.ones((400, 500), np.float32))
    hidden = 1 - batch.keep.numpy().mean(axis=1)
    assert set(np.unique(batch.keep)) == {0.0, 1.0} and hidden.max() < 0.68
    np.testing.assert_allclose(np.quantile(hidden, [0.25, 0.5, 0.75]), [0.15, 0.3, 0.45], atol=0.05)
    again = data._with_draws(config, 7, np.ones((3, 500), np.float32))  # addressed by number
    assert torch.equal(again.keep, batch.keep[2:5]) and torch.equal(again.eps, batch.eps[2:5])


def test_beta_rises_during_the_kl_warm_up() -> None:
    config = VAEConfig(beta=0.8, kl_warmup_share=0.4)
    np.testing.assert_allclose([trainer.beta_of_step(config, k, 10) for k in range(6)], [0.2, 0.4, 0.6, 0.8, 0.8, 0.8])
    assert trainer.beta_of_step(VAEConfig(beta=0.8), 0, 10) == 0.8


def test_free_bits_keep_units_alive(expression: Path, tmp_path: Path) -> None:
    strict = SMALL.replace(beta=0.2, epochs=30)
    train(strict, expression, tmp_path / "collapsed")
    train(strict.replace(free_bits=0.5), expression, tmp_path / "free")
    active = [len(load_vae(tmp_path / name / "model").space.active) for name in ("collapsed", "free")]
    assert active[0] < active[1] == 6


ENVIRONMENT = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "OMP_NUM_THREADS": "1"}


def command_line(config: VAEConfig, expression: Path, run: Path) -> list[str]:
    settings = [f"--{name.replace('_', '-')}={value}" for name, value in config.to_dict().items() if value != ""]
    return [f"--expression={expression}", f"--out={run}", *settings]


def launched(command: list[str], config: VAEConfig, expression: Path, run: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command, str(TOOL), *command_line(config, expression, run)],
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model/vae.safetensors")


def assert_close(run: Path, other: Path, tolerance: float) -> None:
    one, two = weights_of(run), weights_of(other)
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.distributed
@pytest.mark.parametrize("small", [SMALL, SKIP], ids=["mlp", "pca_skip"])
def test_two_processes_equal_one(small: VAEConfig, expression: Path, tmp_path: Path) -> None:
    config = small.replace(precision="float64", epochs=6, free_bits=0.05, patience_epochs=9)
    if small == SMALL:
        config = config.replace(transform="zscore", augment_library=0.1, augment_genes=0.1, augment_shift=0.1)
        config = config.replace(input_dropout=0.2)
    words = ("rnagan", "train-vae", *command_line(config, expression, tmp_path / "two"))
    programs.run(*words, env=ENVIRONMENT, processes=2).check()
    train(config, expression, tmp_path / "one")
    train(config.replace(batch_size=8), expression, tmp_path / "half")  # what two strangers would do
    record = load_vae(tmp_path / "two/model").record
    assert record["processes"] == 2 and record["steps"] == 21 and record["best_step"] > 0
    assert_close(tmp_path / "one", tmp_path / "two", 1e-7)
    halved = weights_of(tmp_path / "half")["to_mu.weight"]
    assert (halved - weights_of(tmp_path / "one")["to_mu.weight"]).abs().max() > 1e-3


@pytest.mark.distributed
@pytest.mark.slow  # DeepSpeed compiles at its first start
@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", [1, *(pytest.param(stage, marks=pytest.mark.guard) for stage in (2, 3))])
def test_deepspeed_equals_one_process(expression: Path, tmp_path: Path, stage: int) -> None:
    """ZeRO on two processes, also when it goes on from a checkpoint of one process, and one process from ZeRO's."""
    config = SMALL.replace(epochs=6, patience_epochs=9)
    settings = TOOL.parents[1] / f"launch_configs/deepspeed_zero{stage}.yaml"
    launch = ["accelerate.commands.launch", "--config_file", str(settings)]
    launched(launch, config, expression, tmp_path / "zero")
    train(config, expression, tmp_path / "one")
    record = load_vae(tmp_path / "zero/model").record
    assert record["processes"] == 2 and record["steps"] == 21
    assert_close(tmp_path / "one", tmp_path / "zero", 1e-5)
    for first, last in (("one", "zero"), ("zero", "one")):
        run = tmp_path / f"{first}_then_{last}"
        shutil.copytree(tmp_path / first / "checkpoints", run / "checkpoints")
        # the last checkpoint holds the end of training: what follows is the product of its weights
        if last == "zero":
            launched(launch, config, expression, run)
        else:
            train(config, expression, run)
        assert_close(tmp_path / "one", run, 1e-5)
