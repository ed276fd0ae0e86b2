"""What training steps do on a GPU, from fake tensors: a case as JSON in, a line of counts as JSON out.

Run it in the environment of machine.py. A case is {"name", "kind": gan, vae or simclr, "preset", "settings"}. Each is
the trainer's own step, on a batch as its loader makes it, with Accelerate's autocast; nothing is computed.
"""

import json
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from ops import OpLog, fake_gpu
from torch._subclasses.fake_tensor import unset_fake_temporarily

from rnagan.config.base import read_preset, resolve
from rnagan.config.gan import GANConfig
from rnagan.config.simclr import SimCLRConfig
from rnagan.config.vae import VAEConfig
from rnagan.data.packed import Packed, Row
from rnagan.data.reader import Batch
from rnagan.losses.beta_vae import VAELoss
from rnagan.models.ema import ExponentialAverage
from rnagan.training.gan import step as gan_step
from rnagan.training.gan.trainer import GANTrainer
from rnagan.training.launch import dtype_of, start
from rnagan.training.run import StepMeans
from rnagan.training.simclr.step import Views
from rnagan.training.simclr.trainer import SimCLRTrainer
from rnagan.training.step_rate import condition_width
from rnagan.training.vae.data import TrainingBatch, _with_draws
from rnagan.training.vae.trainer import VAETrainer

GENES = 500
Step = Callable[[], Any]


def gan(preset: str, settings: dict[str, Any]) -> tuple[Step, int]:
    """The trainer's step on a batch, and how many of them are a round: critic steps for one of the generator."""
    config = resolve(GANConfig, read_preset(GANConfig, preset), {"precision": "bf16"} | settings)
    width, side = condition_width(config), config.resolution
    gan_step.make_backbone = _real(gan_step.make_backbone)
    accelerator = start(config.precision, config.seed, 1)
    networks = gan_step.build_networks(config, width, accelerator)
    trainer = GANTrainer.__new__(GANTrainer)
    vars(trainer).update(config=config, accelerator=accelerator, images=0, steps=0, images_before=0)
    trainer.conditions = torch.zeros(8, width, device=accelerator.device) if width else None
    trainer.average = ExponentialAverage(networks.generator, config.ema_half_life)
    trainer.step = gan_step.build_step(config, width, accelerator, networks)
    trainer.means = StepMeans(gan_step.StepRecord._fields, accelerator)
    of_reader = {"items": Row((side, side, 3), torch.uint8), "places": Row((2,), torch.int64)}

    def step() -> None:
        packed = _from_the_host(trainer.step.draws.packed, trainer.images, config.batch_size, of_reader)
        slides, tiles = packed.field("places").T
        images = packed.field("items").permute(0, 3, 1, 2)
        trainer.means.add(trainer._one_step(Batch(trainer.images, images, slides, tiles, (), packed)))

    return step, config.critic_steps


def vae(preset: str, settings: dict[str, Any]) -> tuple[Step, int]:
    config = resolve(VAEConfig, read_preset(VAEConfig, preset), {"precision": "bf16"} | settings)
    trainer = VAETrainer.__new__(VAETrainer)
    accelerator = start(config.precision, config.seed, 1)
    vars(trainer).update(config=config, accelerator=accelerator, dtype=dtype_of(config.precision), total_steps=9)
    trainer.run = SimpleNamespace(checkpoint=None)  # type: ignore[assignment]
    trainer.transform = SimpleNamespace(genes=[""] * GENES)  # type: ignore[assignment]
    trainer.step = 0
    trainer.means = StepMeans(VAELoss._fields, accelerator, trainer.dtype)
    trainer._set_up()
    z = np.zeros((config.batch_size, GENES), np.float32)

    def step() -> None:
        packed = _from_the_host(lambda: _with_draws(config, trainer.images, z).packed)
        trainer.train_step(TrainingBatch(packed))

    return step, 1


def simclr(preset: str, settings: dict[str, Any]) -> tuple[Step, int]:
    config = resolve(SimCLRConfig, read_preset(SimCLRConfig, preset), {"precision": "bf16"} | settings)
    accelerator = start(config.precision, config.seed, 1)
    run = SimpleNamespace(accelerator=accelerator, checkpoint=None, begin=lambda *_: None)
    order = SimpleNamespace(epoch_length=100)
    trainer = SimCLRTrainer(config, run, None, [], order)  # type: ignore[arg-type]
    x = torch.zeros(2 * config.batch_size, 3, config.resolution, config.resolution)
    return lambda: trainer.train_step(Views(0, x)), 1


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
    """Counts of one round of steps of a case, after one in which optimisers made their moments."""
    with fake_gpu():
        step, steps = {"gan": gan, "vae": vae, "simclr": simclr}[case["kind"]](case["preset"], case["settings"])
        for _ in range(steps):
            step()
        with OpLog() as log:
            for _ in range(steps):
                step()
    return {"name": case["name"], "steps": steps, **log.counts()}


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.stdin.read()))))
