"""The device that networks compute on."""

import re

import torch

AUTO = "auto"
_NAMES = re.compile(r"cpu|mps|cuda(:\d+)?")


def choose_device(wanted: str | torch.device = AUTO) -> torch.device:
    """The device of a name: cpu, cuda (the current GPU), cuda:1 (the second one), mps (Apple's GPU), or auto, which is
    the GPU where PyTorch sees one, else the CPU.

    A `torch.device` is taken as it is. Raises `ValueError` where the name is none of these or there is no such device.
    """
    if isinstance(wanted, torch.device):
        return wanted
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == AUTO:
        return torch.device("cuda" if gpus else "cpu")
    if not _NAMES.fullmatch(wanted):
        raise ValueError(f"{wanted!r} is no device; choose auto, cpu, cuda, cuda:1 (the second GPU) or mps.")
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise ValueError(f"There is no device {wanted}: PyTorch sees {gpus} GPUs here; choose auto or cpu.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("There is no device mps: PyTorch sees no GPU of Apple's here; choose auto or cpu.")
    return device
