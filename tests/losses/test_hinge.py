import numpy as np
import pytest
import torch

from rnagan.losses.hinge import critic_loss, generator_loss


def scores() -> tuple[np.ndarray, np.ndarray]:
    """Seven a tile, on both sides of both bends."""
    draw = np.random.default_rng(0)
    return draw.normal(0.5, 1.5, size=(5, 7)), draw.normal(-0.5, 1.5, size=(5, 7))


def by_score(real: np.ndarray, fake: np.ndarray) -> float:
    """Miyato et al. 2018, equation 16, negated: E[max(0, 1 − D(real))] + E[max(0, 1 + D(fake))]."""
    return sum(max(0, 1 - r) + max(0, 1 + f) for r, f in zip(real.flat, fake.flat, strict=True)) / real.size


def test_losses_equal_the_formula() -> None:
    real, fake = scores()
    given = torch.from_numpy(real), torch.from_numpy(fake)
    loss = critic_loss(*given).item()
    assert loss == pytest.approx(by_score(real, fake), rel=1e-6)
    assert generator_loss(given[1]).item() == pytest.approx(-fake.mean(), rel=1e-6)
    assert abs(loss - by_score(-real, -fake)) > 0.1  # known wrong: the sign flipped
    assert abs(loss - by_score(fake, real)) > 0.1  # known wrong: real and generated exchanged
    of_means = max(0, 1 - real.mean()) + max(0, 1 + fake.mean())  # known wrong: the hinge of the mean
    assert abs(loss - of_means) > 0.1


def test_gradients_and_their_bends() -> None:
    """Scores beyond the margin don't pull; the others pull alike, whatever their number."""
    real, fake = (torch.from_numpy(own).requires_grad_(True) for own in scores())
    critic_loss(real, fake).backward()
    torch.testing.assert_close(real.grad, -(real.detach() < 1).double() / 35)
    torch.testing.assert_close(fake.grad, (fake.detach() > -1).double() / 35)
    assert 0 < (real.grad == 0).sum() < 35 and 0 < (fake.grad == 0).sum() < 35
    fake.grad = None
    generator_loss(fake).backward()
    torch.testing.assert_close(fake.grad, torch.full_like(fake, -1 / 35))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scores_are_averaged_in_float32(dtype: torch.dtype) -> None:
    ones = torch.full((4001,), 100.25, dtype=dtype)
    assert generator_loss(ones).dtype == critic_loss(ones, ones).dtype == torch.float32
    assert critic_loss(ones, ones).item() == 1 + ones[0].float().item() == 1 - generator_loss(ones).item()
