"""Layers of a critic whose gradient by its input is differentiated again, as a gradient penalty does.

Convolutions and LeakyReLU make a critic that is linear in pieces. Its gradient by the input depends on weights and on
the signs of maps alone, so nothing of it goes back through the pass that made the maps. PyTorch takes zeros back there,
which is a third of the work, and computes the gradient by a weight as a convolution with kernels as large as maps:
slowly, and with oneDNN 3.12 wrongly, in bf16 on CPUs with AMX, for some numbers of tiles below 16.
"""

import contextlib
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input, conv2d_weight

from rnagan.runtime.devices import float32_computed_in


def applied(layer: nn.Module, x: Tensor, precision: str) -> Tensor:
    """What a layer makes of maps x (n, c, h, w): a Conv2d without groups and dilation, a LeakyReLU, or an AvgPool2d of
    squares side by side.

    `precision`: what convolutions compute in: float32 (x's own), tf32 (a GPU's 10 bits of mantissa) or bf16, in which
    their maps stay. Its gradient is x's alone, and can be differentiated once, by the gradient of the output and by the
    weight. What follows must be linear in maps and their means. Raises `TypeError` on other layers.
    """
    if isinstance(layer, nn.LeakyReLU):
        return _LeakyReLU.apply(x, layer.negative_slope)
    if isinstance(layer, nn.AvgPool2d):
        return _MeansOfSquares.apply(x, layer.kernel_size)
    if not isinstance(layer, nn.Conv2d):
        raise TypeError(f"{type(layer).__name__} isn't linear in pieces.")
    dtype = torch.bfloat16 if precision == "bf16" else x.dtype
    given = (None if own is None else own.to(dtype) for own in (x, layer.weight, layer.bias))
    return _Convolution.apply(*given, _How(layer.stride, layer.padding, precision == "tf32"))


def through(layer: nn.Module, x: Tensor, twice: str | None) -> Tensor:
    """What a layer makes of maps: by `applied` in the precision `twice`, or by itself where that is None."""
    return layer(x) if twice is None else applied(layer, x, twice)


class _How(NamedTuple):
    stride: Any
    padding: Any
    tf32: bool

    def rounding(self) -> contextlib.AbstractContextManager:
        return float32_computed_in("tf32") if self.tf32 else contextlib.nullcontext()


class _LeakyReLU(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, slope: float) -> Tensor:
        context.save_for_backward(x)
        context.slope = slope
        return F.leaky_relu(x, slope)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = context.saved_tensors
        return torch.ops.aten.leaky_relu_backward(gradient, x.detach(), context.slope, False), None


class _MeansOfSquares(torch.autograd.Function):
    """Its gradient is an enlargement, whose own gradient PyTorch takes through nothing else."""

    @staticmethod
    def forward(context: Any, x: Tensor, side: int) -> Tensor:
        context.side = side
        return F.avg_pool2d(x, side)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return F.interpolate(gradient / context.side**2, scale_factor=context.side, mode="nearest"), None


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, w: Tensor, bias: Tensor | None, how: _How) -> Tensor:
        context.save_for_backward(w)
        context.shape, context.how = x.shape, how
        with how.rounding():
            return F.conv2d(x, w, bias, how.stride, how.padding)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (w,) = context.saved_tensors
        return _ByInput.apply(gradient, w, context.shape, context.how), None, None, None


class _ByInput(torch.autograd.Function):
    """A convolution's gradient by its input, of that by its output (n, c, h, w) and of the weight: linear in each."""

    @staticmethod
    def forward(context: Any, gradient: Tensor, w: Tensor, shape: torch.Size, how: _How) -> Tensor:
        context.save_for_backward(gradient, w)
        context.how = how
        with how.rounding():
            return conv2d_input(shape, w, gradient, how.stride, how.padding)

    @staticmethod
    @once_differentiable
    def backward(context: Any, by_x: Tensor) -> tuple[Tensor | None, ...]:
        (gradient, w), how = context.saved_tensors, context.how
        by_gradient = by_w = None
        with how.rounding():
            if context.needs_input_grad[0]:
                by_gradient = F.conv2d(by_x, w, None, how.stride, how.padding)
            if context.needs_input_grad[1]:
                by_w = conv2d_weight(by_x, w.shape, gradient, how.stride, how.padding)
        return by_gradient, by_w, None, None
