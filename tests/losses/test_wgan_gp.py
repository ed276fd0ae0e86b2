import numpy as np
import pytest
import torch
from torch import nn

from rnagan.losses.wgan_gp import critic_loss, generator_loss, gradient_penalty, interpolate
from tests.losses.small_critic import SmallCritic, check_gradient_of, tiles


def linear(w):
    return lambda x, c: (x * w).sum(dim=(1, 2, 3))


def quadratic(x, c):
    """½‖x‖²: its gradient at x is x."""
    return x.square().sum(dim=(1, 2, 3)) / 2


def test_penalty_of_a_linear_critic():
    w = tiles(1)[0]
    expected = (np.sqrt(np.square(w.numpy()).sum()) - 1) ** 2
    assert gradient_penalty(linear(w), tiles(), None).item() == pytest.approx(expected, rel=1e-12)
    unit = w / w.norm()
    assert gradient_penalty(linear(unit), tiles(), None).item() == pytest.approx(0, abs=1e-24)


def test_penalty_is_per_sample():
    x = tiles() * torch.arange(1, 6).view(-1, 1, 1, 1) / 10
    norms = np.sqrt(np.square(x.numpy()).reshape(5, -1).sum(axis=1))
    penalty = gradient_penalty(quadratic, x, None).item()
    assert penalty == pytest.approx(np.square(norms - 1).mean(), rel=1e-12)
    assert abs(penalty - (norms.mean() - 1) ** 2) > 0.1  # known wrong: the mean norm
    whole = (np.sqrt(np.square(x.numpy()).sum()) - 1) ** 2
    assert abs(penalty - whole) > 0.1  # known wrong as penalty per sample, and what the released code computes
    assert gradient_penalty(quadratic, x, None, "whole_batch").item() == pytest.approx(whole, rel=1e-12)


def test_penalty_per_sample_does_not_depend_on_the_batch():
    x, c, critic = tiles(6), tiles(6)[:, 0, 0, :2], SmallCritic()
    halves = [gradient_penalty(critic, x[part], c[part]) for part in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(gradient_penalty(critic, x, c), sum(halves) / 2)
    halves = [gradient_penalty(critic, x[part], c[part], "whole_batch") for part in (slice(0, 3), slice(3, 6))]
    assert not torch.isclose(gradient_penalty(critic, x, c, "whole_batch"), sum(halves) / 2)


@pytest.mark.parametrize("norm", ["per_sample", "whole_batch"])
def test_double_backward_equals_finite_differences(norm):
    x, c = tiles(), tiles()[:, 0, 0, :2]
    check_gradient_of(lambda critic: gradient_penalty(critic, x, c, norm), nearly_zero=1e-8)


def test_penalty_does_not_reach_the_generator_and_keeps_the_dtype():
    x = tiles().requires_grad_(True)
    penalty = gradient_penalty(SmallCritic(), x, tiles()[:, 0, 0, :2])
    penalty.backward()
    assert x.grad is None and penalty.dtype == torch.float64
    assert gradient_penalty(quadratic, tiles().float(), None).dtype == torch.float32


def test_penalty_of_a_flat_critic_is_finite():
    critic = nn.Linear(48, 1).double()
    nn.init.zeros_(critic.weight)
    penalty = gradient_penalty(lambda x, c: critic(x.flatten(1))[:, 0], tiles(), None)
    penalty.backward()
    assert penalty.item() == 1 and critic.weight.grad.isfinite().all()


def test_critic_loss_and_its_signs():
    real, fake = torch.tensor([3.0, 5.0]).double().requires_grad_(True), torch.tensor([1.0, 0.0, -4.0]).double()
    loss = critic_loss(real, fake)
    assert loss.item() == -1 - 4  # without its penalty, which the step adds
    loss.backward()
    assert (real.grad < 0).all()  # descending raises the score of real tiles


def test_generator_loss_and_its_sign():
    fake = torch.tensor([1.0, 0.0, -4.0]).requires_grad_(True)
    loss = generator_loss(fake)
    loss.backward()
    assert loss.item() == 1.0 and (fake.grad < 0).all()  # descending raises the score of generated tiles


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scores_are_averaged_in_float32(dtype):
    scores = torch.full((4001,), 100.25, dtype=dtype)
    loss = critic_loss(scores, torch.zeros_like(scores))
    assert loss.dtype == generator_loss(scores).dtype == torch.float32
    assert -loss.item() == scores[0].float().item() == -generator_loss(scores).item()


def test_interpolates_lie_between_with_an_epsilon_a_sample():
    x_real, x_fake, epsilon = tiles(3, seed=1), tiles(3, seed=2), torch.tensor([[0.0], [1.0], [0.3]]).double()
    x_hat = interpolate(x_real, x_fake, epsilon)
    torch.testing.assert_close(x_hat[0], x_fake[0])
    torch.testing.assert_close(x_hat[1], x_real[1])
    torch.testing.assert_close(x_hat[2], 0.3 * x_real[2] + 0.7 * x_fake[2])
    torch.testing.assert_close(interpolate(x_real, x_fake, epsilon[:, 0]), x_hat)
