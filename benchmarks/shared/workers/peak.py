"""What this machine can do at best."""

import os
import time
from collections.abc import Callable, Iterable

import torch


def flops_per_second(side: int, dtypes: Iterable[str] = ("float32", "bfloat16")) -> dict[str, float]:
    """Of a multiply of two matrices of that side on all cores, the best of three, by dtype."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    peak = {}
    for name in dtypes:
        a, b = (torch.randn(side, side).to(getattr(torch, name)) for _ in range(2))
        peak[name] = max(2 * side**3 / _seconds(lambda: a @ b) for _ in range(3))  # noqa: B023
    return peak


def bytes_per_second(count: int) -> float:
    """Of memory, by an addition in place of so many float32, as an optimiser has it: what is written was read before.

    The best of five.
    """
    x, y = (torch.ones(count) for _ in range(2))
    return max(12 * count / _seconds(lambda: x.add_(y, alpha=2.0)) for _ in range(5))


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
