"""Layers for feature maps in bf16 or fp16: statistics in float32, maps never, and channels-last all the way.

PyTorch's own GroupNorm makes float32 maps of plain layout on a GPU, and its means have gradients in float32.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def is_reduced(x: Tensor) -> bool:
    """Whether a map is in less than float32."""
    return x.dtype.itemsize < 4


def mean_over_space(x: Tensor) -> Tensor:
    """Maps (n, c, h, w) → their means (n, c), in float32 at least."""
    if is_reduced(x):
        return _MeanOverSpace.apply(x)
    return x.mean(dim=(2, 3))


def enlarged(x: Tensor, size: Sequence[int]) -> Tensor:
    """Maps brought to a size in px, bilinearly, in their own precision: a GPU's autocast would make them float32."""
    with torch.autocast(x.device.type, enabled=False):
        return F.interpolate(x, size=tuple(size), mode="bilinear")


def norm_and_film(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, scale: Tensor, shift: Tensor
) -> Tensor:
    """GroupNorm, then FiLM: (weight · (x − mean) / SD + bias) · (1 + scale) + shift, as one multiply-add.

    x (n, c, h, w) in less than float32; weight, bias (c,); scale, shift (n, c). Differentiable once.
    """
    factor = 1 + scale.float()
    w, t = weight.float() * factor, torch.addcmul(shift.float(), bias.float(), factor)
    return _NormAndFilm.apply(x, *(own.unflatten(1, (groups, -1)) for own in (w, t)), eps)


class _MeanOverSpace(torch.autograd.Function):
    """Its gradient is a view of (n, c) numbers, in x's precision."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.shape, context.dtype = x.shape, x.dtype
        return x.mean(dim=(2, 3), dtype=torch.promote_types(x.dtype, torch.float32))

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        of_one = gradient / math.prod(context.shape[2:])
        return of_one.to(context.dtype)[:, :, None, None].expand(context.shape)


class _NormAndFilm(torch.autograd.Function):
    """y = w · (x − mean) / SD + t of groups of channels; w, t (n, groups, channels of one) float32."""

    @staticmethod
    def forward(context: Any, x: Tensor, w: Tensor, t: Tensor, eps: float) -> Tensor:
        size = w.shape[2] * x.shape[2] * x.shape[3]
        sums = x.sum(dim=(2, 3), dtype=w.dtype).view(w.shape)
        squares = torch.linalg.vector_norm(x, dim=(2, 3), dtype=w.dtype).square_().view(w.shape)
        mean = sums.sum(dim=2, keepdim=True) / size
        # What cancels here is below the rounding of x itself.
        variance = torch.addcmul(squares.sum(dim=2, keepdim=True) / size, mean, mean, value=-1).clamp_(min=0)
        rate = (variance + eps).rsqrt_()
        factor = w * rate
        context.save_for_backward(x, w, mean, rate)
        return torch.addcmul(_as_maps(torch.addcmul(t, mean, factor, value=-1), x), x, _as_maps(factor, x))

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, w, mean, rate = context.saved_tensors
        size = w.shape[2] * x.shape[2] * x.shape[3]
        of_t = gradient.sum(dim=(2, 3), dtype=w.dtype).view(w.shape)
        of_w = torch.addcmul((gradient * x).sum(dim=(2, 3), dtype=w.dtype).view(w.shape), mean, of_t, value=-1) * rate
        # Of x within the mean and the variance of its group: slope · x + constant.
        slope = (w * of_w).sum(dim=2, keepdim=True) * rate.square() / -size
        constant = -(w * of_t).sum(dim=2, keepdim=True) * rate / size - slope * mean
        maps = torch.addcmul(_as_maps(constant.expand(w.shape), x), x, _as_maps(slope.expand(w.shape), x))
        return maps.addcmul_(gradient, _as_maps(w * rate, x)), of_w, of_t, None


def _as_maps(own: Tensor, x: Tensor) -> Tensor:
    """Numbers (n, groups, channels of one) that act on maps x (n, c, h, w), in x's precision."""
    return own.to(x.dtype).reshape(*x.shape[:2], 1, 1)
