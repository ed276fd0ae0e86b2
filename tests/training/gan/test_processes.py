"""Training on several real processes: equal weights, and after kill -9 the tiles that would have come."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from rnagan.config.gan import GANConfig
from rnagan.io.files import read_json, sha256_of_file
from rnagan.tracking.run_folder import latest_checkpoint, read_metrics
from rnagan.tracking.run_log import RunLog
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs
from tests import programs

ROOT = Path(__file__).parents[3]
CommandLine = Callable[[GANConfig, TileInputs, Path], list[str]]
pytestmark = pytest.mark.distributed
SCRIPT = ROOT / "tools/train_rnagan.py"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
EQUAL = {"images": 160, "batch_size": 8, "precision": "float64", "sample_every": 1000, "checkpoint_every": 1000}
SLOW_GUARD = [pytest.mark.slow, pytest.mark.guard]
PAIR = {"pixel_loss": "relativistic", "backbone": "efficientnet_lite0", "backbone_px": 64, "penalty_weight": 1.0}
PAIR |= {"generator_turns": True}
RESIDUAL = {"generator": "residual", "generator_norm": "none", "critic_layout": "residual", "generator_turns": True}
RESIDUAL |= {"pixel_loss": "relativistic", "penalty_weight": 1.0}
SETTINGS = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "OMP_NUM_THREADS": "1"}
ENVIRONMENT = os.environ | SETTINGS | {"PYTHONPATH": str(ROOT)}
WITHOUT_SYNC = """
import runpy, sys
from rnagan.training.gan.step import GANStep
before = GANStep._scores
def scores(self, *arguments):
    self.critic = self.raw_critic  # past DistributedDataParallel, which would have averaged the gradients
    return before(self, *arguments)
GANStep._scores = scores
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=SLOW_GUARD) for name in ("wgan_gp", "pair", "residual")]
)
def equal(small: GANConfig, request: pytest.FixtureRequest) -> GANConfig:
    """Ten generator and twenty critic steps; three and six with both critics, whose float64 takes a CPU long, and of
    residual networks."""
    others = {"pair": PAIR | {"images": 48}, "residual": RESIDUAL | {"images": 48}}
    return small.replace(**EQUAL | others.get(request.param, {}))


@pytest.fixture(scope="module")
def one_process(equal: GANConfig, inputs: TileInputs, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Weights after the steps of `equal` on one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunLog, "_start_mlflow", lambda *_: None)
        run = tmp_path_factory.mktemp("one")
        train_gan(equal, inputs, run)
    return all_weights(run)


def all_weights(run: Path) -> dict[str, torch.Tensor]:
    newest = latest_checkpoint(run)
    names = ["generator", "critic", "average", *(["mixing"] if (newest / "mixing.safetensors").is_file() else [])]
    return {
        f"{name}.{key}": tensor for name in names for key, tensor in load_file(newest / f"{name}.safetensors").items()
    }


def largest_difference(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    assert one.keys() == two.keys()
    return max((one[name] - two[name]).abs().max().item() for name in one)


def test_two_processes_equal_one(
    equal: GANConfig, inputs: TileInputs, one_process: dict, tmp_path: Path, command_line: CommandLine
) -> None:
    launch = [
        str(Path(sys.executable).parent / "accelerate"),
        "launch",
        "--config_file",
        str(ROOT / "launch_configs/cpu_two_processes.yaml"),
        str(SCRIPT),
    ]
    run = subprocess.run(
        [*launch, *command_line(equal, inputs, tmp_path / "two")],
        env=ENVIRONMENT | {"ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert f"{equal.images} images in {equal.images // 8} critic steps of 8 (2 × 4)" in run.stdout
    two = all_weights(tmp_path / "two")
    assert {weight.dtype for weight in two.values()} == {torch.float64}
    assert {"mixing.scales_3", "critic.features.heads.3.score.bias"} < two.keys() or equal.backbone == "none"
    assert largest_difference(one_process, two) < 1e-6


def test_two_processes_without_a_common_critic_gradient_differ(
    equal: GANConfig, inputs: TileInputs, one_process: dict, tmp_path: Path, command_line: CommandLine
) -> None:
    (tmp_path / "wrong.py").write_text(WITHOUT_SYNC)
    words = [tmp_path / "wrong.py", SCRIPT, *command_line(equal, inputs, tmp_path / "two")]
    programs.run(*words, env=SETTINGS, processes=2).check()
    assert largest_difference(one_process, all_weights(tmp_path / "two")) > 1e-4


@pytest.mark.slow
@pytest.mark.guard
def test_two_processes_share_validations_and_grids_and_leave_what_one_does(
    small: GANConfig, inputs: TileInputs, tmp_path: Path, command_line: CommandLine
) -> None:
    config = small.replace(validate_every=48, validation_tiles=24, precision="float64", sample_every=24)
    for name, processes in (("one", 1), ("two", 2)):
        words = command_line(config, inputs, tmp_path / name)
        programs.run(SCRIPT, *words, env=SETTINGS, processes=processes, timeout=200).check()
    one, two = (read_metrics(tmp_path / name) for name in ("one", "two"))
    assert sum(any("frechet" in name for name in row) for row in two) == 2
    for row, other in zip(one, two, strict=True):
        own = {name: value for name, value in row.items() if name != "seconds" and not name.startswith("machine/")}
        assert row.keys() == other.keys() and {name: other[name] for name in own} == pytest.approx(own, rel=1e-4)
    grids = [path.name for path in sorted((tmp_path / "one/samples").iterdir())]
    assert grids == [f"{images:012d}.png" for images in (24, 48, 72, 96)]
    for name in grids:
        pictures = [np.asarray(Image.open(tmp_path / run / "samples" / name)).astype(int) for run in ("one", "two")]
        assert np.abs(pictures[0] - pictures[1]).max() <= 1  # a rounding
    marked = [read_json(tmp_path / name / "model-best/model.json")["images"] for name in ("one", "two")]
    assert marked[0] == marked[1]


# What float32 rounds otherwise is not the difference looked for, but Adam makes steps of it: of a gradient that is
# 0 but for rounding, and of a LeakyReLU that bends at 0. So this test's Adam has a larger eps, and nothing bends.
SMOOTH = """
import runpy, sys
import torch
from torch import nn
from rnagan.models import second_gradient
from rnagan.training.gan import step

def smooth(x, slope=0.2):
    return slope * x + (1 - slope) * nn.functional.softplus(x, beta=4)

class Smooth(nn.Module):
    def __init__(self, slope=0.01):
        super().__init__()
        self.slope = slope
    def forward(self, x):
        return smooth(x, self.slope)

class Smooth6(nn.Module):  # of the backbone
    def forward(self, x):
        return nn.functional.softplus(x, beta=4) - nn.functional.softplus(x - 6, beta=4)

nn.LeakyReLU, nn.functional.leaky_relu, nn.ReLU6 = Smooth, smooth, Smooth6
second_gradient.applied = lambda layer, x, precision: layer(x)  # ours is for maps that are linear in pieces
adam = step._adam
def with_large_eps(module, lr, config):
    optimizer = adam(module, lr, config)
    for group in optimizer.param_groups:
        group["eps"] = 1e-3
    return optimizer
step._adam = with_large_eps
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""
DEEPSPEED = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]


@pytest.fixture(scope="module")
def smooth(
    small: GANConfig,
    inputs: TileInputs,
    command_line: CommandLine,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> tuple[GANConfig, dict[str, torch.Tensor]]:
    """Ten generator steps with two critic steps each, five with both critics; and what one process makes of them in
    float64."""
    both = PAIR | {"images": 80} if request.param == "pair" else {}
    config, folder = small.replace(**EQUAL | both), tmp_path_factory.mktemp("smooth")
    (folder / "smooth.py").write_text(SMOOTH)
    words = [folder / "smooth.py", SCRIPT, *command_line(config, inputs, folder / "truth")]
    programs.run(*words, env=ENVIRONMENT).check()
    return config.replace(precision="float32"), all_weights(folder / "truth")


def deepspeed_settings(stage: int, folder: Path) -> str:
    if stage:
        return str(ROOT / f"launch_configs/deepspeed_zero{stage}.yaml")
    text = (ROOT / "launch_configs/deepspeed_zero1.yaml").read_text()
    (folder / "zero0.yaml").write_text(text.replace("zero_stage: 1", "zero_stage: 0"))
    return str(folder / "zero0.yaml")


# CI runs the stages that cut what others hold whole, and with both critics the one that holds groups in parts.
OF_CI = {("wgan_gp", 2), ("wgan_gp", 3), ("pair", 2)}
OF_STAGES = [
    pytest.param(critics, stage, marks=[pytest.mark.guard] if (critics, stage) in OF_CI else [])
    for critics in ("wgan_gp", "pair")
    for stage in (0, 1, 2, 3)
]


@pytest.mark.slow  # DeepSpeed compiles at its first start
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("smooth", "stage"), OF_STAGES, indirect=["smooth"])
def test_two_deepspeed_processes_equal_one_process(
    smooth: tuple[GANConfig, dict], inputs: TileInputs, tmp_path: Path, command_line: CommandLine, stage: int
) -> None:
    """Also where half-way a run goes over from one process to DeepSpeed or back. DeepSpeed knows no float64."""
    config, truth = smooth
    (tmp_path / "smooth.py").write_text(SMOOTH)
    zero = [*DEEPSPEED, deepspeed_settings(stage, tmp_path)]

    def run(launch: str, name: str, images: int = config.images) -> dict[str, torch.Tensor]:
        own = config.replace(images=images)
        words = [str(tmp_path / "smooth.py"), str(SCRIPT), *command_line(own, inputs, tmp_path / name)]
        if launch == "one":
            programs.run(*words, env=ENVIRONMENT).check()
        else:
            done = subprocess.run([*zero, *words], env=ENVIRONMENT, capture_output=True, text=True, timeout=400)
            assert done.returncode == 0, done.stderr[-3000:]
            assert "(2 × 4)" in done.stdout
        return all_weights(tmp_path / name)

    assert largest_difference(truth, run("zero", "zero")) < 1e-5
    for name, first, second in (("over", "one", "zero"), ("back", "zero", "one")):
        run(first, name, images=config.images // 2)
        assert largest_difference(truth, run(second, name)) < 1e-5, name


# The main process has written what came before, for all processes.
WRITTEN = """
def written(trainer):
    trainer.run._background.wait()
    trainer.accelerator.wait_for_everyone()
"""

# Note which tiles each step sees, and be killed right before a given step.
TRACED = (
    WRITTEN
    + """
import json, os, runpy, signal, sys
from rnagan.training.tile_trainer import TileTrainer

out, killed_at = sys.argv[1], int(sys.argv[2])
before = TileTrainer._one_step
def one_step(self, batch):
    if self.steps == killed_at:
        written(self)
        os.kill(os.getpid(), signal.SIGKILL)
    with open(f"{out}.{os.getpid()}", "a") as file:
        sums = batch.images.sum(dim=(1, 2, 3)).tolist()
        for at, tile in enumerate(zip(batch.slides.tolist(), batch.tiles.tolist(), sums)):
            file.write(json.dumps([batch.start + at, *tile]) + "\\n")
    return before(self, batch)
TileTrainer._one_step = one_step
sys.argv = sys.argv[3:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
)


@pytest.mark.slow
@pytest.mark.guard
def test_killed_on_two_resumed_on_one_killed_and_resumed_on_two_sees_the_same_tiles(
    small: GANConfig, inputs: TileInputs, tmp_path: Path, command_line: CommandLine
) -> None:
    (tmp_path / "traced.py").write_text(TRACED)
    config = small.replace(tissue_weights="lung=3,cortex=1", images=120)

    def trace(name: str, run: str, processes: int, killed_at: int = -1) -> list[list[int]]:
        words = [tmp_path / "traced.py", tmp_path / name, killed_at, SCRIPT]
        done = programs.run(*words, *command_line(config, inputs, tmp_path / run), env=SETTINGS, processes=processes)
        assert (done.returncode == 0) == (killed_at < 0), done.stderr[-3000:]
        lines = [line for path in tmp_path.glob(f"{name}.*") for line in path.read_text().splitlines()]
        return sorted(map(json.loads, lines))

    whole = trace("whole", "whole", 1)
    assert [row[0] for row in whole] == list(range(120)) and len(
        {tuple(row[1:3]) for row in whole}
    ) < 60  # epochs of 39
    stages = [trace("first", "run", 2, killed_at=7), trace("second", "run", 1, killed_at=12), trace("third", "run", 2)]
    # checkpoints follow images 40, 80, …: what came after the last one comes again
    for stage, (first, end) in zip(stages, [(0, 56), (40, 96), (80, 120)], strict=True):
        assert stage == whole[first:end]
    for name in ("first", "third"):
        assert len(list(tmp_path.glob(f"{name}.*"))) == 2


# One process is killed right before a given step; torchrun ends the others.
KILLED = (
    WRITTEN
    + """
import os, runpy, signal, sys
from rnagan.training.tile_trainer import TileTrainer

killed_at = int(sys.argv[1])
before = TileTrainer._one_step
def one_step(self, batch):
    if self.steps == killed_at:
        written(self)
        if self.accelerator.process_index == killed_at % self.accelerator.num_processes:
            os.kill(os.getpid(), signal.SIGKILL)
    return before(self, batch)
TileTrainer._one_step = one_step
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("critics", "processes"),
    [
        pytest.param({}, 1, id="wgan_gp-1"),
        pytest.param({}, 2, id="wgan_gp-2", marks=SLOW_GUARD),
        pytest.param(PAIR, 1, id="pair-1", marks=SLOW_GUARD),
        pytest.param(PAIR, 2, id="pair-2", marks=SLOW_GUARD),
        pytest.param(RESIDUAL, 1, id="residual-1", marks=SLOW_GUARD),
        pytest.param(RESIDUAL, 2, id="residual-2", marks=SLOW_GUARD),
    ],
)
def test_killed_twice_in_one_epoch_it_ends_in_the_same_bits(
    small: GANConfig,
    inputs: TileInputs,
    trained: Path,
    tmp_path: Path,
    command_line: CommandLine,
    critics: dict,
    processes: int,
) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    # Goes on with another number of processes too, which rounds otherwise: Adam makes steps of that in float32.
    precision = "float32" if processes == 1 else "float64"
    config = small.replace(**critics, checkpoint_every=16, keep_checkpoints=9, precision=precision)

    def run(name: str, killed_at: int = -1, processes: int = processes) -> None:
        words = [*map(str, (tmp_path / "killed.py", killed_at, SCRIPT)), *command_line(config, inputs, tmp_path / name)]
        if processes == 1:
            done = programs.run(*words, env=SETTINGS)
        else:
            done = subprocess.run([*TORCHRUN, *words], env=ENVIRONMENT, capture_output=True, text=True, timeout=200)
        assert (done.returncode == 0) == (killed_at < 0), done.stderr[-3000:]

    # Epochs have 39 tiles, or nearly 5 steps: both fall into the second, each after a checkpoint of its own.
    first, second = random.Random(0).sample([6, 7], 1) + random.Random(1).sample([8, 9], 1)
    for killed_at in (first, second):
        run("cut", killed_at)
        assert latest_checkpoint(tmp_path / "cut").name == f"{killed_at // 2 * 16:012d}"
    if processes == 2:
        shutil.copytree(tmp_path / "cut", tmp_path / "on_one")
    run("cut")
    whole = trained
    if processes == 2 or critics:
        run("whole")
        whole = tmp_path / "whole"
    names = [path.name for path in latest_checkpoint(whole).iterdir()]
    assert {"generator.safetensors", "critic_optimizer.safetensors", "average.safetensors", "state.json"} < set(names)
    assert ("mixing.safetensors" in names) == ("backbone" in critics)
    for name in names:
        one, other = (latest_checkpoint(run) / name for run in (whole, tmp_path / "cut"))
        assert sha256_of_file(one) == sha256_of_file(other), name
    if processes == 2:  # the rest on one process: the same samples and noise, sums in another order
        run("on_one", processes=1)
        assert 0 < largest_difference(all_weights(whole), all_weights(tmp_path / "on_one")) < 1e-6


ACCUMULATED = """
import runpy, sys
import torch
from torch.nn.parallel import DistributedDataParallel
from rnagan.training.tile_trainer import TileTrainer

messages = 0
def counted(_, bucket):
    global messages
    messages += bucket.is_last()
    whole = torch.distributed.all_reduce(bucket.buffer().div_(2), async_op=True).get_future()
    return whole.then(lambda future: future.value()[0])
before = TileTrainer.train
def train(self):
    for network in (self.step.generator, self.step.critic):
        assert isinstance(network, DistributedDataParallel)
        network.register_comm_hook(None, counted)
    finished = before(self)
    print(f"{messages} messages in {self.steps} steps", flush=True)
    return finished
TileTrainer.train = train
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_accumulated_gradients_are_those_of_the_whole_batch_in_one_message(
    equal: GANConfig, inputs: TileInputs, one_process: dict, tmp_path: Path, command_line: CommandLine
) -> None:
    (tmp_path / "accumulated.py").write_text(ACCUMULATED)
    words = [tmp_path / "accumulated.py", SCRIPT, *command_line(equal.replace(accumulate=2), inputs, tmp_path / "two")]
    run = programs.run(*words, env=SETTINGS, processes=2).check()
    steps = equal.images // 8  # of the critic; half as many of the generator
    assert run.stdout.count(f"{steps + steps // 2} messages in {steps} steps") == 2
    assert largest_difference(one_process, all_weights(tmp_path / "two")) < 1e-6
