"""The processors of this machine: what is there, whether PyTorch can compute on it, and in which precision."""

import dataclasses
import os
import shutil
import warnings
from collections import Counter
from pathlib import Path

import psutil
import torch
import torch.distributed

from rnagan.doctor.findings import Section
from rnagan.training.launch import resolve_precision

FREE = 0.8  # share of a GPU's memory that is free where nobody else uses it
BUSY = 0.5  # share of the cores that others keep busy, above which figures mislead
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container, in cgroups version 2


@dataclasses.dataclass(frozen=True)
class GPU:
    """A CUDA device as PyTorch sees it."""

    name: str
    memory_gb: float
    free_gb: float
    capability: str  # such as 9.0
    bf16: bool
    error: str = ""  # what a small multiplication on it raised; empty where it worked


@dataclasses.dataclass(frozen=True)
class Machine:
    """What was found. `cuda_error`: why PyTorch sees no CUDA device; `nvidia`: whether there is one all the same.

    `cores` are those that this process may use, of `cores_of_machine`; `cpu_quota` is how many of them a container
    may keep busy, None where it may all.
    """

    cpu: str
    cores: int
    cores_of_machine: int
    cpu_quota: float | None
    cpu_bf16: bool
    torch_cuda: str | None  # the CUDA version that PyTorch was built with
    cuda_error: str
    nvidia: bool
    gpus: tuple[GPU, ...]
    backends: dict[str, bool]


def check_machine(section: Section) -> None:
    """Find out about processors and backends, and say what is wrong with them."""
    others = _busy_share()  # before anything here computes
    machine = find_machine()
    precision = resolve_precision("auto")
    section.figures |= dataclasses.asdict(machine) | {"auto_precision": precision, "busy_share": others}
    check_gpus(section, machine)
    check_cpu(section, machine)
    check_backends(section, machine)
    section.ok(f"Precision auto computes in {precision} here.")
    if others > BUSY:
        section.warn(
            f"Other programs keep {others:.0%} of these cores busy, so the rates below may be too low.",
            "start the doctor again when the machine is idle",
        )


def find_machine() -> Machine:
    """Ask PyTorch and the operating system."""
    distributed = torch.distributed.is_available()
    with warnings.catch_warnings(record=True) as found:  # a driver that doesn't fit gives a warning alone
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
        gpus = tuple(_gpu(number) for number in range(torch.cuda.device_count() if usable else 0))
    return Machine(
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        cores_of_machine=os.cpu_count() or 1,
        cpu_quota=_cpu_quota(CPU_QUOTA),
        cpu_bf16=torch.cpu._is_avx512_bf16_supported(),
        torch_cuda=torch.version.cuda,
        cuda_error="" if usable else " ".join(str(warning.message).split(". ")[0].rstrip(".") for warning in found),
        nvidia=Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None,
        gpus=gpus,
        backends={
            "gloo": distributed and torch.distributed.is_gloo_available(),
            "nccl": distributed and torch.distributed.is_nccl_available(),
            "mpi": distributed and torch.distributed.is_mpi_available(),
        },
    )


def check_gpus(section: Section, machine: Machine) -> None:
    """A line a kind of GPU, or why there is none."""
    for number, gpu in enumerate(machine.gpus):
        if gpu.error:
            section.problem(
                f"GPU {number}, {gpu.name} (compute capability {gpu.capability}) can't compute: {gpu.error}.",
                "end what else uses it (nvidia-smi lists it), or install the PyTorch build for it (pytorch.org)",
            )
        elif gpu.free_gb < FREE * gpu.memory_gb:
            section.warn(
                f"GPU {number}, {gpu.name}: {gpu.free_gb:.0f} of {gpu.memory_gb:.0f} GB are free.",
                "end what else uses it (nvidia-smi lists it), or choose other GPUs by CUDA_VISIBLE_DEVICES",
            )
    kinds = Counter(
        f"{gpu.name}, {gpu.memory_gb:.0f} GB, compute capability {gpu.capability}, {'bf16' if gpu.bf16 else 'no bf16'}"
        for gpu in machine.gpus
        if not gpu.error
    )
    for kind, number in kinds.items():
        section.ok(f"{number} × {kind}; PyTorch was built with CUDA {machine.torch_cuda}.")
    if machine.gpus:
        return
    if machine.nvidia and machine.torch_cuda is None:
        section.warn(
            "There is an NVIDIA device and this PyTorch was built without CUDA.",
            "install a build with CUDA, see pytorch.org/get-started",
        )
    elif machine.nvidia:
        why = machine.cuda_error or "no reason given"
        section.warn(
            f"There is an NVIDIA device and PyTorch (built with CUDA {machine.torch_cuda}) can't use it: {why}.",
            "update the NVIDIA driver, or install a PyTorch built with a CUDA that nvidia-smi's allows; "
            "in a container, start it with the GPUs (docker run --gpus all)",
        )
    else:
        cuda = f"CUDA {machine.torch_cuda}" if machine.torch_cuda else "no CUDA"
        section.note(f"No GPU: training runs on the CPU, for trials at small size (PyTorch was built with {cuda}).")


def check_cpu(section: Section, machine: Machine) -> None:
    """Cores that may be used, and what they compute in."""
    bf16 = "computes in bf16" if machine.cpu_bf16 else "has no bf16 instructions"
    section.ok(f"{machine.cores} of {machine.cores_of_machine} CPU cores may be used ({machine.cpu}, {bf16}).")
    if machine.cpu_quota is not None and machine.cpu_quota < machine.cores:
        section.warn(
            f"This container may keep {machine.cpu_quota:g} of its {machine.cores} cores busy; as many threads as "
            "cores would be stopped again and again.",
            f"give the trainer --threads {max(1, int(machine.cpu_quota))} --loader-threads "
            f"{max(1, int(machine.cpu_quota))}, or the container more",
        )


def check_backends(section: Section, machine: Machine) -> None:
    """What processes can talk through."""
    there = [name for name, available in machine.backends.items() if available]
    if "gloo" not in there:
        section.problem(
            "PyTorch has no gloo, which processes on CPUs talk through.", "install the builds of pytorch.org"
        )
    if "nccl" not in there and len(machine.gpus) > 1:
        section.problem("PyTorch has no NCCL, which several GPUs talk through.", "install the builds of pytorch.org")
    absent = [name for name in machine.backends if name not in there]
    section.ok(
        f"Processes can talk through {' and '.join(there) or 'nothing'} (not built in: {', '.join(absent) or 'none'})."
    )


def _gpu(number: int) -> GPU:
    about = torch.cuda.get_device_properties(number)
    try:
        with torch.cuda.device(number):
            x = torch.ones(64, 64, device="cuda")
            error = "" if (x @ x).sum().item() == 64**3 else "a multiplication gave a wrong result"
            bf16, free = torch.cuda.is_bf16_supported(including_emulation=False), torch.cuda.mem_get_info()[0]
    except RuntimeError as problem:
        error, bf16, free = str(problem).splitlines()[0].rstrip("."), False, 0
    capability = f"{about.major}.{about.minor}"
    return GPU(about.name, about.total_memory / 1e9, free / 1e9, capability, bf16, error)


def _busy_share() -> float:
    """The share of the cores that this process may use which is busy now, 0 to 1."""
    percent = psutil.cpu_percent(interval=0.5, percpu=True)
    own = [percent[core] for core in os.sched_getaffinity(0) if core < len(percent)]
    return sum(own) / 100 / max(1, len(own))


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _cpu_quota(path: Path) -> float | None:
    """Cores' worth of time that a container's processes get, None where there is no bound."""
    try:
        quota, period = path.read_text().split()[:2]
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None
