"""The device that networks compute on, and how it rounds: set once for the whole process, kept with every score."""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

import torch

AUTO = "auto"
_NAMES = re.compile(r"cpu|mps|cuda(:\d+)?")
_in_use: torch.device | None = None
_TRUE = ("y", "yes", "t", "true", "on", "1")  # as Accelerate reads its variables


def choose_device(wanted: str | torch.device = AUTO) -> torch.device:
    """The device of a name: cpu, cuda (the current GPU), cuda:1 (the second one), mps (Apple's GPU), or auto, which is
    the GPU where PyTorch sees one and the launcher didn't ask for the CPU, else the CPU.

    A `torch.device` is taken as it is. Raises `ValueError` where the name is none of these or there is no such device.
    """
    if isinstance(wanted, torch.device):
        return wanted
    if wanted == AUTO:
        return torch.device("cuda" if usable_gpus() else "cpu")
    if not _NAMES.fullmatch(wanted):
        raise ValueError(f"{wanted!r} is no device; choose auto, cpu, cuda, cuda:1 (the second GPU) or mps.")
    device, gpus = torch.device(wanted), _gpus()
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise ValueError(f"There is no device {wanted}: PyTorch sees {gpus} GPUs here; choose auto or cpu.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("There is no device mps: PyTorch sees no GPU of Apple's here; choose auto or cpu.")
    return device


def environment_of(device: torch.device) -> dict[str, str]:
    """The environment in which a training that is started as a program computes on this device.

    Raises `ValueError` of mps, which no training takes.
    """
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"Nothing is trained on {device.type}; choose --device cpu or cuda.")
    environment = dict(os.environ) | {"ACCELERATE_USE_CPU": str(device.type == "cpu").lower()}
    if device.index is not None and device.type == "cuda":
        seen = environment.get("CUDA_VISIBLE_DEVICES", "")
        environment["CUDA_VISIBLE_DEVICES"] = seen.split(",")[device.index] if seen else str(device.index)
    return environment


def usable_gpus() -> int:
    """GPUs that this process sees; 0 where its launcher asked for the CPU (`ACCELERATE_USE_CPU`)."""
    return 0 if os.environ.get("ACCELERATE_USE_CPU", "").lower() in _TRUE else _gpus()


def computes_bf16() -> bool:
    """Whether the device that `auto` means multiplies in bf16 itself: an older GPU emulates it, slower than float32."""
    if usable_gpus():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported()


def rounds_to_tf32(device: torch.device) -> bool:
    """Whether a device has products and convolutions in TF32: GPUs since Ampere."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def set_arithmetic(device: torch.device) -> None:
    """Note where this process computes, and have a GPU compute float32 as float32: by default PyTorch lets convolutions
    round to TF32.

    cuDNN's choice of algorithms by trial is off: the fastest one differs from start to start, and so do sums.
    """
    global _in_use
    _in_use = device
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # which older code asks
    torch.backends.cudnn.benchmark = False
    for each in _float32_computations():
        each.fp32_precision = "ieee"


@contextlib.contextmanager
def float32_computed_in(precision: str) -> Iterator[None]:
    """A block in which a GPU computes float32 as `ieee` has it, or rounds the inputs of products and convolutions to
    `tf32`; a CPU's float32 stays as it is."""
    before = [(each, each.fp32_precision) for each in _float32_computations()]
    try:
        for each, _ in before:
            each.fp32_precision = precision
        yield
    finally:
        for each, kept in before:
            each.fp32_precision = kept


def exact_float32() -> contextlib.AbstractContextManager[None]:
    """A block in which float32 is computed as `set_arithmetic` has it, whatever the process does otherwise."""
    return float32_computed_in("ieee")


def rounding(device: torch.device) -> dict[str, str]:
    """What decides how a kind of device rounds, for the digest of features: a GPU's never pass for a CPU's."""
    if device.type != "cuda":
        return {"device": device.type}
    convolutions, _, products = (each.fp32_precision for each in _float32_computations())  # ieee or tf32
    return {"device": device.type, "float32_convolutions": convolutions, "float32_products": products}


def arithmetic() -> dict[str, Any]:
    """How this process computes, for the record of a score, JSON-able: on the device that `set_arithmetic` noted."""
    device = choose_device() if _in_use is None else _in_use
    found: dict[str, Any] = dict(rounding(device))
    if device.type == "cuda":
        cudnn = torch.backends.cudnn
        found |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
        found |= {"cudnn": cudnn.version(), "cudnn_benchmark": cudnn.benchmark, "cudnn_fixed": cudnn.deterministic}
    return found


def _gpus() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _float32_computations() -> tuple[Any, Any, Any]:
    cudnn: Any = torch.backends.cudnn
    return cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul
