import math

import numpy as np
import pytest
import torch

from rnagan.losses.relativistic import critic_loss, generator_loss, zero_centred_penalty
from tests.losses.small_critic import SmallCritic, check_gradient_of, tiles


def scores(n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    return 2 * draw.normal(size=n), 2 * draw.normal(size=n)


def by_pairs(real: np.ndarray, fake: np.ndarray) -> float:
    """R3GAN (Huang et al. 2024, section 2): softplus(−(D(real) − D(fake))) of each pair, their mean."""
    return sum(math.log(1 + math.exp(f - r)) for r, f in zip(real.tolist(), fake.tolist(), strict=True)) / len(real)


def test_losses_equal_the_formula() -> None:
    real, fake = scores()
    given = torch.from_numpy(real), torch.from_numpy(fake)
    assert critic_loss(*given).item() == pytest.approx(by_pairs(real, fake), rel=1e-6)
    assert generator_loss(*given).item() == pytest.approx(by_pairs(fake, real), rel=1e-6)
    unpaired = np.log1p(np.exp(fake.mean() - real.mean()))  # known wrong: means instead of pairs
    assert abs(critic_loss(*given).item() - unpaired) > 0.1
    moved = critic_loss(given[0], given[1].roll(1))  # known wrong: pairs of two conditions
    assert abs(critic_loss(*given).item() - moved.item()) > 0.01


def test_signs() -> None:
    real, fake = (torch.from_numpy(own).requires_grad_(True) for own in scores())
    critic_loss(real, fake).backward()
    assert (real.grad < 0).all() and (fake.grad > 0).all()  # descending draws the two of a pair apart
    fake.grad = None
    generator_loss(real.detach(), fake).backward()
    assert (fake.grad < 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scores_of_half_precision_are_compared_in_float32(dtype: torch.dtype) -> None:
    real, fake = torch.tensor([1024.0], dtype=dtype), torch.tensor([0.25], dtype=dtype)
    loss = generator_loss(real, fake)
    assert loss.dtype == torch.float32 and loss.item() == 1023.75
    assert (real - fake).item() == 1024  # known wrong: rounded first


def test_penalty_is_the_squared_norm_a_sample() -> None:
    """Of ½‖x‖² the gradient is x."""
    x = tiles(seed=1) * torch.arange(1, 6).view(-1, 1, 1, 1) / 5
    norms = np.sqrt(np.square(x.numpy()).reshape(5, -1).sum(axis=1))
    penalty = zero_centred_penalty(lambda x, c: x.square().sum(dim=(1, 2, 3)) / 2, x, None).item()
    assert penalty == pytest.approx(np.square(norms).mean(), rel=1e-12)
    assert abs(penalty - norms.mean()) > 1  # known wrong: the norm
    assert abs(penalty - np.square(norms - 1).mean()) > 1  # known wrong: centred at one, as WGAN-GP's
    assert abs(penalty - np.square(norms).sum()) > 1  # known wrong: over the whole batch


def test_penalty_of_a_linear_critic_has_the_gradient_2w() -> None:
    """‖∂D/∂x‖² is ‖w‖², wherever x is."""
    w = tiles(1, seed=1)[0].requires_grad_(True)
    penalty = zero_centred_penalty(lambda x, c: (x * w).sum(dim=(1, 2, 3)), tiles(seed=1), None)
    penalty.backward()
    assert penalty.item() == pytest.approx(w.detach().square().sum().item(), rel=1e-12)
    torch.testing.assert_close(w.grad, 2 * w.detach(), rtol=1e-12, atol=0)


def test_double_backward_equals_finite_differences() -> None:
    x, c = tiles(seed=1), tiles(seed=1)[:, 0, 0, :2]
    check_gradient_of(lambda critic: zero_centred_penalty(critic, x, c), nearly_zero=1e-7)


def test_penalty_does_not_reach_the_generator_and_keeps_the_dtype() -> None:
    x, c = tiles(seed=1).requires_grad_(True), tiles(seed=1)[:, 0, 0, :2]
    penalty = zero_centred_penalty(SmallCritic(), x, c)
    penalty.backward()
    assert x.grad is None and penalty.dtype == torch.float64
    halves = [zero_centred_penalty(SmallCritic(), x[part], c[part]) for part in (slice(0, 2), slice(2, 5))]
    torch.testing.assert_close(penalty, (2 * halves[0] + 3 * halves[1]) / 5)  # whatever the batch
    assert zero_centred_penalty(SmallCritic().float(), x.float(), c.float()).dtype == torch.float32
