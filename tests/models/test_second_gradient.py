"""A critic's layers where a gradient is differentiated again: against PyTorch's own, finite differences and float64."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from rnagan.losses import relativistic, wgan_gp
from rnagan.models.critics import Critic, DCCritic, ResidualCritic
from rnagan.models.second_gradient import applied
from rnagan.training.op_counts import OpCounter

CONDITION = 5
# Relative error of a layer's gradient in bf16, whose own rounding is 0.4%: a map's near-zero values change sides.
BF16 = 0.1


def critic(layout: str, side: int, norm: str = "none", width: int = 4) -> nn.Module:
    torch.manual_seed(0)
    if layout == "residual":
        made: nn.Module = ResidualCritic(side, width, CONDITION)
        for name, own in made.named_parameters():  # whose first weights are 0
            if ".second." in name:
                nn.init.normal_(own, std=0.1)
    else:
        made = DCCritic(side, width, norm) if layout == "dcgan" else Critic(side, width, norm, CONDITION)
    return made.double().to(memory_format=torch.channels_last)


def given(count: int, side: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    x = torch.rand(count, 3, side, side, generator=draw, dtype=torch.float64) * 2 - 1
    c = torch.randn(count, CONDITION, generator=draw, dtype=torch.float64)
    return x.contiguous(memory_format=torch.channels_last), c


def penalty_gradients(
    net: nn.Module, loss: str, x: Tensor, c: Tensor, dtype: torch.dtype, twice: str | None
) -> dict[str, Tensor | None]:
    """Gradients of the penalty of a critic by its weights, each by the weight's name."""
    net.to(dtype).zero_grad()

    def score(x: Tensor, c: Tensor | None) -> Tensor:
        return net(x, c, twice)

    if loss == "wgan_gp":
        wgan_gp.gradient_penalty(score, x.to(dtype), c.to(dtype)).backward()
    else:
        relativistic.zero_centred_penalty(score, x.to(dtype), c.to(dtype)).backward()
    return {name: None if own.grad is None else own.grad.clone() for name, own in net.named_parameters()}


@pytest.mark.parametrize(("kernel", "stride", "padding", "side"), [(3, 1, 1, 6), (4, 2, 1, 7), (4, 1, 0, 6)])
def test_the_gradient_of_a_convolution_has_a_gradient(kernel: int, stride: int, padding: int, side: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, kernel, stride, padding).double()
    x = torch.randn(2, 2, side, 5, dtype=torch.float64, requires_grad=True)
    y = applied(layer, x, "float32")
    torch.testing.assert_close(y, layer(x), rtol=0, atol=0)
    toward = torch.randn_like(y, requires_grad=True)

    def slope(weight: Tensor, toward: Tensor) -> Tensor:
        y = functional_call(_Applied(layer), {"layer.weight": weight}, x)
        return torch.autograd.grad(y, x, toward, create_graph=True)[0]

    torch.testing.assert_close(slope(layer.weight, toward), torch.autograd.grad(layer(x), x, toward)[0])
    assert torch.autograd.gradcheck(slope, (layer.weight.detach().requires_grad_(), toward), fast_mode=True)


class _Applied(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return applied(self.layer, x, "float32")


@pytest.mark.parametrize(
    ("layout", "norm"), [("all_scales", "none"), ("residual", "none"), ("dcgan", "none"), ("all_scales", "batch")]
)
def test_critics_have_both_gradients(layout: str, norm: str) -> None:
    """By finite differences: of scores by tiles and weights, and of those gradients by tiles and weights."""
    side = 8 if layout == "residual" else 16  # of so many maps more some would bend within a difference
    net = critic(layout, side, norm, width=2)
    x, c = given(3, side)
    names = [name for name, _ in net.named_parameters()]

    def scores(x: Tensor, *weights: Tensor) -> Tensor:
        return functional_call(net, dict(zip(names, weights, strict=True)), (x, c))

    inputs = [part.detach().requires_grad_() for part in (x, *net.parameters())]
    assert torch.autograd.gradcheck(scores, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(scores, inputs, fast_mode=True)


@pytest.mark.parametrize("loss", ["wgan_gp", "relativistic"])
@pytest.mark.parametrize("layout", ["all_scales", "residual", "dcgan"])
def test_a_penalty_is_that_of_pytorchs_layers_with_two_thirds_of_the_work(layout: str, loss: str) -> None:
    """Convolutions forward, for the gradient, and for its two gradients; PyTorch has two more, of zeros."""
    net, (x, c) = critic(layout, 32), given(4, 32)
    found, flops = [], []
    for twice in (None, "float32"):
        with OpCounter() as counter:
            found.append(penalty_gradients(net, loss, x, c, torch.float64, twice))
        flops.append(sum(one.flops for one in counter.operations if "convolution" in one.name))
    check_equal(found[1], found[0], 1e-10)
    assert all(own is not None and own.any() for name, own in found[1].items() if name.endswith("weight"))
    assert flops[1] == pytest.approx(flops[0] * 2 / 3, rel=0.06)


def check_equal(found: dict[str, Tensor | None], exact: dict[str, Tensor | None], far: float) -> None:
    """Gradients of the same penalty, each relative to its size. A weight, as a bias, that the gradient by x doesn't
    depend on may have none, where PyTorch's layers have zeros."""
    for name, own in found.items():
        other = exact[name]
        if own is None:
            assert other is None or not other.any(), name
        else:
            assert other is not None and (own - other).norm() <= far * other.norm(), name


def test_other_layers_are_refused() -> None:
    with pytest.raises(TypeError, match="BatchNorm2d isn't linear in pieces"):
        critic("all_scales", 16, "batch")(*given(2, 16), "float32")


@pytest.mark.parametrize("loss", ["wgan_gp", "relativistic"])
@pytest.mark.parametrize("layout", ["all_scales", "residual", "dcgan"])
def test_a_penalty_in_bf16_is_near_that_of_float64_at_each_layer(layout: str, loss: str) -> None:
    """Numbers of tiles that oneDNN's convolutions with large kernels get wrong are among them."""
    net = critic(layout, 32, width=8)
    for count in (2, 4, 8):
        x, c = given(count, 32)
        exact = penalty_gradients(net, loss, x, c, torch.float64, None)
        reduced = penalty_gradients(net, loss, x, c, torch.float32, "bf16")
        check_equal(reduced, exact, BF16)


def test_convolutions_alone_are_reduced() -> None:
    """The score is of means in float32, and so is the gradient by x."""
    net, (x, c) = critic("all_scales", 32).float(), given(2, 32)
    dtypes = {}
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(lambda _, given, made, name=name: dtypes.update({name: (given[0], made)}))
    x = x.float().requires_grad_()
    (slope,) = torch.autograd.grad(net(x, c.float(), "bf16").sum(), x)
    assert {own.dtype for pair in dtypes.values() for own in pair} == {slope.dtype} == {torch.float32}
    maps = applied(net.features[0], x, "bf16")
    assert maps.dtype == applied(net.features[1], maps, "bf16").dtype == torch.bfloat16


class _Rounding(TorchDispatchMode):
    """How a GPU would round, at each convolution and at each product."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, set[str]] = {}

    def __torch_dispatch__(self, function, types, arguments=(), options=None):  # type: ignore[no-untyped-def]
        name = function._schema.name.split("::")[1]
        self.seen.setdefault(name, set()).add(torch.backends.cudnn.conv.fp32_precision)
        return function(*arguments, **(options or {}))


@pytest.fixture
def ieee() -> Iterator[None]:
    """As `set_arithmetic` leaves it."""
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    yield
    torch.backends.cudnn.conv.fp32_precision = before


@pytest.mark.usefixtures("ieee")
def test_a_penalty_in_tf32_leaves_float32_elsewhere() -> None:
    """All of its convolutions are rounded, also those of the backward pass, and nothing else is, nor afterwards."""
    net, (x, c) = critic("all_scales", 32), given(2, 32)
    with _Rounding() as rounding:
        penalty_gradients(net, "wgan_gp", x, c, torch.float32, "tf32")
    for name in ("convolution", "convolution_backward"):
        assert rounding.seen.pop(name) == {"tf32"}
    makes_room = {"new_empty", "expand"}  # for a gradient by the input
    assert {name for name, seen in rounding.seen.items() if "tf32" in seen} <= makes_room
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"
