"""One step of a flow: its network and optimiser, and the loss on the velocity. Data, clock and files are the
trainer's."""

from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from rnagan.config.flow import FlowConfig
from rnagan.data.packed import Packed
from rnagan.models.flow import FlowNetwork, build_network, flow_loss, times_of, to_grid
from rnagan.training import deepspeed
from rnagan.training.deepspeed import Prepared
from rnagan.training.flow.draws import FlowDraws
from rnagan.training.gradient_norms import GradientNorms
from rnagan.training.image_draws import perturbed, prepared_tiles
from rnagan.training.launch import dtype_of
from rnagan.training.run import Optimizers


class StepRecord(NamedTuple):
    """Scalars of one step, left on the device: mean squared error of the velocity."""

    loss: Tensor


class Networks(NamedTuple):
    """The network of a config, not yet prepared by Accelerate."""

    generator: FlowNetwork

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"generator": self.generator}


def build_networks(config: FlowConfig, condition_width: int, accelerator: Accelerator) -> Networks:
    """The network with fresh weights, in the precision and on the device of a run."""
    network = build_network(config, condition_width)
    return Networks(network.to(accelerator.device, dtype_of(config.precision)))


def build_step(config: FlowConfig, condition_width: int, accelerator: Accelerator, networks: Networks) -> "FlowStep":
    """The step that trains the network: with a fresh optimiser, prepared for all processes of the run."""
    network = networks.generator
    if config.compile:
        network.compile(dynamic=False)
    betas = config.beta1, config.beta2
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr, betas=betas, fused=True)
    deepspeed.expect_batches_of(accelerator, config.batch_size // accelerator.num_processes)
    prepared, optimizer = accelerator.prepare(network, optimizer)
    return FlowStep(config, Prepared(prepared, optimizer, accelerator), condition_width)


class FlowStep:
    """One training step on this process's slice of the global batch."""

    every = 1

    def __init__(self, config: FlowConfig, prepared: Prepared, condition_width: int) -> None:
        self.config, self.draws = config, FlowDraws(config, condition_width)
        self.generator, self.generator_optimizer, self.accelerator = prepared
        self.raw_generator = deepspeed.unwrapped(self.generator, self.accelerator)
        self.dtype = dtype_of(config.precision)
        self.gradient_norms = GradientNorms()

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint holds, by its names there, but for the average."""
        return {"generator": self.raw_generator}

    @property
    def optimizers(self) -> Optimizers:
        return {"generator_optimizer": (self.raw_generator, self.generator_optimizer)}

    def __call__(
        self, start: int, tiles: Tensor, c: Tensor | None, update_generator: bool = True, drawn: Packed | None = None
    ) -> StepRecord:
        """Update the network.

        `tiles` (n, 3, H, H) uint8 are images start … start+n−1; `c` (n, condition_width) the condition of each tile's
        own profile. `drawn`: what `draws` draws for these images, where the tiles are; None has it drawn here and now.
        """
        assert c is not None, "a flow is conditional"
        config, draws = self.config, self.draws.on(tiles, start, drawn)
        c = perturbed(c, draws, config.condition_noise)
        x = to_grid(prepared_tiles(tiles, draws, self.dtype, config.flips, config.quarter_turns), config.block_px)
        t = times_of(draws["time"][:, 0], config.time_mean, config.time_sd)
        dropped = draws["dropout"][:, 0] < config.condition_dropout if "dropout" in draws else None
        self.generator_optimizer.zero_grad()
        loss = flow_loss(lambda x_t, t: self.generator(x_t, t, c, dropped), x, draws["noise"].view_as(x), t)
        self.accelerator.backward(loss)
        if self.accelerator.scaler is None:
            self.gradient_norms.add("generator", self.generator_optimizer)
        self.generator_optimizer.step()
        return StepRecord(loss.detach())
