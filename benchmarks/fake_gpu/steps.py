"""What training steps do on a GPU, from fake tensors: cases as JSON in, a line of counts as JSON out for each.

Run it in the environment of machine.py. A case is {"name", "kind": gan, vae or simclr, "preset", "settings", and
"processes" where it is one of two}. Each is the trainer's own step, on a batch as its loader makes it, with
Accelerate's autocast; nothing is computed. Each has a process of its own, forked when all is imported.
"""

import json
import math
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from ops import OpLog, fake_gpu
from peers import join_a_peer
from torch._subclasses.fake_tensor import unset_fake_temporarily

from rnagan.config.base import read_preset, resolve
from rnagan.config.gan import GANConfig
from rnagan.config.simclr import SimCLRConfig
from rnagan.config.vae import VAEConfig
from rnagan.data.packed import Layout, Packed, Row
from rnagan.data.reader import Batch
from rnagan.losses.beta_vae import VAELoss
from rnagan.models import feature_critic
from rnagan.models.backbones import make_backbone
from rnagan.models.ema import ExponentialAverage
from rnagan.training.gan import step as gan_step
from rnagan.training.launch import dtype_of, start
from rnagan.training.run import StepMeans, StopSignal, TrainingRun
from rnagan.training.simclr.trainer import SimCLRTrainer
from rnagan.training.simclr.views import TwoViews
from rnagan.training.step_rate import condition_width
from rnagan.training.tile_trainer import TileTrainer
from rnagan.training.vae.data import TrainingBatch, _with_draws
from rnagan.training.vae.trainer import VAETrainer

GENES = 500


class Trained(NamedTuple):
    """`step`, on a batch; `steps` of them are a round: critic steps for one of the generator. `log` is what a trainer
    does between steps: means over processes into a row, weights and signals looked at."""

    step: Callable[[], Any]
    steps: int
    log: Callable[[], Any]


def gan(preset: str, settings: dict[str, Any]) -> Trained:
    config = resolve(GANConfig, read_preset(GANConfig, preset), {"precision": "bf16"} | settings)
    width, side = condition_width(config), config.resolution
    feature_critic.make_backbone = _real(make_backbone)
    accelerator = start(config.precision, config.seed, 1)
    networks = gan_step.build_networks(config, width, accelerator)
    trainer = TileTrainer.__new__(TileTrainer)
    vars(trainer).update(config=config, accelerator=accelerator, run=_run(accelerator))
    vars(trainer).update(images=0, steps=0, images_before=0, validation=None)
    trainer.data = SimpleNamespace(order=SimpleNamespace(epoch_length=1))  # type: ignore[assignment]
    trainer.conditions = torch.zeros(8, width, device=accelerator.device) if width else None
    trainer.average = ExponentialAverage(networks.generator, config.ema_half_life)
    trainer.step = gan_step.build_step(config, width, accelerator, networks)
    trainer.means = StepMeans(gan_step.StepRecord._fields, accelerator)
    of_reader = {"items": Row((side, side, 3), torch.uint8), "places": Row((2,), torch.int64)}
    share = config.batch_size // accelerator.num_processes

    def step() -> None:
        packed = _from_the_host(trainer.step.draws.packed, trainer.images, share, of_reader)
        slides, tiles = packed.field("places").T
        images = packed.field("items").permute(0, 3, 1, 2)
        trainer.means.add(trainer._one_step(Batch(trainer.images, images, slides, tiles, (), packed)))

    return Trained(step, config.critic_steps, _logging(accelerator, trainer._log_means))


def vae(preset: str, settings: dict[str, Any]) -> Trained:
    config = resolve(VAEConfig, read_preset(VAEConfig, preset), {"precision": "bf16"} | settings)
    trainer = VAETrainer.__new__(VAETrainer)
    accelerator = start(config.precision, config.seed, 1)
    vars(trainer).update(config=config, accelerator=accelerator, dtype=dtype_of(config.precision), total_steps=9)
    trainer.run = _run(accelerator)
    trainer.transform = SimpleNamespace(genes=[""] * GENES)  # type: ignore[assignment]
    trainer.step = trainer.best_step = 0
    trainer.best_loss = -math.inf
    trainer.x_validation = torch.zeros(8, GENES, device=accelerator.device)
    trainer.validation_eps = torch.zeros(8, config.latent, device=accelerator.device)
    trainer.means = StepMeans(VAELoss._fields, accelerator, trainer.dtype)
    trainer._first_profiles = lambda: np.zeros((2, GENES), np.float32)  # type: ignore[method-assign]
    trainer._set_up()
    z = np.zeros((config.batch_size // accelerator.num_processes, GENES), np.float32)

    def step() -> None:
        packed = _from_the_host(lambda: _with_draws(config, trainer.images, z).packed)
        trainer.train_step(TrainingBatch(packed))

    return Trained(step, 1, _logging(accelerator, trainer._evaluate))


def simclr(preset: str, settings: dict[str, Any]) -> Trained:
    config = resolve(SimCLRConfig, read_preset(SimCLRConfig, preset), {"precision": "bf16"} | settings)
    accelerator = start(config.precision, config.seed, 1)
    order = SimpleNamespace(epoch_length=100)
    trainer = SimCLRTrainer(config, _run(accelerator), None, [], order)  # type: ignore[arg-type]
    layout = Layout(config.batch_size // accelerator.num_processes, TwoViews(config, config.resolution).rows)
    nothing, packed = torch.empty(0), Packed.empty(layout)
    batch = Batch(0, nothing, nothing, nothing, (), packed)
    return Trained(lambda: trainer.train_step(batch), 1, _logging(accelerator, trainer._log_means))


def _run(accelerator: Accelerator) -> TrainingRun:
    """A run without a folder: nothing is written."""
    run = TrainingRun.__new__(TrainingRun)
    damaged = SimpleNamespace(count=0, of_all=set)
    vars(run).update(folder=Path("nowhere"), accelerator=accelerator, checkpoint=None, unit="images")
    vars(run).update(row=lambda *_: None, corrupt_tiles=damaged, throughput=SimpleNamespace(row=lambda images: {}))
    vars(run).update(begin=lambda *_: None)
    return run


def _logging(accelerator: Accelerator, write_row: Callable[[], Any]) -> Callable[[], None]:
    def log() -> None:
        write_row()
        StopSignal(accelerator).is_set(0)

    return log


def _real(make: Callable[[str], Any]) -> Callable[[str], Any]:
    """A function whose tensors are real: a backbone's weights are read, checked and folded before they become fake."""

    def made(name: str) -> Any:
        with unset_fake_temporarily():
            return make(name)

    return made


def _from_the_host(make: Callable[..., Packed], *arguments: Any) -> Packed:
    """What NumPy draws, really; it is then in fake memory of the host."""
    with unset_fake_temporarily():
        made = make(*arguments)
    return made._replace(memory=torch.empty(made.memory.shape, dtype=made.memory.dtype))


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """Counts of one round of steps of a case, after one in which optimisers made their moments.

    Of one of two processes: of the start, the first step and the row after it.
    """
    make = {"gan": gan, "vae": vae, "simclr": simclr}[case["kind"]]
    with fake_gpu():
        if case.get("processes", 1) > 1:
            join_a_peer()
            with OpLog() as log:
                trained = make(case["preset"], case["settings"])
                trained.step()
                trained.log()
            return {"name": case["name"], "steps": 1, **log.counts()}
        trained = make(case["preset"], case["settings"])
        for _ in range(trained.steps):
            trained.step()
        with OpLog() as log:
            for _ in range(trained.steps):
                trained.step()
    return {"name": case["name"], "steps": trained.steps, **log.counts()}


def measure_apart(case: dict[str, Any]) -> None:
    """Measure in a process of its own, which prints the line. Raises `ChildProcessError` where it fails."""
    child = os.fork()
    if not child:
        try:
            print(json.dumps(measure(case)), flush=True)
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ended:
        raise ChildProcessError(f"{case['name']} ended with {ended}")


if __name__ == "__main__":
    for each in json.loads(sys.stdin.read()):
        measure_apart(each)
