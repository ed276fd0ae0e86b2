"""Critics: an RGB tile (and, for a conditional one, its condition) in, a score out."""

import math

from torch import Tensor, nn

MAX_CHANNELS = 256


class Critic(nn.Module):
    """Strided convolutions to 4 px, mean over space, a linear score.

    With `condition_width` > 0 it is a projection critic (Miyato & Koyama 2018): score = w·h(x) + (V c)·h(x), so a
    tile is scored as tissue and as tissue *of this profile*.
    Input x (n, 3, resolution, resolution) in [-1, 1] and c (n, condition_width); output (n,) scores.
    """

    def __init__(self, resolution: int, width: int, norm: str, condition_width: int = 0) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.LeakyReLU(0.2)]
        c_in = width
        for k in range(int(math.log2(resolution // 4))):
            c_out = min(width * 2 ** (k + 1), max(MAX_CHANNELS, width))
            layers += [nn.Conv2d(c_in, c_out, 4, stride=2, padding=1), *_norm(norm, c_out), nn.LeakyReLU(0.2)]
            c_in = c_out
        self.features = nn.Sequential(*layers, nn.Conv2d(c_in, c_in, 3, padding=1), nn.LeakyReLU(0.2))
        self.score = nn.Linear(c_in, 1)
        self.projection = nn.Linear(condition_width, c_in, bias=False) if condition_width else None

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        h = self.features(x).mean(dim=(2, 3))
        score = self.score(h).squeeze(1)
        if self.projection is None:
            return score
        assert c is not None, "a projection critic is called with the condition"
        return score + (self.projection(c) * h).sum(dim=1)


def _norm(kind: str, channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels)] if kind == "batch" else []
