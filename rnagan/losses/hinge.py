"""The hinge loss of a critic whose scores are many a tile (Lim & Ye 2017; Miyato et al. 2018, equations 16 and 17)."""

import torch.nn.functional as F
from torch import Tensor


def critic_loss(score_real: Tensor, score_fake: Tensor) -> Tensor:
    """E[max(0, 1 − D(real))] + E[max(0, 1 + D(fake))], over samples and scores alike; scores (n,) or (n, k)."""
    return F.relu(1 - score_real.float()).mean() + F.relu(1 + score_fake.float()).mean()


def generator_loss(score_fake: Tensor) -> Tensor:
    """−E[D(fake)]."""
    return -score_fake.float().mean()
