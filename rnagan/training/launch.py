"""Starting one process of a (possibly distributed) run, and refusing a launch that isn't what was asked for."""

import itertools
import os
from collections.abc import Mapping
from pathlib import Path

import psutil
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, set_seed

from rnagan.io.files import read_yaml
from rnagan.runtime.devices import computes_bf16, set_arithmetic, usable_gpus
from rnagan.runtime.distributed import own_cores
from rnagan.runtime.ends import is_accelerate_launch
from rnagan.runtime.meeting import join
from rnagan.runtime.memory import keep_freed_memory
from rnagan.training.deepspeed import asks_for_deepspeed, plugins_of_two

WAIT_MINUTES = 60  # as the trainers' settings have it: NCCL's own 10 are less than a validation may take


def start(
    precision: str, seed: int, threads: int = 0, two_networks: bool = False, wait_minutes: float = WAIT_MINUTES
) -> Accelerator:
    """Make the Accelerator of this process, which on a CPU keeps freed memory from then on.

    `precision`: auto, float64, float32, bf16 or fp16; `auto` is bf16 where the machine computes in it, else float32;
    float64 is for equality tests. `threads`: CPU threads of this process, 0 shares the cores among this machine's
    processes. `two_networks`: a generator and a critic are trained in turns, which DeepSpeed must know. `wait_minutes`:
    how long a process waits for the others, as while the main one encodes or saves.
    Raises `ValueError` when the launcher was asked for more processes than it started, when one doesn't come, when
    there are more than GPUs, and when the device doesn't compute in `precision`.
    """
    _forget_earlier_start()
    gpus = usable_gpus()
    use_cpu = not gpus
    if use_cpu:
        keep_freed_memory()
    precision = resolve_precision(precision)
    mixed_precision = precision if precision in ("bf16", "fp16") else "no"
    if precision == "fp16" and (use_cpu or asks_for_deepspeed()):
        raise ValueError("precision fp16 is for GPUs without DeepSpeed; choose bf16, or auto.")
    if precision == "bf16" and gpus and not computes_bf16():
        raise ValueError("precision bf16: this GPU only emulates it, slower than float32; choose fp16, or auto.")
    join(gpus, wait_minutes)
    if asks_for_deepspeed():
        # With cpu=True Accelerate would leave DeepSpeed out without a word; without gloo each process would be alone.
        handlers = [InitProcessGroupKwargs(backend="gloo")] if use_cpu else []
        plugins = plugins_of_two() if two_networks else None
        if two_networks:  # DeepSpeed's own bf16 would keep the weights in it, and compute the penalty: see gan/step.py
            mixed_precision = "no"
        accelerator = Accelerator(mixed_precision=mixed_precision, kwargs_handlers=handlers, deepspeed_plugins=plugins)
    else:
        views = DistributedDataParallelKwargs(gradient_as_bucket_view=True)  # gradients needn't be copied to be sent
        accelerator = Accelerator(cpu=use_cpu, mixed_precision=mixed_precision, kwargs_handlers=[views])
    set_arithmetic(accelerator.device)
    check_process_count(accelerator.num_processes, processes_asked())
    torch.set_num_threads(threads or own_cores())
    set_seed(seed)
    return accelerator


def _forget_earlier_start() -> None:
    """Accelerate keeps a process to the precision of its first run; one that is alone may choose anew."""
    if PartialState._shared_state and PartialState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)


def end_together(accelerator: Accelerator, wait: bool) -> None:
    """Leave the process group. A process that leaves while another still works can be aborted by the broken connection,
    so they wait for one another, unless one may be dead."""
    if wait:
        accelerator.wait_for_everyone()
    accelerator.end_training()


def resolve_precision(precision: str) -> str:
    """The precision that `auto` means on this machine."""
    if precision != "auto":
        return precision
    return "bf16" if computes_bf16() else "float32"


def dtype_of(precision: str) -> torch.dtype:
    """What weights are kept in: float64 where it is asked for, else float32, also where a forward computes in bf16."""
    return torch.float64 if precision == "float64" else torch.float32


def check_process_count(got: int, asked: int | None) -> None:
    """Refuse a launch that silently runs fewer processes than asked for (as `accelerate launch --cpu` does)."""
    if asked is not None and asked > 1 and got != asked:
        raise ValueError(
            f"{asked} processes were asked for and {got} started; on CPUs launch with "
            "launch_configs/cpu_two_processes.yaml and ACCELERATE_USE_CPU=true, or with torchrun; under srun, with "
            "the command's sbatch file of launch_configs/."
        )


def processes_asked() -> int | None:
    """Number of processes that the launcher above this process was asked for, or None when there was no launcher."""
    for parent in psutil.Process().parents():
        try:
            words = parent.cmdline()
        except psutil.Error:
            break
        if is_accelerate_launch(words):
            return _asked_of_accelerate(words)
    return _asked_in(os.environ)


def _asked_in(environment: Mapping[str, str]) -> int | None:
    """What torchrun, or srun with an sbatch file of launch_configs/, says in the environment of a process."""
    here, world, nodes = (environment.get(k, "") for k in ("LOCAL_WORLD_SIZE", "WORLD_SIZE", "SLURM_STEP_NUM_NODES"))
    if here and nodes:  # also where each node's launcher knows only of its own processes
        return int(here) * int(nodes)
    asked = world or environment.get("SLURM_STEP_NUM_TASKS", "")
    return int(asked) if asked else None


def _asked_of_accelerate(words: list[str]) -> int | None:
    options = dict(itertools.pairwise(words))
    options |= dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
    options = {name.replace("-", "_"): value for name, value in options.items()}  # accelerate takes both spellings
    if "__num_processes" in options:
        return int(options["__num_processes"])
    file = options.get("__config_file")
    if file and Path(file).is_file():
        return read_yaml(file).get("num_processes")
    return None
