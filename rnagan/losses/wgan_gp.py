"""Wasserstein losses with gradient penalty (article, equations 3 and 4; Gulrajani et al. 2017)."""

from collections.abc import Callable

import torch
from torch import Tensor

Scorer = Callable[[Tensor, Tensor | None], Tensor]


def critic_loss(score_real: Tensor, score_fake: Tensor) -> Tensor:
    """Equation 3 without its penalty: E[D(fake)] − E[D(real)], the estimate of the distance, negated. Scores (n,)."""
    return score_fake.float().mean() - score_real.float().mean()


def generator_loss(score_fake: Tensor) -> Tensor:
    """−E[D(fake)]. Equation 4 prints no minus and says that the generator maximises it: the same."""
    return -score_fake.float().mean()


def interpolate(x_real: Tensor, x_fake: Tensor, epsilon: Tensor) -> Tensor:
    """Points between real and generated tiles, with one epsilon in (0, 1) a sample, shape (n,)."""
    epsilon = epsilon.view(-1, 1, 1, 1)
    return epsilon * x_real + (1 - epsilon) * x_fake


def input_gradient(score: Scorer, x: Tensor, c: Tensor | None) -> Tensor:
    """∂D/∂x of each sample, of x's shape (n, 3, H, W) and with a graph of its own; x is taken as given."""
    x = x.detach().requires_grad_(True)
    return torch.autograd.grad(score(x, c).sum(), x, create_graph=True)[0]


def gradient_penalty(score: Scorer, x_hat: Tensor, c: Tensor | None, norm: str = "per_sample") -> Tensor:
    """(‖∂D/∂x̂‖₂ − 1)², the mean over samples of one norm each (Gulrajani et al. 2017, algorithm 1).

    `norm="whole_batch"` is the released code's variant: one norm over the whole batch. `x_hat` (n, 3, H, W) is taken
    as given: it must not need gradients through the generator. Computed in x_hat's dtype (float32 or float64).
    """
    flat = input_gradient(score, x_hat, c).flatten(1 if norm == "per_sample" else 0)
    # dim=-1: rows are samples, or the one row is the batch
    return (torch.linalg.vector_norm(flat, dim=-1) - 1).square().mean()
