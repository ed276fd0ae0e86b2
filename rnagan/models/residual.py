"""Residual blocks without normalisation, whose first weights keep maps of one size through any depth.

As in R3GAN (Huang et al. 2024, section 3), a network is a path of maps that only 1 × 1 convolutions and bilinear
resampling change, and branches beside it that add to it. The first weights are Fixup's (Zhang et al. 2019, section 3):
each branch adds nothing at first, and learns at a rate that doesn't grow with their number. R3GAN's branches are 1 × 1,
grouped 3 × 3, 1 × 1; ours are two plain 3 × 3 convolutions, which keep fewer maps for the backward pass.
"""

import torch
from torch import Tensor, nn

from rnagan.models.second_gradient import through

BLOCKS = 2  # at each side in px, as R3GAN
SLOPE = 0.2  # of LeakyReLU


class ResidualBlock(nn.Module):
    """x + second(LeakyReLU(first(x))): maps (n, channels, h, w) → the same shape.

    With `code_width` > 0 the code (n, code_width) scales and shifts what the first convolution makes (FiLM, Perez et
    al. 2018). `depth`: blocks of the whole network. Fixup for branches of two layers: the last starts at 0, and what is
    before it is scaled by depth^(−1/2); biases start at 0. `twice`: as of `rnagan.models.critics.Critic`.
    """

    def __init__(self, channels: int, depth: int, code_width: int = 0) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(code_width, 2 * channels) if code_width else None
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)  # the backward pass needs its result alone
        nn.init.kaiming_normal_(self.first.weight, a=SLOPE)
        nn.init.zeros_(self.second.weight)
        for layer in (self.first, self.second):
            zero_bias(layer)
        with torch.no_grad():
            self.first.weight.mul_(depth**-0.5)
            if self.film is not None:
                self.film.weight.mul_(depth**-0.5)
                self.film.bias.zero_()

    def forward(self, x: Tensor, code: Tensor | None = None, twice: str | None = None) -> Tensor:
        h = through(self.first, x, twice)
        if self.film is not None:
            assert code is not None, "a block with FiLM is called with the code"
            scale, shift = (own[:, :, None, None] for own in self.film(code).chunk(2, dim=1))
            h = torch.addcmul(shift, h, 1 + scale)
        return through(self.second, through(self.activation, h, twice), twice).add_(x)


def pointwise(c_in: int, c_out: int) -> nn.Conv2d:
    """A 1 × 1 convolution that keeps the mean square of its input."""
    layer = nn.Conv2d(c_in, c_out, 1)
    keep_size(layer)
    return layer


def keep_size(layer: nn.Conv2d | nn.Linear) -> None:
    """Give a linear layer weights that keep the mean square of its input, and no bias."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
    zero_bias(layer)


def zero_bias(layer: nn.Conv2d | nn.Linear) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
