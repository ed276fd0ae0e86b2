"""The maths of one GAN step: critic, then (every few steps) the generator. Data, clock and files are the trainer's."""

from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from rnagan import rng
from rnagan.config import GANConfig
from rnagan.data.augment import colour_jitter, draw_diffaugment, flip_and_turn
from rnagan.losses.wgan import critic_loss, generator_loss, gradient_penalty, interpolate
from rnagan.models.condition import draw_noise, generator_input
from rnagan.training.gradient_norms import GradientNorms


class StepRecord(NamedTuple):
    """Scalars of one step, left on the device. `generator` is None in a step without a generator update."""

    wasserstein: Tensor
    penalty: Tensor
    generator: Tensor | None


class GANStep:
    """One training step on this process's slice of the global batch.

    `generator`, `critic` and their optimisers are what `Accelerator.prepare` returned.
    """

    def __init__(
        self,
        config: GANConfig,
        accelerator: Accelerator,
        generator: nn.Module,
        critic: nn.Module,
        generator_optimizer: torch.optim.Optimizer,
        critic_optimizer: torch.optim.Optimizer,
        condition_width: int,
    ) -> None:
        self.config, self.accelerator = config, accelerator
        self.generator, self.critic = generator, critic
        self.generator_optimizer, self.critic_optimizer = generator_optimizer, critic_optimizer
        self.raw_generator = accelerator.unwrap_model(generator)
        self.raw_critic = accelerator.unwrap_model(critic)
        self.condition_width = condition_width
        self.dtype = next(self.raw_generator.parameters()).dtype
        self.gradient_norms = GradientNorms()

    def __call__(self, start: int, tiles: Tensor, c: Tensor | None, update_generator: bool) -> StepRecord:
        """Update the critic, and the generator if asked.

        `tiles` (n, 3, H, H) uint8 are images start … start+n−1; `c` (n, condition_width) the condition of each
        tile's own profile, or None in the modes without profiles.
        """
        c = self._perturbed(c, start)
        x_real = self._prepared(tiles, start)
        noise = draw_noise(self.config, "noise", start, len(tiles), self.condition_width, self.config.seed)
        code = generator_input(self.config, c, noise.to(x_real))
        if update_generator:
            x_fake = self.generator(code).to(self.dtype)
        else:
            with torch.no_grad():
                x_fake = self.raw_generator(code).to(self.dtype)
        wasserstein, penalty = self._update_critic(start, x_real, x_fake.detach(), c)
        adversarial = self._update_generator(start, x_fake, c) if update_generator else None
        return StepRecord(wasserstein, penalty, adversarial)

    def _perturbed(self, c: Tensor | None, start: int) -> Tensor | None:
        """The condition with its training noise; generator and critic see the same."""
        if c is None or not self.config.condition_noise or self.config.condition != "bottleneck":
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

    def _update_critic(self, start: int, x_real: Tensor, x_fake: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
        config = self.config
        self.raw_critic.requires_grad_(True)
        shown = c if config.conditional else None
        x_real, x_fake = self._augmented(x_real, "augment/real", start), self._augmented(x_fake, "augment/fake", start)
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
        self._descend(loss.total, self.critic_optimizer)
        return loss.wasserstein, loss.penalty

    def _scores(self, x_real: Tensor, x_fake: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.config.critic_norm == "batch":  # statistics of real and painted tiles stay apart, as released
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

    def _update_generator(self, start: int, x_fake: Tensor, c: Tensor | None) -> Tensor:
        self.raw_critic.requires_grad_(False)  # its gradients would be wasted, and wrong under ZeRO
        x = self._augmented(x_fake, "augment/generator", start)
        loss = generator_loss(self.raw_critic(x, c if self.config.conditional else None))
        self._descend(loss, self.generator_optimizer)
        return loss.detach()

    def _descend(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.gradient_norms.add("critic" if optimizer is self.critic_optimizer else "generator", optimizer)
        optimizer.step()
