"""Exponential moving average of a generator's weights, with its clock in images."""

import copy

import torch
from torch import nn


class ExponentialAverage:
    """A copy of `module` that follows it with a half-life counted in images (Karras et al. 2020).

    Over the first images the half-life is shortened (at most a twentieth of the images seen), so that early weights
    don't linger.
    """

    def __init__(self, module: nn.Module, half_life: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.half_life = half_life

    @torch.no_grad()
    def update(self, module: nn.Module, images: int, seen: int) -> None:
        """Follow `module` after a step that used `images` tiles, `seen` of them since the start."""
        half_life = min(self.half_life, seen / 20) if self.half_life else 0
        decay = 0.5 ** (images / half_life) if half_life else 0.0
        own: list[torch.Tensor] = list(self.module.parameters())
        torch._foreach_lerp_(own, list(module.parameters()), 1 - decay)
        for mine, theirs in zip(self.module.buffers(), module.buffers(), strict=True):
            mine.copy_(theirs)
