import contextlib
import dataclasses
import json
import os
import re
import resource
import runpy
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file

from rnagan.config.base import read_preset, resolve
from rnagan.config.gan import GANConfig
from rnagan.data.index import open_dataset
from rnagan.io.files import read_json, sha256_of_file
from rnagan.tracking.run_folder import latest_checkpoint
from rnagan.tracking.run_log import read_metrics
from rnagan.training import tile_trainer as trainer
from rnagan.training.gan.step import StepRecord
from rnagan.training.gan.train import train_gan
from rnagan.training.run import StepMeans
from rnagan.training.run_checks import check_device, check_run
from rnagan.training.tile_inputs import TileInputs

ROOT = Path(__file__).parents[3]
CommandLine = Callable[[GANConfig, TileInputs, Path], list[str]]
pytestmark = pytest.mark.usefixtures("no_mlflow")


def digests(folder: Path | None) -> dict[str, str]:
    """SHA-256 of every file: weights, both optimisers, the average, counters."""
    assert folder is not None
    return {path.name: sha256_of_file(path) for path in folder.iterdir()}


def rows(run: Path) -> list[dict]:
    """Metrics without what this machine was like."""
    timed = ("seconds", "machine/")
    return [{name: value for name, value in row.items() if not name.startswith(timed)} for row in read_metrics(run)]


def call_at(monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[trainer.TileTrainer], None]) -> None:
    """Call `action` right before a trainer makes its step number `step` + 1."""
    one_step = trainer.TileTrainer._one_step

    def patched(trainer: trainer.TileTrainer, batch: object) -> StepRecord:
        if trainer.steps == step:
            action(trainer)
        return one_step(trainer, batch)

    monkeypatch.setattr(trainer.TileTrainer, "_one_step", patched)


def power_cut(_: trainer.TileTrainer) -> None:
    raise KeyboardInterrupt


def test_run_broken_twice_ends_in_the_same_bits(
    small: GANConfig, inputs: TileInputs, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "cut"
    for step in (7, 11):  # checkpoints follow steps 5 and 10; step 5 falls between two generator steps
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            call_at(patched, step, power_cut)
            train_gan(small, inputs, run)
    assert read_metrics(run)[-1]["images"] == 80 and not (run / "model").exists()
    train_gan(small, inputs, run)
    whole = digests(latest_checkpoint(trained))
    assert set(whole) == {
        f"{name}.safetensors" for name in ("generator", "critic", "average", "generator_optimizer", "critic_optimizer")
    } | {"state.json"}
    assert digests(latest_checkpoint(run)) == whole
    assert read_json(run / "model/model.json")["digest"] == read_json(trained / "model/model.json")["digest"]
    assert rows(run) == rows(trained)


def test_seed_decides_the_bits(small: GANConfig, inputs: TileInputs, trained: Path, tmp_path: Path) -> None:
    train_gan(small.replace(seed=1), inputs, tmp_path / "run")
    own, other = (digests(latest_checkpoint(run)) for run in (tmp_path / "run", trained))
    assert [name for name in own if own[name] == other[name]] == ["state.json"]


def test_metrics_after_the_checkpoint_are_cut_off(
    small: GANConfig, inputs: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        call_at(patched, 9, power_cut)
        train_gan(small, inputs, tmp_path)
    assert [row["images"] for row in rows(tmp_path)] == [16, 32, 40, 48, 64]
    train_gan(small, inputs, tmp_path)
    assert [row["images"] for row in rows(tmp_path)] == [16, 32, 40, 48, 64, 80, 96]


def test_product_of_a_run(small: GANConfig, trained: Path) -> None:
    assert [path.name for path in sorted((trained / "checkpoints").iterdir())] == ["000000000080", "000000000096"]
    assert read_json(trained / "checkpoints/000000000096/state.json")["steps"] == 12
    assert [row["images"] for row in rows(trained)] == [16, 32, 40, 48, 64, 80, 96]
    assert all({"wasserstein", "penalty"} < set(row) for row in rows(trained))
    assert [row["images"] for row in rows(trained) if "generator" not in row] == [40]  # the fifth step alone
    for name in ("000000000048.png", "000000000096.png"):
        with Image.open(trained / "samples" / name) as picture:
            assert picture.size == (8 * 34 - 2, 4 * 34 - 2)  # four validation profiles
            assert picture.text["Synthetic"] == "true"
    model, average = (
        load_file(trained / name)
        for name in ("model/generator.safetensors", "checkpoints/000000000096/average.safetensors")
    )
    assert all(torch.equal(model[name], average[name]) for name in average)


def test_generator_loss_is_a_mean_over_generator_steps() -> None:
    means = StepMeans(StepRecord._fields, Accelerator(cpu=True))
    for generator in (None, 4.0, None, 8.0, None):
        means.add(StepRecord(torch.tensor(2.0), torch.tensor(1.0), None, generator and torch.tensor(generator)))
    assert means.reduce() == {"wasserstein": 2.0, "penalty": 1.0, "generator": 6.0}
    means.add(StepRecord(torch.tensor(3.0), torch.tensor(1.0), None, None))
    assert means.reduce() == {"wasserstein": 3.0, "penalty": 1.0}
    assert means.reduce() == {}


def test_finished_run_is_up_to_date_and_refuses_other_settings(
    small: GANConfig, inputs: TileInputs, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    train_gan(small, inputs, run)
    assert capsys.readouterr().out == f"{run} is up to date (96 images).\n"
    for change, changes in (({"generator_width": 8}, "generator_width 4 → 8"), ({"seed": 1}, "seed 0 → 1")):
        with pytest.raises(ValueError, match=rf"holds a run with other settings \({changes}\); choose another --out"):
            train_gan(small.replace(**change), inputs, run)
    train_gan(small.replace(images=112, batch_size=4, keep_checkpoints=1), inputs, run)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["000000000112"]
    assert read_json(run / "model/model.json")["images"] == 112


def test_run_goes_on_with_the_inputs_it_was_started_with(
    small: GANConfig, inputs: TileInputs, trained: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(inputs.vae, tmp_path / "vae")
    record = json.loads((other / "model.json").read_text())
    (other / "model.json").write_text(json.dumps(record | {"trained": "again"}))
    run = shutil.copytree(trained, tmp_path / "run")
    refused = f"{run} was started with another vae; choose another --out."
    with pytest.raises(ValueError, match=re.escape(refused)):
        train_gan(small, dataclasses.replace(inputs, vae=other), run)
    shutil.rmtree(run / "model")  # as if it had been stopped: the checkpoint knows it too
    with pytest.raises(ValueError, match=re.escape(refused)):
        train_gan(small, dataclasses.replace(inputs, vae=other), run)


def test_checkpoint_of_another_architecture_is_refused(
    small: GANConfig, inputs: TileInputs, trained: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(run / "model")
    newest = latest_checkpoint(run)
    shutil.copy(newest / "critic.safetensors", newest / "generator.safetensors")
    with pytest.raises(ValueError, match=r"generator\.safetensors belongs to another architecture"):
        train_gan(small, inputs, run)
    for checkpoint in newest.parent.glob("[0-9]*"):
        (checkpoint / "generator.safetensors").write_bytes(b"nonsense")
    with pytest.raises(
        ValueError, match=r"No checkpoint of .*/run is whole \(in \d+ generator\.safetensors is missing or cut\)"
    ):
        train_gan(small, inputs, run)


@pytest.mark.parametrize("where", ["loss", "weights"])
def test_what_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    small: GANConfig, inputs: TileInputs, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def spoil(trainer: trainer.TileTrainer) -> None:
        descend = trainer.step._descend

        def spoiled(loss: torch.Tensor, optimizer: torch.optim.Optimizer, *part: bool) -> None:
            descend(loss * np.nan if where == "loss" else loss, optimizer, *part)
            if where == "weights":
                trainer.step.raw_critic.pixels.score.weight.data.fill_(np.nan)

        trainer.step._descend = spoiled

    with monkeypatch.context() as patched:
        call_at(patched, 9, spoil)  # the step whose checkpoint is due
        with pytest.raises(ValueError, match=r"no longer finite at 80 images .* last good checkpoint is .*000000040\."):
            train_gan(small, inputs, tmp_path)
    assert latest_checkpoint(tmp_path).name == "000000000040" and not (tmp_path / "model").exists()
    train_gan(small, inputs, tmp_path)
    assert digests(latest_checkpoint(tmp_path)) == digests(latest_checkpoint(trained))


def test_sigterm_saves_and_a_new_start_goes_on(
    small: GANConfig,
    inputs: TileInputs,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patched:
        call_at(patched, 6, lambda _: os.kill(os.getpid(), signal.SIGTERM))
        train_gan(small, inputs, tmp_path)
    assert "Stopped at 56 images" in capsys.readouterr().out
    assert latest_checkpoint(tmp_path).name == "000000000056"
    assert signal.getsignal(signal.SIGTERM) is handler
    train_gan(small, inputs, tmp_path)
    assert "Finished at 96 images" in capsys.readouterr().out
    assert digests(latest_checkpoint(tmp_path)) == digests(latest_checkpoint(trained))


@pytest.mark.parametrize("mode", ["gan", "noise_only"])
def test_modes_without_profiles(small: GANConfig, inputs: TileInputs, tmp_path: Path, mode: str) -> None:
    config = small.replace(mode=mode, images=16, sample_every=16)
    train_gan(config, TileInputs(inputs.shards, inputs.cohort), tmp_path)
    assert read_json(tmp_path / "model/model.json")["tissues"] == ["cortex", "lung"]
    assert not (tmp_path / "model/vae").exists()
    with Image.open(tmp_path / "samples/000000000016.png") as picture:
        assert picture.size == (8 * 34 - 2, 8 * 34 - 2)


def test_mode_rnagan_needs_profiles(small: GANConfig, inputs: TileInputs, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="mode rnagan needs --expression, and --vae or --embedding; without profiles use --mode gan"
    ):
        train_gan(small, TileInputs(inputs.shards, inputs.cohort), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_expression_of_another_split_is_refused(small: GANConfig, inputs: TileInputs, tmp_path: Path) -> None:
    cohort = pd.read_csv(inputs.cohort)
    cohort["split"] = cohort["split"].replace({"train": "test", "test": "train"})
    cohort.to_csv(tmp_path / "cohort.csv", index=False)
    moved = TileInputs(inputs.shards, tmp_path / "cohort.csv", inputs.expression, inputs.vae)
    with pytest.raises(ValueError, match=r"21 samples .* are in one split in .* and in another in"):
        train_gan(small, moved, tmp_path / "run")


def test_what_a_run_cannot_be_is_said_before_it_starts(small: GANConfig, inputs: TileInputs) -> None:
    shards = open_dataset(inputs.shards)
    released = resolve(GANConfig, read_preset(GANConfig, "released"), {"resolution": 32})
    check_run(small, shards, 2)
    check_run(released, shards, 1)
    for config, processes, sentence in (
        (small, 3, "batch_size 8 can't be shared evenly by 3 processes"),
        (released, 2, "penalty_step separate .* runs on one process only"),
        (small.replace(generator_norm="batch"), 2, "BatchNorm .* differs between processes"),
        (small.replace(penalty_norm="whole_batch"), 2, "penalty_norm whole_batch needs a batch whole"),
        (small.replace(accumulate=3), 1, "8 tiles a step can't be cut evenly in accumulate 3 parts"),
        (small.replace(accumulate=8), 2, "4 tiles a step can't be cut evenly in accumulate 8 parts"),
        (small.replace(resolution=64), 1, "holds tiles of 32 px, which don't shrink evenly to resolution 64"),
    ):
        with pytest.raises(ValueError, match=sentence):
            check_run(config, shards, processes)


def test_what_gpus_and_deepspeed_cannot_serve(small: GANConfig, inputs: TileInputs) -> None:
    shards = open_dataset(inputs.shards)
    paper = small.replace(generator_norm="batch")
    check_run(paper, shards, 2, on_gpus=True)  # with SyncBatchNorm
    check_run(small, shards, 2, deepspeed=True)
    for config, deepspeed, sentence in (
        (small.replace(critic_norm="batch"), False, "critic_norm batch needs a batch whole: run it on one process"),
        (paper, True, "BatchNorm .* differs between processes"),
        (small.replace(precision="float64"), True, "DeepSpeed keeps its weights in float32"),
        (small.replace(accumulate=2), True, "accumulate isn't for DeepSpeed"),
    ):
        with pytest.raises(ValueError, match=sentence):
            check_run(config, shards, 2, on_gpus=True, deepspeed=deepspeed)


def test_a_penalty_that_the_device_does_not_compute(small: GANConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    tf32, bf16 = (small.replace(penalty_precision=precision) for precision in ("tf32", "bf16"))
    check_device(bf16, cpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    for capability, refused in (((7, 5), True), ((8, 0), False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, own=capability: own)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True, no=refused: not no)
        check_device(small, gpu)
        for config, sentence in ((tf32, "tf32 is for NVIDIA's GPUs since Ampere"), (bf16, "this GPU only emulates it")):
            with pytest.raises(ValueError, match=sentence) if refused else contextlib.nullcontext():
                check_device(config, gpu)
    with pytest.raises(ValueError, match="penalty_precision tf32 is for NVIDIA's GPUs since Ampere; choose bf16, or"):
        check_device(tf32, cpu)


def test_a_penalty_in_tf32_is_refused_on_a_cpu_before_a_run(
    small: GANConfig, inputs: TileInputs, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="penalty_precision tf32 is for NVIDIA's GPUs"):
        train_gan(small.replace(penalty_precision="tf32"), inputs, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_larger_tiles_are_shrunk_by_area() -> None:
    tiles = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    blocks = tiles.numpy().astype(float).reshape(2, 3, 4, 2, 4, 2).mean(axis=(3, 5))
    np.testing.assert_array_equal(trainer._to_resolution(tiles, 4).numpy(), blocks.round())
    assert trainer._to_resolution(tiles, 8) is tiles


@pytest.mark.slow
@pytest.mark.guard
def test_script(small: GANConfig, inputs: TileInputs, tmp_path: Path, command_line: CommandLine) -> None:
    main = runpy.run_path(str(ROOT / "tools/train_rnagan.py"))["main"]
    options = command_line(small.replace(images=16), inputs, tmp_path / "run")
    dry = CliRunner().invoke(main, [*options, "--dry-run"])
    assert dry.exit_code == 0 and "images: 16" in dry.output
    assert "16 images in 2 critic steps of 8 (1 × 8)" in dry.output
    assert "Condition: 4 of 6 latent units." in dry.output and "5 donors, 10 profiles." in dry.output
    assert "A step of 8 tiles on one process, float32: 0.00 TFLOP" in dry.output
    table = [line.split() for line in dry.output.splitlines() if line.startswith(("H200", "V100"))]
    assert len(table) == 2 and all(float(rate.replace(",", "")) > 1 for _, _, rate, *_ in table)
    assert not (tmp_path / "run").exists()
    assert CliRunner().invoke(main, options).exit_code == 0
    assert "up to date" in CliRunner().invoke(main, options).output
    bad = CliRunner().invoke(main, [*options, "--seed", "3"])
    assert bad.exit_code == 1 and bad.output.splitlines()[-1].startswith("Error: ") and "seed 0 → 3" in bad.output


def test_full_disk_costs_warnings_and_the_last_good_checkpoint_stays(
    small: GANConfig, inputs: TileInputs, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files may grow to 2 KiB only from step 7 to step 11: the checkpoint and the grid in between can't be written."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size: int) -> Callable[[trainer.TileTrainer], None]:
        def change(trainer: trainer.TileTrainer) -> None:
            trainer.run._background.wait()  # what came before has been written
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))

        return change

    config = small.replace(sample_every=64)
    try:
        with monkeypatch.context() as patched, pytest.warns(UserWarning, match="can be written to") as warned:
            call_at(patched, 7, limit(2048))
            call_at(patched, 11, limit(limits[0]))
            train_gan(config, inputs, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    kinds = [str(w.message).split(" can be")[0] for w in warned if "can be written" in str(w.message)]
    assert kinds == ["No sample grid", "No checkpoint"]
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["000000000040", "000000000096"]
    assert not list((tmp_path / "samples").iterdir())
    assert digests(latest_checkpoint(tmp_path)) == digests(latest_checkpoint(trained))
    assert rows(tmp_path) == rows(trained)


def test_full_disk_at_the_end_is_an_error(
    small: GANConfig, inputs: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with monkeypatch.context() as patched, pytest.raises(OSError, match="File too large"):
            call_at(patched, 11, lambda _: resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1])))
            train_gan(small, inputs, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert latest_checkpoint(tmp_path).name == "000000000080"
    train_gan(small, inputs, tmp_path)
    assert latest_checkpoint(tmp_path).name == "000000000096"
