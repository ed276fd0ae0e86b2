import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from rnagan.training import deepspeed, launch
from rnagan.training.tile_inputs import TileInputs

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
TWO = str(ROOT / "launch_configs/cpu_two_processes.yaml")
ACCELERATE = [sys.executable, str(BIN / "accelerate"), "launch"]


def under(monkeypatch: pytest.MonkeyPatch, *parents: list[str]) -> int | None:
    """What `processes_asked` says below processes with these command lines, nearest first."""

    class Parent:
        def __init__(self, words: list[str]) -> None:
            self.cmdline = lambda: words

    class Own:
        def parents(self) -> list[Parent]:
            return [Parent(words) for words in parents]

    monkeypatch.setattr(psutil, "Process", Own)
    return launch.processes_asked()


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ([*ACCELERATE, "--cpu", "--num_processes", "2", "tools/train_rnagan.py"], 2),
        ([*ACCELERATE, "--num_processes=8", "tools/train_rnagan.py"], 8),
        ([*ACCELERATE, "--num-processes", "4", "tools/train_rnagan.py"], 4),
        ([*ACCELERATE, "--config_file", TWO, "tools/train_rnagan.py"], 2),
        ([*ACCELERATE, f"--config_file={TWO}", "tools/train_rnagan.py"], 2),
        ([*ACCELERATE, "--config_file", TWO, "--num_processes", "3", "tools/train_rnagan.py"], 3),
        ([*ACCELERATE, "--config-file", "missing.yaml", "tools/train_rnagan.py"], None),
        ([*ACCELERATE, "tools/train_rnagan.py", "--cohort", "c.csv"], None),
        ([sys.executable, str(BIN / "accelerate-launch"), "--num_processes", "2", "tools/train_rnagan.py"], 2),
        ([sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "tools/train_rnagan.py"], 2),
        (["bash", "-c", "accelerate launch --num_processes 2 tools/train_rnagan.py"], None),
        ([sys.executable, "-m", "pytest", "--num_processes", "2"], None),
    ],
)
def test_what_the_launcher_was_asked_for(monkeypatch: pytest.MonkeyPatch, words: list[str], asked: int | None) -> None:
    assert under(monkeypatch, ["bash"], words) == asked


def test_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    assert under(monkeypatch, ["bash"], ["/sbin/init"]) is None
    assert under(monkeypatch) is None


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, None),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, 4),  # torchrun on two nodes
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NUM_TASKS": "4"}, 4),
        ({"SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NUM_TASKS": "4"}, 4),  # srun alone: four strangers
        # a launcher a node, none of which knows of the other
        ({"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NUM_TASKS": "2"}, 4),
        ({"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NUM_TASKS": "1"}, 1),
    ],
)
def test_what_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], asked: int | None
) -> None:
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_STEP_NUM_NODES", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert under(monkeypatch, ["bash"]) == asked


def test_process_count() -> None:
    for got, asked in ((1, None), (1, 1), (2, None), (8, 8)):
        launch.check_process_count(got, asked)
    with pytest.raises(ValueError, match="2 processes were asked for and 1 started; on CPUs launch with"):
        launch.check_process_count(1, 2)


def test_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("float64", "float32", "bf16"):
        assert launch.resolve_precision(name) == name
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for fast, meant in ((True, "bf16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda fast=fast: fast)
        assert launch.resolve_precision("auto") == meant


def test_start_sets_threads_and_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        accelerator = launch.start("float32", 7, threads=1)
        assert (accelerator.num_processes, accelerator.mixed_precision, torch.get_num_threads()) == (1, "no", 1)
        drawn = torch.rand(3)
        torch.manual_seed(7)
        assert torch.equal(drawn, torch.rand(3))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(10**6))
        launch.start("float32", 7)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_process_that_is_alone_chooses_precision_anew() -> None:
    assert launch.start("bf16", 1).mixed_precision == "bf16"
    assert launch.start("float32", 1).mixed_precision == "no"


@pytest.mark.parametrize("deepspeed", [True, False])
def test_fp16_is_for_gpus(monkeypatch: pytest.MonkeyPatch, deepspeed: bool) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", str(deepspeed).lower())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: deepspeed)
    with pytest.raises(ValueError, match="precision fp16 is for GPUs without DeepSpeed; choose bf16, or auto"):
        launch.start("fp16", 0)


def test_deepspeed_settings_of_a_gan(monkeypatch: pytest.MonkeyPatch) -> None:
    for stage, pair in ((0, (0, 0)), (1, (1, 1)), (2, (2, 2)), (3, (3, 2))):
        monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", str(stage))
        plugins = deepspeed.plugins_of_two()
        assert tuple(plugins[name].zero_stage for name in ("generator", "critic")) == pair
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "4")
    with pytest.raises(ValueError, match="zero_stage 4 is none of 0, 1, 2, 3"):
        deepspeed.plugins_of_two()
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "cpu")
    with pytest.raises(ValueError, match="zero_stage alone .* leave offload_optimizer_device cpu out"):
        deepspeed.plugins_of_two()


@pytest.mark.slow  # starts of Accelerate's own launcher
@pytest.mark.guard
@pytest.mark.distributed
def test_launch_that_would_silently_run_one_process_is_refused(inputs: TileInputs, tmp_path: Path) -> None:
    command = [
        *ACCELERATE,
        "--cpu",
        "--num_processes",
        "2",
        str(ROOT / "tools/train_rnagan.py"),
        f"--shards={inputs.shards}",
        f"--cohort={inputs.cohort}",
        f"--out={tmp_path / 'run'}",
        "--mode=gan",
        "--resolution=32",
        "--images=8",
        "--batch-size=8",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stderr:
            lines.append(line.rstrip())
            if line.startswith("subprocess.CalledProcessError"):  # the launcher is done, though its exit may take long
                process.kill()
    said = [line for line in lines if line.startswith("Error: ")]
    assert len(said) == 1 and "2 processes were asked for and 1 started; on CPUs launch with" in said[0]
    assert lines[-1].startswith("subprocess.CalledProcessError") and "exit status 1" in lines[-1]
    assert not any("Traceback" in line for line in lines[: lines.index(said[0])])
    assert not (tmp_path / "run").exists()
