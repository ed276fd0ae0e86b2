"""What tests of gradient penalties share: tiles, a small critic, and its penalty's gradient by finite differences."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn


def tiles(n: int = 5, side: int = 4, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 3, side, side)))


class SmallCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.score, self.shown = nn.Conv2d(3, 4, 3), nn.Linear(4, 1), nn.Linear(2, 4)
        self.double()

    def forward(self, x: Tensor, c: Tensor | None) -> Tensor:
        assert c is not None
        h = torch.tanh(self.convolution(x)).mean(dim=(2, 3))
        return (self.score(h)[:, 0] + (h * self.shown(c)).sum(dim=1)) * 10


def check_gradient_of(penalty: Callable[[SmallCritic], Tensor], nearly_zero: float) -> None:
    """The gradient of a critic's penalty, itself of a gradient, is what finite differences say."""
    critic = SmallCritic()
    parameters = [critic.convolution.weight, critic.score.weight, critic.shown.weight, critic.shown.bias]
    gradients = torch.autograd.grad(penalty(critic), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        flat, step = parameter.data.view(-1), 1e-6
        for k in range(0, flat.numel(), 7):
            values = []
            for sign in (1, -1):
                flat[k] += sign * step
                values.append(penalty(critic).item())
                flat[k] -= sign * step
            slope = (values[0] - values[1]) / (2 * step)
            assert gradient.flatten()[k].item() == pytest.approx(slope, rel=1e-5, abs=nearly_zero)
        assert gradient.abs().max() > 1e-6
