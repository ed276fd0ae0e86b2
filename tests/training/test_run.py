"""What all trainers share: which checkpoint a run goes on from, what it refuses, its means, and how it ends."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from rnagan.config.gan import GANConfig
from rnagan.config.simclr import SimCLRConfig
from rnagan.config.vae import VAEConfig
from rnagan.data.reader import Replaced
from rnagan.io.files import read_json
from rnagan.tracking.run_folder import checkpoint_path, read_metrics
from rnagan.training import checkpoint
from rnagan.training import run as run_module
from rnagan.training import throughput as throughput_module
from rnagan.training import tile_trainer as trainer_module
from rnagan.training.corrupt_tiles import CorruptTiles, cut_back
from rnagan.training.gan.train import train_gan
from rnagan.training.run import StepMeans, TrainingRun
from rnagan.training.same_run import check_same_run
from rnagan.training.simclr.train import pretrain_simclr
from rnagan.training.simclr.trainer import SimCLRTrainer
from rnagan.training.throughput import Throughput
from rnagan.training.tile_inputs import TileInputs
from rnagan.training.tile_trainer import TileTrainer
from rnagan.training.vae.data import VAEInputs
from rnagan.training.vae.train import train_vae
from rnagan.training.vae.trainer import VAETrainer
from tests import programs

VAE = VAEConfig(hidden="16", latent=4, epochs=2, batch_size=4, checkpoint_epochs=1, precision="float32", threads=1)
SIMCLR = SimCLRConfig(backbone="resnet18", epochs=1, batch_size=16, projection=8, precision="float32", threads=1)


def begun(folder: Path, config: VAEConfig | GANConfig = VAE) -> TrainingRun:
    return TrainingRun(folder, config, Accelerator(cpu=True), {"expression": "digest"})


def stored(folder: Path, images: int, **state: object) -> Path:
    """A checkpoint without weights."""
    path = checkpoint_path(folder, images)
    own = {"kind": "vae", "config": VAE.to_dict(), "made_from": {"expression": "digest"}, "mlflow_run": None}
    checkpoint.save_checkpoint(path, {}, {}, own | state)
    return path


def test_a_run_goes_on_from_its_newest_checkpoint(tmp_path: Path) -> None:
    assert begun(tmp_path).checkpoint is None
    for images in (8, 120, 64):
        stored(tmp_path, images)
    found = begun(tmp_path).checkpoint
    assert found is not None and found.path.name == "000000000120"


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ({"kind": "simclr"}, "holds a run of another kind; choose another --out"),
        ({"config": VAE.replace(beta=0.1).to_dict()}, r"with other settings \(beta 0\.1 → 0\.0001\); choose another"),
        ({"made_from": {"expression": "another"}}, "was started with another expression; choose another --out"),
        ({"made_from": {"expression": "digest", "cohort": "c"}}, "was started with another cohort"),
    ],
)
def test_a_run_keeps_its_kind_settings_and_inputs(tmp_path: Path, state: dict, sentence: str) -> None:
    stored(tmp_path, 8, **state)
    with pytest.raises(ValueError, match=sentence):
        begun(tmp_path)


def test_settings_that_decide_nothing_may_change(tmp_path: Path) -> None:
    stored(tmp_path, 8, config=VAE.replace(threads=7, checkpoint_epochs=9).to_dict())
    assert begun(tmp_path).checkpoint is not None


def test_the_settings_of_a_gan_lie_beside_its_checkpoint(small: GANConfig, tmp_path: Path) -> None:
    small.save(tmp_path / "config.yaml")
    check_same_run(small.replace(images=8, batch_size=4), {}, {"made_from": {}}, tmp_path)
    with pytest.raises(ValueError, match=r"other settings \(seed 0 → 1\)"):
        check_same_run(small.replace(seed=1), {}, {"made_from": {}}, tmp_path)
    with pytest.raises(ValueError, match="holds a run of another kind"):
        check_same_run(VAE, {}, {"made_from": {}}, tmp_path)


LAGGING = """
import sys
from pathlib import Path
from accelerate import Accelerator
from rnagan.config.base import load_config
from rnagan.config.vae import VAEConfig
from rnagan.training import run

accelerator = Accelerator(cpu=True)
if not accelerator.is_main_process:
    run.set_aside_damaged = lambda folder: None  # its file system doesn't show the newest one yet
config = load_config(VAEConfig, sys.argv[2])
found = run.TrainingRun(Path(sys.argv[1]), config, accelerator, {"expression": "digest"}).checkpoint
print(accelerator.process_index, "goes on from", found.path.name, flush=True)
accelerator.end_training()
"""


@pytest.mark.distributed
def test_the_main_process_says_which_checkpoint_all_go_on_from(tmp_path: Path) -> None:
    stored(tmp_path / "run", 64)
    VAE.save(tmp_path / "config.yaml")
    (tmp_path / "lagging.py").write_text(LAGGING)
    words = (tmp_path / "lagging.py", tmp_path / "run", tmp_path / "config.yaml")
    environment = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = programs.run(*words, env=environment, processes=2).check()
    assert {"0 goes on from 000000000064", "1 goes on from 000000000064"} <= set(done.stdout.splitlines())


def test_means_are_over_the_steps_that_had_the_scalar() -> None:
    means = StepMeans(("loss", "generator"), Accelerator(cpu=True))
    assert means.reduce() == {}
    for loss, generator in ((1.0, None), (2.0, 4.0), (6.0, None)):
        means.add((torch.tensor(loss, requires_grad=True), None if generator is None else torch.tensor(generator)))
    assert means.reduce() == {"loss": 3.0, "generator": 4.0}
    means.add((torch.tensor(5.0), None))
    assert means.reduce() == {"loss": 5.0}


def test_means_go_on_from_a_checkpoint() -> None:
    accelerator = Accelerator(cpu=True)
    whole, cut, resumed = (StepMeans(("loss",), accelerator, torch.float64) for _ in range(3))
    values = np.random.default_rng(0).normal(size=7)
    for k, value in enumerate(values):
        whole.add([torch.tensor(value)])
        if k < 3:
            cut.add([torch.tensor(value)])
    resumed.load_state(cut.state(), 3)
    for value in values[3:]:
        resumed.add([torch.tensor(value)])
    assert resumed.reduce() == whole.reduce() == {"loss": pytest.approx(values.mean(), abs=1e-15)}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(tmp_path: Path, bad: float) -> None:
    run, network = begun(tmp_path), nn.Linear(2, 2)
    run.check_finite(8, {"loss": 1.0}, [network], "Lower lr.")
    with pytest.raises(ValueError, match=r"no longer finite at 8 images .*; there is no checkpoint yet\. Lower lr\."):
        run.check_finite(8, {"loss": bad}, [network], "Lower lr.")
    stored(tmp_path, 4)
    network.bias.data[1] = bad
    with pytest.raises(ValueError, match=r"the last good checkpoint is .*000000000004\. Lower lr\."):
        run.check_finite(8, {"loss": 1.0}, [network], "Lower lr.")


def test_throughput_is_of_the_time_since_the_last_row() -> None:
    throughput = Throughput(100, torch.device("cpu"))
    time.sleep(0.1)
    row = throughput.row(120)
    assert 60 < row["machine/images_per_second"] <= 200 and 0.05 < row["machine/memory_gb"] < 500
    time.sleep(0.1)
    throughput.restart(120)
    time.sleep(0.02)
    assert throughput.row(130)["machine/images_per_second"] > 100  # the wait before the restart isn't counted


def test_what_is_no_training_does_not_count_as_time_of_it() -> None:
    throughput = Throughput(0, torch.device("cpu"))
    with pytest.raises(OSError), throughput.paused("checkpoints"):
        time.sleep(0.2)
        raise OSError("disk full")
    assert throughput.row(10)["machine/images_per_second"] > 100


@pytest.mark.usefixtures("no_mlflow")
def test_checkpoints_sample_grids_and_validations_are_no_training(
    small: GANConfig, inputs: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    def lasts(seconds: float, owner: object, name: str) -> None:
        call = getattr(owner, name)

        def timed(*given: Any, **named: Any) -> Any:
            clock[0] += seconds
            return call(*given, **named)

        monkeypatch.setattr(owner, name, timed)

    monkeypatch.setattr(throughput_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    lasts(1.0, TileTrainer, "_one_step")
    lasts(50.0, run_module, "host_copy")
    lasts(7.0, trainer_module, "generate")
    train_gan(small.replace(images=64, log_every=16, checkpoint_every=24, sample_every=24), inputs, tmp_path)
    rates = [
        each["machine/images_per_second"] for each in read_metrics(tmp_path) if "machine/images_per_second" in each
    ]
    assert len(rates) >= 4 and set(rates) == {8.0}  # a batch a second


def test_what_training_waits_for_long_is_said_with_the_option_that_makes_it_rarer() -> None:
    throughput = Throughput(0, torch.device("cpu"))
    throughput.paused_seconds |= {"checkpoints": 70.0, "validations": 59.0, "rows of metrics": 100.0}
    throughput._run_began -= 1000
    assert throughput.long_waits(GANConfig()) == [
        "Training waited for checkpoints in 7% of the time; a larger --checkpoint-every makes them rarer.",
        "Training waited for rows of metrics in 10% of the time; a larger --log-every makes them rarer.",
    ]
    of_vae = throughput.long_waits(VAE)
    assert "--checkpoint-epochs" in of_vae[0] and of_vae[1].endswith("rows of metrics in 10% of the time.")
    throughput._run_began -= 500
    assert len(throughput.long_waits(GANConfig())) == 1  # 70 of 1,500 seconds are less than 5%


def train_of(kind: str, small: GANConfig, inputs: TileInputs, run: Path) -> Callable[[], bool]:
    assert inputs.expression is not None
    vae_inputs = VAEInputs(inputs.expression)
    return {
        "gan": lambda: train_gan(small.replace(images=32), inputs, run),
        "vae": lambda: train_vae(VAE, vae_inputs, run),
        "simclr": lambda: pretrain_simclr(SIMCLR, inputs.shards, run),
    }[kind]


STEPS = {"gan": (TileTrainer, "_one_step"), "vae": (VAETrainer, "train_step"), "simclr": (SimCLRTrainer, "train_step")}
PRODUCTS = {
    "gan": "rnagan.training.train_tiles.write_model",
    "vae": "rnagan.training.vae.trainer.save_vae",
    "simclr": "rnagan.training.simclr.train.save_backbone",
}


@pytest.mark.usefixtures("no_mlflow")
@pytest.mark.parametrize("kind", STEPS)
def test_a_crash_is_recorded_as_failed(
    small: GANConfig, inputs: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    run = train_of(kind, small, inputs, tmp_path)
    trainer, name = STEPS[kind]

    def crash(*_: object) -> None:
        raise RuntimeError("out of memory")

    for target in ("step", "product"):  # also where training is over, and its product can't be written
        with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="out of memory"):
            if target == "step":
                patched.setattr(trainer, name, crash)
            else:
                patched.setattr(PRODUCTS[kind], crash)
            run()
        record = read_json(tmp_path / "run.json")
        assert record["status"] == "FAILED" and record["total"] > 0 and record["made_from"]
    assert run()
    assert read_json(tmp_path / "run.json")["status"] == "FINISHED" and read_metrics(tmp_path)


@pytest.mark.usefixtures("no_mlflow")
@pytest.mark.parametrize("kind", STEPS)
def test_a_stopped_run_is_recorded_as_killed(
    small: GANConfig, inputs: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("rnagan.training.run.StopSignal.is_set", lambda *_: True)
    train_of(kind, small, inputs, tmp_path)()
    assert read_json(tmp_path / "run.json")["status"] == "KILLED"


def test_replaced_tiles_are_listed_and_cut_back(tmp_path: Path) -> None:
    ones = [Replaced(number, "slide é", number % 7, "is damaged") for number in (3, 8, 20)]
    first, second = CorruptTiles(tmp_path, 0), CorruptTiles(tmp_path, 1)
    first.add(ones[:2])
    first.add([])
    second.add(ones[2:])
    assert (first.count, second.count) == (2, 1)
    assert first.path.read_text().count("\n") == 2 and '"number": 3' in first.path.read_text()
    with open(first.path, "a") as file:
        file.write('{"number": 9, "sl')  # by a process that was killed
    cut_back(tmp_path, 8)
    assert [path.read_text().count("\n") for path in (first.path, second.path)] == [1, 0]
    first.add(ones[1:2])
    assert first.path.read_text().splitlines() == [
        '{"number": 3, "slide": "slide \\u00e9", "tile": 3, "problem": "is damaged"}',
        '{"number": 8, "slide": "slide \\u00e9", "tile": 1, "problem": "is damaged"}',
    ]


def test_a_run_without_damage_has_no_list(tmp_path: Path) -> None:
    CorruptTiles(tmp_path, 0).add([])
    cut_back(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []
