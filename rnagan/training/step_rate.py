"""How fast training steps are on this machine: steps of a config on tiles and profiles that are made up.

The doctor predicts the time of a run from it, and a reproduction its cost.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from rnagan.config.gan import GANConfig
from rnagan.config.vae import VAEConfig
from rnagan.data.packed import Row
from rnagan.losses.beta_vae import vae_loss
from rnagan.models.resnet import build_backbone
from rnagan.models.section_stain import STAINS
from rnagan.models.vae import BetaVAE
from rnagan.training.gan.step import StepRecord, build_networks, build_step
from rnagan.training.launch import start

COUNTED_SECONDS = 4.0  # of a measurement of the GAN's step that count, at most, but for one round


class TrainingStep:
    """The GAN trainer's step with fresh networks of a config, on this process's device.

    `precision`: what `config.precision` means here, as Accelerate has it (no, bf16). Nothing is compiled unless
    `compiled`: that takes longer than a measurement.
    """

    def __init__(self, config: GANConfig, condition_width: int, compiled: bool = False) -> None:
        self.accelerator = accelerator = start(config.precision, config.seed, config.threads, two_networks=True)
        self.config, self.condition_width = config, condition_width
        self.device, self.precision = accelerator.device, accelerator.mixed_precision
        networks = build_networks(config, condition_width, accelerator)
        with _quiet():
            self._step = build_step(config.replace(compile=compiled), condition_width, accelerator, networks)

    def __call__(self, number: int, tiles: Tensor, c: Tensor | None) -> StepRecord:
        """Step `number` of a run, on tiles (n, 3, H, H) uint8 and their conditions (n, condition_width)."""
        generator_too = number % self.config.critic_steps == self.config.critic_steps - 1
        start, step, count = number * len(tiles), self._step, len(tiles)
        rows = {"tiles": Row((*tiles.shape[2:], 3), torch.uint8)}
        if c is not None:
            rows["c"] = Row((c.shape[1],), step.dtype)
        packed = step.draws.packed(start, count, rows, pin_memory=self.device.type == "cuda")
        packed.field("tiles").copy_(tiles.permute(0, 2, 3, 1))
        if c is not None:
            packed.field("c").copy_(c)
        packed = packed.to(self.device)  # as the loader's threads prepare a batch, and the trainer copies it
        tiles, c = packed.field("tiles").permute(0, 3, 1, 2), None if c is None else packed.field("c")
        return step(start, tiles, c, generator_too, packed)

    @property
    def module(self) -> nn.Module:
        """The generator as Accelerate has wrapped it."""
        return self._step.generator

    @property
    def networks(self) -> tuple[nn.Module, nn.Module]:
        """Generator and critic, as they are now."""
        return self._step.raw_generator, self._step.raw_critic

    def batch(self, batch_size: int) -> tuple[Tensor, Tensor | None]:
        """Made-up tiles and conditions for a step."""
        side = self.config.resolution
        tiles = torch.randint(0, 256, (batch_size, 3, side, side), dtype=torch.uint8)
        return tiles, torch.randn(batch_size, self.condition_width) if self.config.mode == "rnagan" else None

    def seconds(self, batch_size: int, rounds: int = 1) -> float:
        """Time of `rounds` rounds, each of `critic_steps` critic steps and a generator step."""
        tiles, c = self.batch(batch_size)
        self._finish()
        began = time.perf_counter()
        for number in range(rounds * self.config.critic_steps):
            self(number, tiles, c)
        self._finish()
        return time.perf_counter() - began

    def _finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def condition_width(config: GANConfig) -> int:
    """Width of the condition where the β-VAE has its default latent, with as many active units as may pass."""
    if config.mode != "rnagan":
        return 0
    units = config.condition_units if config.condition == "bottleneck" else VAEConfig().latent
    return units + len(STAINS) * (config.nuisance == "section_stain")


def measure(step: TrainingStep, seconds: float) -> tuple[int, float]:
    """Batch size, the config's if `seconds` suffice for it, and images a second; a first round isn't counted."""
    began = time.perf_counter()
    step.seconds(2)
    batch_size, a_round = 2, step.seconds(2)
    while batch_size < step.config.batch_size:
        larger = min(4 * batch_size, step.config.batch_size)
        if 2 * a_round * larger / batch_size > seconds - (time.perf_counter() - began):
            break
        batch_size, a_round = larger, step.seconds(larger)
    left = min(COUNTED_SECONDS, seconds - (time.perf_counter() - began))
    rounds = max(1, int(left / a_round))
    return batch_size, rounds * batch_size * step.config.critic_steps / step.seconds(batch_size, rounds)


def vae_step(config: VAEConfig, genes: int, device: torch.device) -> Callable[[], int]:
    """A step of a β-VAE on a batch of noise; it returns how many profiles went through it."""
    network = BetaVAE(genes, config).to(device)
    x, eps = (torch.randn(config.batch_size, width, device=device) for width in (genes, config.latent))

    def loss() -> Tensor:
        out = network(x, eps)
        return vae_loss(x, out.x_recon, out.mu, out.logvar, config.beta).total

    return plain_step(network, loss, config.batch_size)


def backbone_step(name: str, norm: str, side: int, batch_size: int, device: torch.device) -> Callable[[], int]:
    """A step of a ResNet on a batch of noise, of so many tiles or views; it returns how many went through it."""
    network, _ = build_backbone(name, norm, 0)
    network = network.to(device).to(memory_format=torch.channels_last)
    x = torch.randn(batch_size, 3, side, side, device=device).to(memory_format=torch.channels_last)
    return plain_step(network, lambda: network(x).square().mean(), batch_size)


def items_a_second(step: Callable[[], int], seconds: float) -> float:
    """Of a step that returns how many items went through it; the first call isn't counted."""
    step()
    began, items = time.perf_counter(), 0
    while True:
        items += step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if (passed := time.perf_counter() - began) > seconds:
            return items / passed


def plain_step(network: nn.Module, loss: Callable[[], Tensor], count: int) -> Callable[[], int]:
    """A step of AdamW down `loss`, which returns `count`."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5)

    def step() -> int:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        return count

    return step


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings in logs: DeepSpeed, which Accelerate imports, warns on every machine without a GPU."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
