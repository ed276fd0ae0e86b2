import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnagan.models.generators import _Block
from rnagan.models.reduced import _MeanOverSpace, _NormAndFilm, enlarged, mean_over_space, norm_and_film


def parts(dtype: torch.dtype, n: int = 2, c: int = 6, side: int = 4) -> tuple[Tensor, ...]:
    """Maps that are off zero, weight, bias, scale and shift."""
    draw = torch.Generator().manual_seed(0)
    shapes = ((n, c, side, side), (c,), (c,), (n, c), (n, c))
    x, *others = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes)
    x = (2 * x + 1).contiguous(memory_format=torch.channels_last)
    return tuple(own.to(dtype).requires_grad_() for own in (x, *others))


def by_pytorch(x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    normed = F.group_norm(x, 3, weight, bias, 1e-5)
    return normed * (1 + scale[:, :, None, None]) + shift[:, :, None, None]


def in_float64(x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    factor = 1 + scale
    w, t = (own.unflatten(1, (3, 2)) for own in (weight * factor, bias * factor + shift))
    return _NormAndFilm.apply(x, w, t, 1e-5)


def test_norm_and_film_is_that_of_pytorch_and_so_is_its_gradient() -> None:
    given = parts(torch.float64)
    toward = torch.randn(given[0].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    results = []
    for function in (by_pytorch, in_float64):
        y = function(*given)
        results.append([y, *torch.autograd.grad((y * toward).sum(), given)])
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-10)
    assert torch.autograd.gradcheck(in_float64, given)
    # Known wrong: mean and variance as if they were constants.
    x, weight = given[0], given[1]
    rate = (x.unflatten(1, (3, 2)).var((2, 3, 4), correction=0) + 1e-5).rsqrt().repeat_interleave(2, 1)
    constant = toward * (rate * weight * (1 + given[3]))[:, :, None, None]
    assert (constant - results[0][1]).abs().max() > 0.1


def test_a_second_gradient_of_it_is_refused() -> None:
    given = parts(torch.float64)
    (slope,) = torch.autograd.grad(in_float64(*given).square().sum(), given[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.square().sum().backward()


def test_in_bf16_it_is_as_near_as_bf16_is() -> None:
    exact, reduced = parts(torch.float64, side=16), parts(torch.bfloat16, side=16)
    x, *others = reduced
    y = norm_and_film(x, 3, *(own.detach().float() for own in others[:2]), 1e-5, *others[2:])
    assert y.dtype == torch.bfloat16 and y.is_contiguous(memory_format=torch.channels_last)
    expected = by_pytorch(*(own.detach().double() for own in reduced))
    assert (y.double() - expected).abs().max() < 2**-6 * expected.abs().max()
    y.float().square().mean().backward()
    by_pytorch(*exact).square().mean().backward()
    assert x.grad.dtype == torch.bfloat16
    assert (x.grad.double() - exact[0].grad).norm() < 0.03 * exact[0].grad.norm()


def test_a_mean_over_space_has_both_gradients() -> None:
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(in_precision_of_x, x) and torch.autograd.gradgradcheck(in_precision_of_x, x)
    assert torch.equal(mean_over_space(x), x.mean(dim=(2, 3)))  # where nothing is reduced, PyTorch's own
    reduced = x.detach().to(torch.bfloat16).requires_grad_()
    mean = mean_over_space(reduced)
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean, reduced.detach().float().mean(dim=(2, 3)))
    mean.sum().backward()
    assert reduced.grad.dtype == torch.bfloat16 and reduced.grad.eq(1 / 16).all()


def in_precision_of_x(x: Tensor) -> Tensor:
    return _MeanOverSpace.apply(x).to(x.dtype)


def test_maps_are_enlarged_in_their_own_precision() -> None:
    x = torch.randn(1, 3, 4, 4).to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        y = enlarged(x, (8, 8))
    assert y.dtype == torch.bfloat16
    assert torch.equal(enlarged(x.float(), (8, 8)), F.interpolate(x.float(), scale_factor=2, mode="bilinear"))


@pytest.mark.parametrize("norm", ["group", "batch", "none"])
def test_a_block_of_the_generator_is_bf16_throughout_and_near_what_float32_gives(norm: str) -> None:
    torch.manual_seed(0)
    block = _Block(16, 16, 6, norm, noisy=True)
    x, code, noise = torch.randn(3, 16, 8, 8), torch.randn(3, 6), torch.randn(3, 1, 16, 16)
    exact = block(x, code, noise)
    with torch.autocast("cpu", torch.bfloat16):
        y = block(x.to(torch.bfloat16), code, noise)
    assert y.dtype == torch.bfloat16
    assert (y.float() - exact).norm() < 0.02 * exact.norm()


def test_gradients_reach_all_weights_of_a_block() -> None:
    torch.manual_seed(0)
    block: nn.Module = _Block(16, 16, 6, "group", noisy=True)
    x, code, noise = torch.randn(3, 16, 8, 8), torch.randn(3, 6), torch.randn(3, 1, 16, 16)
    toward = torch.randn(3, 16, 16, 16)
    found = []
    for reduced in (False, True):
        block.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            y = block(x.to(torch.bfloat16) if reduced else x, code, noise)
        (y.float() * toward).sum().backward()
        found.append({name: own.grad.clone() for name, own in block.named_parameters()})
    for name, own in found[0].items():
        assert (found[1][name] - own).norm() < 0.08 * own.norm(), name
