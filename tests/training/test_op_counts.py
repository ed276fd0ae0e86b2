"""FLOPs and bytes against counts by hand, also of a gradient's gradient; and how much memory is taken at a time."""

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from rnagan.training.op_counts import OpCounter, bytes_of

BATCH, C_IN, C_OUT, KERNEL, SIDE = 4, 3, 5, 3, 16
CONVOLUTION = 2 * BATCH * C_OUT * C_IN * KERNEL**2 * SIDE**2  # a multiplication and an addition


@pytest.mark.parametrize("fake", [False, True])
def test_flops_of_a_convolution_and_of_its_gradients(fake: bool) -> None:
    with FakeTensorMode() if fake else torch.enable_grad():
        x = torch.randn(BATCH, C_IN, SIDE, SIDE, requires_grad=True)
        w = torch.randn(C_OUT, C_IN, KERNEL, KERNEL, requires_grad=True)
        with OpCounter() as counter:
            y = F.conv2d(x, w, padding=1)
        assert counter.flops == CONVOLUTION
        counter.restart()
        with counter:
            torch.autograd.grad(y.sum(), (x, w))
        assert counter.flops == 2 * CONVOLUTION  # of the input, and of the weight


def test_flops_of_a_gradient_penalty() -> None:
    """A convolution forward and one for the gradient by the input; then two for that gradient's own gradients, by the
    weight and by the gradient of the output, which PyTorch computes whether or not anything asks for it."""
    x = torch.randn(BATCH, C_IN, SIDE, SIDE, requires_grad=True)
    w = torch.randn(C_OUT, C_IN, KERNEL, KERNEL, requires_grad=True)
    with OpCounter() as counter:
        (gradient,) = torch.autograd.grad(F.conv2d(x, w).sum(), x, create_graph=True)
        torch.autograd.grad(gradient.square().sum(), w)
    inner = SIDE - KERNEL + 1
    assert counter.flops == 4 * 2 * BATCH * C_OUT * C_IN * KERNEL**2 * inner**2
    assert {one.dtype for one in counter.operations if one.flops} == {"float32"}


def test_bytes_are_of_inputs_and_outputs_and_views_cost_nothing() -> None:
    x = torch.ones(10, 20)
    with OpCounter() as counter:
        y = x.t().reshape(4, 50)  # a view, and a copy
        y.add_(1)
        torch.empty(1000)
    assert [(one.name, one.bytes) for one in counter.operations] == [("clone", 2 * 800), ("add_", 800)]
    assert bytes_of(torch.ones(1, 3).expand(1000, 3)) == 12


def test_peak_is_what_is_there_at_a_time() -> None:
    with FakeTensorMode(), OpCounter() as counter:
        x = torch.ones(1000)
        y = x * 2  # two of 4 kB
        z = y * 2  # three
        del y
        z = z * 2  # three again, then two
    assert counter.peak_bytes == 12_000 and counter.live_bytes == 8_000
    del x, z
    assert counter.live_bytes == 0
