"""The machine itself: its GPUs, and how fast bytes reach them."""

import os
import platform
import time
from typing import Any

import torch

from rnagan.doctor.gpu.catalogue import Place
from rnagan.runtime.devices import arithmetic, computes_bf16, set_arithmetic

COPIED_BYTES = 256_000_000


def machine(place: Place) -> tuple[str, dict[str, Any]]:
    """What there is, and a product and a convolution that come out right."""
    device = torch.device(place.device)
    set_arithmetic(device)
    gpus = [
        torch.cuda.get_device_properties(k) for k in range(torch.cuda.device_count() if place.device != "cpu" else 0)
    ]
    a = torch.arange(64.0, device=device).view(8, 8)
    assert torch.equal((a @ a).cpu(), a.cpu() @ a.cpu()), "a product of small integers is wrong"
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cores": len(os.sched_getaffinity(0)),
        "gpus": [{"name": own.name, "memory_bytes": own.total_memory} for own in gpus],
        "bf16": computes_bf16(),
        "arithmetic": arithmetic(),
    }
    names = ", ".join(f"{own.name} ({own.total_memory / 1e9:.0f} GB)" for own in gpus) or "the CPU"
    return f"{names}, torch {torch.__version__}, Python {platform.python_version()}", found


def copies(place: Place) -> tuple[str, dict[str, Any]]:
    """Bytes a second from pinned and from plain memory to the GPU, and within it."""
    sources = {
        "pinned": torch.empty(COPIED_BYTES, dtype=torch.uint8, pin_memory=True),
        "plain": torch.empty(COPIED_BYTES, dtype=torch.uint8),
        "own memory": torch.empty(COPIED_BYTES, dtype=torch.uint8, device="cuda"),
    }
    target = torch.empty(COPIED_BYTES, dtype=torch.uint8, device="cuda")
    found = {}
    for name, source in sources.items():
        target.copy_(source, non_blocking=True)
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(10):
            target.copy_(source, non_blocking=True)
        torch.cuda.synchronize()
        found[name] = 10 * COPIED_BYTES / (time.perf_counter() - began)
    return "GB/s from " + ", ".join(f"{name} {rate / 1e9:.1f}" for name, rate in found.items()), found
