"""GPUs by name: what their vendor says they compute, move and hold. Nobody here has measured one."""

from typing import NamedTuple


class GPU(NamedTuple):
    """Peaks of one GPU, without sparsity.

    `reduced_flops`: a second in bf16 (fp16 where the GPU has no bf16), summed in float32, on tensor cores;
    `float32_flops`: in float32 proper, without TF32; `bandwidth`: bytes a second of its own memory; `memory`: bytes;
    `link`: bytes a second, in one direction, to the other GPUs of its machine.
    """

    name: str
    reduced_flops: float
    float32_flops: float
    bandwidth: float
    memory: float
    link: float
    source: str
    bf16: bool = True


_AMPERE = "https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/nvidia-a100-datasheet.pdf"
_PCIE4 = 32e9  # sixteen lanes, one direction
GPUS = (
    GPU("A100-40GB", 312e12, 19.5e12, 1.555e12, 40e9, 300e9, _AMPERE),
    GPU("A100-80GB", 312e12, 19.5e12, 2.039e12, 80e9, 300e9, _AMPERE),
    GPU("H100", 989e12, 67e12, 3.35e12, 80e9, 450e9, "https://www.nvidia.com/en-us/data-center/h100/"),
    GPU("H200", 989e12, 67e12, 4.8e12, 141e9, 450e9, "https://www.nvidia.com/en-us/data-center/h200/"),
    GPU("L40S", 362e12, 91.6e12, 0.864e12, 48e9, _PCIE4, "https://www.nvidia.com/en-us/data-center/l40s/"),
    GPU(
        "RTX-4090",
        165.2e12,
        82.6e12,
        1.008e12,
        24e9,
        _PCIE4,
        "https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf",
    ),
    GPU(
        "RTX-3090",
        71e12,
        35.6e12,
        0.936e12,
        24e9,
        _PCIE4,
        "https://www.nvidia.com/content/PDF/nvidia-ampere-ga-102-gpu-architecture-whitepaper-v2.pdf",
    ),
    GPU(
        "V100",
        125e12,
        15.7e12,
        0.9e12,
        32e9,
        150e9,
        "https://images.nvidia.com/content/technologies/volta/pdf/volta-v100-datasheet-update-us-1165301-r5.pdf",
        bf16=False,
    ),
)


def gpu_named(name: str) -> GPU:
    """The GPU of a name, however it is spelt (rtx 4090, RTX_4090); raises `ValueError` where it isn't known."""
    found = {_plain(gpu.name): gpu for gpu in GPUS}.get(_plain(name))
    if found is None:
        raise ValueError(f"--gpu {name} isn't known; choose {', '.join(gpu.name for gpu in GPUS)}.")
    return found


def gpu_of(device_name: str) -> GPU | None:
    """The GPU that PyTorch calls so ("NVIDIA A100-SXM4-80GB"); None where it isn't known."""
    name = _plain(device_name)
    return next((gpu for gpu in GPUS if all(part in name for part in gpu.name.lower().split("-"))), None)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
