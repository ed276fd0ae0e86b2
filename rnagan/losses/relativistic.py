"""Relativistic pairing with zero-centred penalties on real and generated tiles (R3GAN; Huang et al. 2024)."""

import torch.nn.functional as F
from torch import Tensor

from rnagan.losses.wgan_gp import Scorer, input_gradient


def critic_loss(score_real: Tensor, score_fake: Tensor) -> Tensor:
    """E[log(1 + exp(D(fake) − D(real)))], pair by pair: row k of both, of one condition. Scores (n,)."""
    return F.softplus(score_fake.float() - score_real.float()).mean()


def generator_loss(score_real: Tensor, score_fake: Tensor) -> Tensor:
    """E[log(1 + exp(D(real) − D(fake)))]: the critic's, the pair exchanged."""
    return critic_loss(score_fake, score_real)


def zero_centred_penalty(score: Scorer, x: Tensor, c: Tensor | None) -> Tensor:
    """E[‖∂D/∂x‖₂²], the mean over samples: R1 where `x` (n, 3, H, W) is real (Mescheder et al. 2018), R2 where it is
    generated. γ/2 is its weight. `x` is taken as given. Computed in x's dtype (float32 or float64)."""
    return input_gradient(score, x, c).square().flatten(1).sum(1).mean()
