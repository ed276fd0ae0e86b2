"""One GAN step: its networks and optimisers, and the maths of critic and generator. Data, clock and files are the
trainer's."""

import contextlib
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from rnagan.config.gan import GANConfig
from rnagan.data.augment import DiffAugment
from rnagan.data.packed import Packed
from rnagan.losses import hinge, relativistic, wgan_gp
from rnagan.models.conditioning import generator_input
from rnagan.models.critics import Scores, TwoCritics, Views, build_critic
from rnagan.models.feature_critic import FrozenFeatures, frozen_features
from rnagan.models.generators import build_generator
from rnagan.training import deepspeed
from rnagan.training.deepspeed import Prepared
from rnagan.training.gan.draws import StepDraws
from rnagan.training.gradient_norms import GradientNorms
from rnagan.training.image_draws import perturbed, prepared_tiles
from rnagan.training.launch import dtype_of, resolve_precision
from rnagan.training.run import Optimizers


class StepRecord(NamedTuple):
    """Scalars of one step, left on the device; None where the step has no such part.

    wasserstein   mean score of real tiles less that of generated ones, by the critic on pixels: under WGAN-GP its
                  estimate of the distance
    penalty       the critic's penalty, unweighted
    feature_gap   as `wasserstein`, by the critic on features
    generator     the generator's loss
    """

    wasserstein: Tensor | None
    penalty: Tensor | None
    feature_gap: Tensor | None
    generator: Tensor | None


class MicroBatch(NamedTuple):
    """Images `start` … of a step: all of this process's, or a part of them where gradients are accumulated."""

    start: int
    draws: dict[str, Tensor]  # by the names of `StepDraws`
    x_real: Tensor  # (n, 3, H, H) in [-1, 1]
    code: Tensor  # the generator's input
    c: Tensor | None  # (n, condition_width)
    first: bool
    last: bool


class Networks(NamedTuple):
    """Generator and critic of a config, not yet prepared by Accelerate; and the frozen features that the critic's
    second half works on, where the config names a backbone."""

    generator: nn.Module
    critic: TwoCritics
    frozen: FrozenFeatures | None

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint holds of them, by its names there; of frozen features that is their mixing."""
        own: dict[str, nn.Module] = {"generator": self.generator, "critic": self.critic}
        return own if self.frozen is None else own | {"mixing": self.frozen}


def build_networks(config: GANConfig, condition_width: int, accelerator: Accelerator) -> Networks:
    """Networks with fresh weights, in the precision and memory format and on the device of a run."""
    # DeepSpeed lays weights end to end, and takes plain rows only.
    layout = torch.contiguous_format if deepspeed.uses_deepspeed(accelerator) else torch.channels_last

    def placed(network: nn.Module) -> Any:
        return network.to(accelerator.device, dtype_of(config.precision)).to(memory_format=layout)

    if (frozen := frozen_features(config)) is not None:
        frozen = placed(frozen)
    generator = placed(build_generator(config, condition_width))
    return Networks(generator, placed(build_critic(config, condition_width, frozen)), frozen)


def build_step(config: GANConfig, condition_width: int, accelerator: Accelerator, networks: Networks) -> "GANStep":
    """The step that trains networks: with fresh optimisers, prepared for all processes of the run."""
    generator, critic, frozen = networks
    if config.compile:  # in place: the penalty, whose gradient has a gradient, calls the pixels' uncompiled critic
        generator.compile(dynamic=False)
        critic.compile(dynamic=False)
    if config.generator_norm == "batch" and accelerator.num_processes > 1:
        generator = nn.SyncBatchNorm.convert_sync_batchnorm(generator)
    rates = {"pixels": config.critic_lr, "features": config.feature_lr}
    halves = [{"params": list(half.parameters()), "lr": rates[name]} for name, half in critic.named_children()]
    of_generator, of_critic = deepspeed.prepare_each(
        accelerator,
        config.batch_size // accelerator.num_processes,
        {
            "generator": (generator, _adam(generator.parameters(), config.generator_lr, config)),
            "critic": (critic, _adam(halves, config.critic_lr, config)),
        },
        bf16=resolve_precision(config.precision) == "bf16",
    )
    return GANStep(config, of_generator, of_critic, frozen, condition_width)


def _adam(parameters: Any, lr: float, config: GANConfig) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=lr, betas=(config.beta1, config.beta2), fused=True)


class GANStep:
    """One training step on this process's slice of the global batch."""

    def __init__(
        self,
        config: GANConfig,
        generator: Prepared,
        critic: Prepared,
        frozen: FrozenFeatures | None,
        condition_width: int,
    ) -> None:
        self.config, self.frozen, self.draws = config, frozen, StepDraws(config, condition_width)
        self.generator, self.generator_optimizer, self.accelerator = generator
        self.critic, self.critic_optimizer, self.critic_accelerator = critic
        self.raw_generator = deepspeed.unwrapped(self.generator, self.accelerator)
        self.raw_critic: TwoCritics = deepspeed.unwrapped(self.critic, self.accelerator)  # type: ignore[assignment]
        self.dtype = next(self.raw_generator.parameters()).dtype
        # What the frozen network computes in where tensors allow: Accelerate's autocast doesn't reach it.
        self.reduced = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(resolve_precision(config.precision))
        self.gradient_norms = GradientNorms()
        self.every = config.critic_steps

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint holds, by its names there, but for the average."""
        return Networks(self.raw_generator, self.raw_critic, self.frozen).modules

    @property
    def optimizers(self) -> Optimizers:
        return {
            "generator_optimizer": (self.raw_generator, self.generator_optimizer),
            "critic_optimizer": (self.raw_critic, self.critic_optimizer),
        }

    def __call__(
        self, start: int, tiles: Tensor, c: Tensor | None, update_generator: bool, drawn: Packed | None = None
    ) -> StepRecord:
        """Update the critic, and the generator if asked.

        `tiles` (n, 3, H, H) uint8 are images start … start+n−1; `c` (n, condition_width) the condition of each
        tile's own profile, or None in the modes without profiles. `drawn`: what `draws` draws for these images, where
        the tiles are; None has it drawn here and now.
        """
        parts = self._micro_batches(start, tiles, c, drawn)
        alone = len(parts) == 1  # one forward of the generator serves both updates; of several it would fill the memory
        of_critic: list[tuple[Tensor | None, ...]] = []
        of_generator: list[Tensor | None] = []
        for part in parts:
            with self._held_back(self.critic, part):
                x_fake = self._generated(part, with_graph=update_generator and alone)
                maps = self._maps(x_fake, "features/fake", part)
                of_critic.append(self._update_critic(part, x_fake.detach(), maps and [own.detach() for own in maps]))
        for part in parts if update_generator else ():
            with self._held_back(self.generator, part):
                if not alone:
                    x_fake = self._generated(part, with_graph=True)
                    maps = self._maps(x_fake, "features/fake", part)
                of_generator.append(self._update_generator(part, x_fake, maps))
        wasserstein, penalty, feature_gap = (_mean(list(own)) for own in zip(*of_critic, strict=True))
        return StepRecord(wasserstein, penalty, feature_gap, _mean(of_generator))

    def _micro_batches(
        self, start: int, tiles: Tensor, c: Tensor | None, drawn: Packed | None = None
    ) -> list[MicroBatch]:
        """The parts that gradients are accumulated over. Every draw is addressed by image number: none moves."""
        all_draws = self.draws.on(tiles, start, drawn)
        count = self.config.accumulate
        size, parts = len(tiles) // count, []
        for k in range(count):
            own = slice(k * size, (k + 1) * size)
            draws = {name: values[own] for name, values in all_draws.items()}
            shown = None if c is None else perturbed(c[own], draws, self.config.condition_noise)
            x_real = self._prepared(tiles[own], draws)
            code = generator_input(self.config, shown, draws["noise"])
            parts.append(MicroBatch(start + k * size, draws, x_real, code, shown, first=k == 0, last=k == count - 1))
        return parts

    def _held_back(self, network: nn.Module, part: MicroBatch) -> contextlib.AbstractContextManager:
        """Processes tell one another their gradients once a step, with the last micro-batch."""
        return contextlib.nullcontext() if part.last else self.accelerator.no_sync(network)

    def _generated(self, part: MicroBatch, with_graph: bool) -> Tensor:
        # DDP's messages are for the backward alone; DeepSpeed may have to fetch weights for the forward.
        network = self.generator if with_graph or deepspeed.uses_deepspeed(self.accelerator) else self.raw_generator
        with torch.set_grad_enabled(with_graph):
            return network(part.code).to(self.dtype)

    def _prepared(self, tiles: Tensor, draws: dict[str, Tensor]) -> Tensor:
        """uint8 tiles → augmented tiles in [-1, 1]."""
        config = self.config
        return prepared_tiles(tiles, draws, self.dtype, config.flips, config.quarter_turns, config.colour_jitter)

    def _update_critic(
        self, part: MicroBatch, x_fake: Tensor, maps_fake: list[Tensor] | None
    ) -> tuple[Tensor | None, ...]:
        """The critic's step; a `StepRecord`'s figures of it."""
        config, critic = self.config, self.raw_critic
        critic.requires_grad_(True)
        if critic.features is not None:  # spectral norm's estimates move once a step
            critic.features.train(part.first)
        shown = part.c if config.conditional else None
        real = Views(self._pixels(part.x_real, "augment/real", part), self._maps(part.x_real, "features/real", part))
        fake = Views(self._pixels(x_fake, "augment/fake", part), maps_fake)
        score_real, score_fake = self._scores(real, fake, shown)
        loss = self._critic_loss(score_real, score_fake)
        penalty = None
        if config.penalty_step == "separate":  # the released code: two optimiser steps
            self._descend(loss, self.critic_optimizer)
            penalty = self._penalty(real, fake, shown, part)
            self._descend(config.penalty_weight * penalty, self.critic_optimizer)
        else:
            if critic.pixels is not None:
                penalty = self._penalty(real, fake, shown, part)
                loss = loss + config.penalty_weight * penalty
            # One backward for scores and penalty: two would leave DDP's reducer half-way.
            self._descend(loss, self.critic_optimizer, part.first, part.last)
        penalty = None if penalty is None else penalty.detach()
        return _gap(score_real.pixels, score_fake.pixels), penalty, _gap(score_real.features, score_fake.features)

    def _pixels(self, x: Tensor, purpose: str, part: MicroBatch) -> Tensor | None:
        """What the critic on pixels sees of tiles; None where there is none."""
        return None if self.raw_critic.pixels is None else self._augmented(x, purpose, part)

    def _maps(self, x: Tensor, purpose: str, part: MicroBatch) -> list[Tensor] | None:
        """What the critic on features sees of tiles; None where there is none."""
        if self.frozen is None:
            return None
        with torch.autocast(x.device.type, self.reduced, enabled=self.reduced is not None):
            return self.frozen(self._augmented(x, purpose, part))

    def _augmented(self, x: Tensor, purpose: str, part: MicroBatch) -> Tensor:
        if purpose not in part.draws:
            return x
        return DiffAugment(*part.draws[purpose].split(2, dim=1))(x)

    def _scores(self, real: Views, fake: Views, c: Tensor | None) -> tuple[Scores, Scores]:
        if self.config.critic_norm == "batch":  # statistics of real and generated tiles stay apart, as released
            return self.critic(real, c), self.critic(fake, c)
        pixels = None if real.pixels is None or fake.pixels is None else torch.cat([real.pixels, fake.pixels])
        maps = None
        if real.maps is not None and fake.maps is not None:
            maps = [torch.cat(both) for both in zip(real.maps, fake.maps, strict=True)]
        found = self.critic(Views(pixels, maps), None if c is None else torch.cat([c, c]))
        halves = [(None, None) if both is None else both.chunk(2) for both in found]
        return Scores(*(half[0] for half in halves)), Scores(*(half[1] for half in halves))

    def _critic_loss(self, real: Scores, fake: Scores) -> Tensor:
        """The sum of both halves' losses, without penalties."""
        of_pixels = relativistic if self.config.pixel_loss == "relativistic" else wgan_gp
        losses = []
        if real.pixels is not None and fake.pixels is not None:
            losses.append(of_pixels.critic_loss(real.pixels, fake.pixels))
        if real.features is not None and fake.features is not None:
            losses.append(hinge.critic_loss(real.features, fake.features))
        return torch.stack(losses).sum()

    def _penalty(self, real: Views, fake: Views, c: Tensor | None, part: MicroBatch) -> Tensor:
        """The penalty of the critic on pixels, in its own precision, whatever that of the scores."""
        config, critic = self.config, self.raw_critic.pixels
        assert critic is not None and real.pixels is not None and fake.pixels is not None
        every = config.penalty_every
        paying = slice(-part.start % every, None, every)  # by image number, on any process
        x_real, x_fake, c = real.pixels[paying], fake.pixels[paying], None if c is None else c[paying]
        # BatchNorm isn't linear in pieces; and in a step of its own Adam moves what has a gradient, be it of zeros.
        is_plain = config.critic_norm == "batch" or config.penalty_step == "separate"
        twice = None if is_plain else config.penalty_precision

        def score(x: Tensor, c: Tensor | None) -> Tensor:
            return critic(x, c, twice)  # the half itself: Accelerate has wrapped the whole critic in autocast

        if config.pixel_loss == "relativistic":
            both = None if c is None else torch.cat([c, c])  # (R1 + R2) / 2 is the mean over real and generated tiles
            return relativistic.zero_centred_penalty(score, torch.cat([x_real, x_fake]), both)
        x_hat = wgan_gp.interpolate(x_real, x_fake, part.draws["epsilon"][paying])
        return wgan_gp.gradient_penalty(score, x_hat, c, config.penalty_norm)

    def _update_generator(self, part: MicroBatch, x_fake: Tensor, maps: list[Tensor] | None) -> Tensor:
        config, critic = self.config, self.raw_critic
        critic.requires_grad_(False)  # its gradients would be wasted, and wrong under ZeRO
        if critic.features is not None:
            critic.features.eval()
        shown = part.c if config.conditional else None
        score = critic(Views(self._pixels(x_fake, "augment/generator", part), maps), shown)
        losses = []
        if config.pixel_loss == "relativistic":
            with torch.no_grad():
                x_real = self._pixels(part.x_real, "augment/real", part)
                score_real = critic(Views(x_real, None), shown).pixels
            losses.append(config.pixel_weight * relativistic.generator_loss(score_real, score.pixels))
        elif config.pixel_loss == "wgan_gp":
            losses.append(config.pixel_weight * wgan_gp.generator_loss(score.pixels))
        if score.features is not None:
            losses.append(config.feature_weight * hinge.generator_loss(score.features))
        loss = torch.stack(losses).sum()
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


def _gap(real: Tensor | None, fake: Tensor | None) -> Tensor | None:
    """Mean score of real tiles less that of generated ones."""
    return None if real is None or fake is None else (real.float().mean() - fake.float().mean()).detach()


def _mean(scalars: list[Tensor | None]) -> Tensor | None:
    """The mean of a figure over micro-batches, all of which have it, or none."""
    there = [scalar for scalar in scalars if scalar is not None]
    return torch.stack(there).mean() if there else None
