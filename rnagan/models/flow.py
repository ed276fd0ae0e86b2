"""A conditional rectified flow in pixel space: its network, its loss and its solvers.

x_t = (1 − t) x + t ε between a tile x (t = 0) and noise ε (t = 1); the network predicts the velocity ε − x (Liu et al.
2023, Lipman et al. 2023), as the flow-matching schedulers of diffusers take it, at their timesteps 1,000 t. It works on
a grid of pixel blocks, so that x is (n, 3 b², H / b, H / b) for blocks of b px.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler, UNet2DModel
from torch import Tensor, nn

from rnagan.config.flow import FlowConfig

TIMESTEPS = 1000  # of diffusers' schedulers
Velocity = Callable[[Tensor, Tensor], Tensor]  # of x (n, C, G, G) at times (n,)


class ConditionProjection(nn.Module):
    """What the network is shown of a condition: the embedding that joins that of the time; `null` is that of no
    profile, which is learnt (Ho & Salimans 2022).

    c (n, width) and, where some are dropped, `dropped` (n,) bool in; (n, embedding) out.
    """

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, embedding)
        self.outer = nn.Linear(embedding, embedding)
        self.null = nn.Parameter(torch.zeros(embedding))

    def forward(self, c: Tensor, dropped: Tensor | None = None) -> Tensor:
        shown = self.outer(F.silu(self.inner(c)))
        return shown if dropped is None else torch.where(dropped[:, None], self.null, shown)


class FlowNetwork(nn.Module):
    """The velocity at x_t (n, C, G, G) and times t (n,) under conditions c (n, width), float.

    `unet` is a plain component of diffusers, whose class label is the projection of c.
    """

    def __init__(self, unet: UNet2DModel, projection: ConditionProjection) -> None:
        super().__init__()
        self.unet, self.projection = unet, projection

    def forward(self, x_t: Tensor, t: Tensor, c: Tensor, dropped: Tensor | None = None) -> Tensor:
        return self.unet(x_t, TIMESTEPS * t, self.projection(c, dropped), return_dict=False)[0]


def build_network(config: FlowConfig, condition_width: int) -> FlowNetwork:
    """The network of a config, with fresh weights from torch's seeded generator."""
    return FlowNetwork(build_unet(config), build_projection(config, condition_width))


def build_projection(config: FlowConfig, condition_width: int) -> ConditionProjection:
    projection = ConditionProjection(condition_width, 4 * config.width)
    projection.null.requires_grad_(config.condition_dropout > 0)  # DDP waits for the gradient of every parameter
    return projection


def build_unet(config: FlowConfig) -> UNet2DModel:
    """The component of diffusers; `build_network` makes all of the network."""
    channels = [config.width * min(2**k, 2) for k in range(config.levels)]
    attends = [config.attention and k == config.levels - 1 for k in range(config.levels)]
    return UNet2DModel(
        sample_size=config.grid,
        in_channels=config.channels,
        out_channels=config.channels,
        block_out_channels=tuple(channels),
        down_block_types=tuple("AttnDownBlock2D" if here else "DownBlock2D" for here in attends),
        up_block_types=tuple("AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)),
        layers_per_block=config.layers,
        norm_num_groups=math.gcd(32, config.width),
        add_attention=config.attention,
        class_embed_type="identity",
    )


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=TIMESTEPS, shift=1.0)


def to_grid(x: Tensor, block_px: int) -> Tensor:
    """Images (n, 3, H, W) as blocks (n, 3 b², H / b, W / b)."""
    return F.pixel_unshuffle(x, block_px)


def from_grid(x: Tensor, block_px: int) -> Tensor:
    """The opposite of `to_grid`."""
    return F.pixel_shuffle(x, block_px)


def times_of(normal: Tensor, mean: float, sd: float) -> Tensor:
    """Logit-normal times (n,) of standard normal draws (n,) (Esser et al. 2024, section 3.1)."""
    return torch.sigmoid(mean + sd * normal)


def flow_loss(velocity: Velocity, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Mean squared error of the velocity at x_t over tiles (n, C, G, G), their noise and times (n,); a scalar in
    float32 or above."""
    at = t[:, None, None, None]
    found = velocity((1 - at) * x + at * noise, t)
    return F.mse_loss(found.to(x.dtype), noise - x)


def guided(with_condition: Velocity, without: Velocity, guidance: float) -> Velocity:
    """The velocity without the condition and `guidance` times what the condition adds (Ho & Salimans 2022); at 1 and 0
    one of them is called alone."""
    if guidance == 1:
        return with_condition
    if guidance == 0:
        return without

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        plain = without(x, t)
        return plain + guidance * (with_condition(x, t) - plain)

    return velocity


def solve(velocity: Velocity, noise: Tensor, steps: int, solver: str) -> Tensor:
    """Follow a velocity from noise (n, C, G, G) at t = 1 to tiles at t = 0 in `steps` equal steps.

    `solver`: euler, as the scheduler's own step; heun, whose steps average the velocities at both ends (Karras et al.
    2022, algorithm 1), but for the last, which is Euler's: no time of training is 0.
    """
    scheduler = build_scheduler()
    scheduler.set_timesteps(sigmas=[1 - k / steps for k in range(steps)], device=noise.device)
    times, x = scheduler.sigmas.to(noise.dtype), noise
    for k in range(steps):
        now, then = times[k], times[k + 1]
        slope = velocity(x, now.expand(len(x)))
        moved = x + (then - now) * slope
        if solver == "heun" and k < steps - 1:
            moved = x + (then - now) * (slope + velocity(moved, then.expand(len(x)))) / 2
        x = moved
    return x
