"""One GAN step: its networks and optimisers, and the maths of critic and generator. Data, clock and files are the
trainer's."""

import contextlib
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from rnagan.config.gan import GANConfig
from rnagan.data.augment import colour_jitter, draw_diffaugment, flip_and_turn
from rnagan.losses.wgan_gp import critic_loss, generator_loss, gradient_penalty, interpolate
from rnagan.models.conditioning import draw_noise, generator_input
from rnagan.models.critics import build_critic
from rnagan.models.generators import build_generator
from rnagan.runtime import rng
from rnagan.training import deepspeed
from rnagan.training.deepspeed import Prepared
from rnagan.training.launch import dtype_of, resolve_precision


class GradientNorms:
    """Mean Euclidean norm of all gradients of a network, by name, over its optimiser's steps since the last row.

    Under DDP every process has the same, averaged gradients. DeepSpeed keeps gradients to itself: there is none to look
    at, and no row.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.steps: dict[str, int] = {}

    @torch.no_grad()
    def add(self, name: str, optimizer: torch.optim.Optimizer) -> None:
        """Count one step, right before it is made. No host sync."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if gradients:
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)).float())
            self.sums[name] = self.sums[name] + norm if name in self.sums else norm
            self.steps[name] = self.steps.get(name, 0) + 1

    def reduce(self, accelerator: Accelerator) -> dict[str, float]:
        """`gradient_norm/NAME` by name, a mean over steps and processes; starts new sums."""
        row = {
            f"gradient_norm/{name}": accelerator.reduce(self.sums[name], "mean").item() / self.steps[name]
            for name in sorted(self.sums)
        }
        self.sums, self.steps = {}, {}
        return row


class StepRecord(NamedTuple):
    """Scalars of one step, left on the device. `generator` is None in a step without a generator update."""

    wasserstein: Tensor
    penalty: Tensor
    generator: Tensor | None


class MicroBatch(NamedTuple):
    """Images `start` … of a step: all of this process's, or a part of them where gradients are accumulated."""

    start: int
    x_real: Tensor  # (n, 3, H, H) in [-1, 1]
    code: Tensor  # the generator's input
    c: Tensor | None  # (n, condition_width)
    first: bool
    last: bool


class Networks(NamedTuple):
    """Generator and critic of a config, not yet prepared by Accelerate."""

    generator: nn.Module
    critic: nn.Module


def build_networks(config: GANConfig, condition_width: int, accelerator: Accelerator) -> Networks:
    """Networks with fresh weights, in the precision and memory format and on the device of a run."""
    # DeepSpeed lays weights end to end, and takes plain rows only.
    layout = torch.contiguous_format if deepspeed.uses_deepspeed(accelerator) else torch.channels_last
    generator, critic = (
        build(config, condition_width).to(accelerator.device, dtype_of(config.precision)).to(memory_format=layout)
        for build in (build_generator, build_critic)
    )
    return Networks(generator, critic)


def build_step(config: GANConfig, condition_width: int, accelerator: Accelerator, networks: Networks) -> "GANStep":
    """The step that trains networks: with fresh optimisers, prepared for all processes of the run."""
    generator, critic = networks
    if config.compile:  # in place: the penalty, whose gradient has a gradient, calls the class's uncompiled forward
        generator.compile()
        critic.compile()
    if config.generator_norm == "batch" and accelerator.num_processes > 1:
        generator = nn.SyncBatchNorm.convert_sync_batchnorm(generator)
    of_generator, of_critic = deepspeed.prepare_each(
        accelerator,
        config.batch_size // accelerator.num_processes,
        {
            "generator": (generator, _adam(generator, config.generator_lr, config)),
            "critic": (critic, _adam(critic, config.critic_lr, config)),
        },
        bf16=resolve_precision(config.precision) == "bf16",
    )
    return GANStep(config, of_generator, of_critic, condition_width)


def _adam(module: nn.Module, lr: float, config: GANConfig) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), lr=lr, betas=(config.beta1, config.beta2), fused=True)


class GANStep:
    """One training step on this process's slice of the global batch."""

    def __init__(self, config: GANConfig, generator: Prepared, critic: Prepared, condition_width: int) -> None:
        self.config, self.condition_width = config, condition_width
        self.generator, self.generator_optimizer, self.accelerator = generator
        self.critic, self.critic_optimizer, self.critic_accelerator = critic
        self.raw_generator = deepspeed.unwrapped(self.generator, self.accelerator)
        self.raw_critic = deepspeed.unwrapped(self.critic, self.accelerator)
        self.dtype = next(self.raw_generator.parameters()).dtype
        self.gradient_norms = GradientNorms()

    def __call__(self, start: int, tiles: Tensor, c: Tensor | None, update_generator: bool) -> StepRecord:
        """Update the critic, and the generator if asked.

        `tiles` (n, 3, H, H) uint8 are images start … start+n−1; `c` (n, condition_width) the condition of each
        tile's own profile, or None in the modes without profiles.
        """
        parts = self._micro_batches(start, tiles, c)
        alone = len(parts) == 1  # one forward of the generator serves both updates; of several it would fill the memory
        of_critic, of_generator = [], []
        for part in parts:
            with self._held_back(self.critic, part):
                x_fake = self._generated(part, with_graph=update_generator and alone)
                of_critic.append(torch.stack(self._update_critic(part, x_fake.detach())))
        for part in parts if update_generator else ():
            with self._held_back(self.generator, part):
                of_generator.append(self._update_generator(part, x_fake if alone else self._generated(part, True)))
        wasserstein, penalty = torch.stack(of_critic).mean(dim=0)
        return StepRecord(wasserstein, penalty, torch.stack(of_generator).mean() if update_generator else None)

    def _micro_batches(self, start: int, tiles: Tensor, c: Tensor | None) -> list[MicroBatch]:
        """The parts that gradients are accumulated over. Every draw is addressed by image number: none moves."""
        count = self.config.accumulate
        size, parts = len(tiles) // count, []
        for k in range(count):
            begin, own = start + k * size, slice(k * size, (k + 1) * size)
            shown = None if c is None else self._perturbed(c[own], begin)
            x_real = self._prepared(tiles[own], begin)
            noise = draw_noise(self.config, "noise", begin, size, self.condition_width, self.config.seed)
            code = generator_input(self.config, shown, noise.to(x_real))
            parts.append(MicroBatch(begin, x_real, code, shown, first=k == 0, last=k == count - 1))
        return parts

    def _held_back(self, network: nn.Module, part: MicroBatch) -> contextlib.AbstractContextManager:
        """Processes tell one another their gradients once a step, with the last micro-batch."""
        return contextlib.nullcontext() if part.last else self.accelerator.no_sync(network)

    def _generated(self, part: MicroBatch, with_graph: bool) -> Tensor:
        # DDP's messages are for the backward alone; DeepSpeed may have to fetch weights for the forward.
        network = self.generator if with_graph or deepspeed.uses_deepspeed(self.accelerator) else self.raw_generator
        with torch.set_grad_enabled(with_graph):
            return network(part.code).to(self.dtype)

    def _perturbed(self, c: Tensor, start: int) -> Tensor:
        """The condition with its training noise; generator and critic see the same."""
        if not self.config.condition_noise or self.config.condition != "bottleneck":
            return c
        noise = rng.normal(self.config.seed, "condition", start, len(c), c.shape[1])
        return c + self.config.condition_noise * torch.from_numpy(noise).to(c)

    def _prepared(self, tiles: Tensor, start: int) -> Tensor:
        """uint8 tiles → augmented tiles in [-1, 1]."""
        config = self.config
        x = tiles.to(self.dtype).div_(127.5).sub_(1)
        x = flip_and_turn(x, config.seed, start, flips=config.flips, turns=config.quarter_turns)
        return colour_jitter(x, config.seed, start, config.colour_jitter) if config.colour_jitter else x

    def _augmented(self, x: Tensor, purpose: str, start: int) -> Tensor:
        if self.config.diffaugment == "none":
            return x
        return draw_diffaugment(self.config.seed, purpose, start, len(x), x.shape[-1])(x)

    def _update_critic(self, part: MicroBatch, x_fake: Tensor) -> tuple[Tensor, Tensor]:
        config, start = self.config, part.start
        self.raw_critic.requires_grad_(True)
        shown = part.c if config.conditional else None
        x_real = self._augmented(part.x_real, "augment/real", start)
        x_fake = self._augmented(x_fake, "augment/fake", start)
        epsilon = torch.from_numpy(rng.uniform(config.seed, "epsilon", start, len(x_real), 1)).to(x_real)
        paying = slice(-start % config.penalty_every, None, config.penalty_every)  # by image number, on any process
        x_hat = interpolate(x_real[paying], x_fake[paying], epsilon[paying])
        penalised = shown if shown is None else shown[paying]
        score_real, score_fake = self._scores(x_real, x_fake, shown)
        if config.penalty_step == "separate":  # the released code: two optimiser steps
            loss = critic_loss(score_real, score_fake, torch.zeros_like(score_real.mean()), 0.0)
            self._descend(loss.total, self.critic_optimizer)
            penalty = self._penalty(x_hat, penalised)
            self._descend(config.penalty_weight * penalty, self.critic_optimizer)
            return loss.wasserstein, penalty.detach()
        # One backward for scores and penalty: two would leave DDP's reducer half-way.
        loss = critic_loss(score_real, score_fake, self._penalty(x_hat, penalised), config.penalty_weight)
        self._descend(loss.total, self.critic_optimizer, part.first, part.last)
        return loss.wasserstein, loss.penalty

    def _scores(self, x_real: Tensor, x_fake: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.config.critic_norm == "batch":  # statistics of real and generated tiles stay apart, as released
            return self.critic(x_real, c), self.critic(x_fake, c)
        both = None if c is None else torch.cat([c, c])
        real, fake = self.critic(torch.cat([x_real, x_fake]), both).chunk(2)
        return real, fake

    def _penalty(self, x_hat: Tensor, c: Tensor | None) -> Tensor:
        """The gradient penalty in full precision, whatever the precision of the scores."""

        def full_precision(x: Tensor, condition: Tensor | None) -> Tensor:
            # The class's forward: Accelerate has wrapped the instance's in autocast, which would reach inside.
            return type(self.raw_critic).forward(self.raw_critic, x, condition)

        return gradient_penalty(full_precision, x_hat, c, self.config.penalty_norm)

    def _update_generator(self, part: MicroBatch, x_fake: Tensor) -> Tensor:
        self.raw_critic.requires_grad_(False)  # its gradients would be wasted, and wrong under ZeRO
        x = self._augmented(x_fake, "augment/generator", part.start)
        loss = generator_loss(self.raw_critic(x, part.c if self.config.conditional else None))
        self._descend(loss, self.generator_optimizer, part.first, part.last)
        return loss.detach()

    def _descend(self, loss: Tensor, optimizer: torch.optim.Optimizer, first: bool = True, last: bool = True) -> None:
        """A step down the mean of the losses from the `first` to the `last` micro-batch."""
        accelerator = self.critic_accelerator if optimizer is self.critic_optimizer else self.accelerator
        if first:
            optimizer.zero_grad()
        accelerator.backward(loss / self.config.accumulate)
        if last:
            if accelerator.scaler is None:  # fp16's are scaled, and may be infinite in a step that it then leaves out
                self.gradient_norms.add("critic" if optimizer is self.critic_optimizer else "generator", optimizer)
            optimizer.step()
