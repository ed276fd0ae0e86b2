"""What each process of a tried launch does: say who it is, and time messages to the others.

Started by rnagan/doctor/launched.py: `accelerate launch … -m rnagan.doctor.launch_probe FOLDER SECONDS`.
"""

import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from rnagan.io.files import write_json
from rnagan.training.launch import end_together, start

REDUCED_BYTES = 64_000_000
BANDWIDTH_ROUNDS, LATENCY_ROUNDS = 5, 50


def main() -> None:
    """Leave FOLDER/PID.json; a process that hangs is ended by the kernel after SECONDS."""
    folder, seconds = Path(sys.argv[1]), int(sys.argv[2])
    signal.alarm(seconds)
    found: dict[str, Any] = {"rank": int(os.environ.get("RANK", "0")), "error": ""}
    accelerator = None
    try:
        accelerator = start("float32", seed=0)
        device = accelerator.device
        found |= {"device": str(device), "name": _device_name(device), "threads": torch.get_num_threads()}
        if dist.is_initialized() and dist.get_world_size() > 1:
            found |= {"backend": dist.get_backend(), **_time_messages(device)}
    except (ValueError, RuntimeError) as error:
        found["error"] = str(error).splitlines()[0]
    found["processes"] = dist.get_world_size() if dist.is_initialized() else 1
    write_json(folder / f"{os.getpid()}.json", found)
    if accelerator is not None:
        end_together(accelerator, wait=not found["error"])


def _time_messages(device: torch.device) -> dict[str, float]:
    """Median seconds of an all-reduce of `REDUCED_BYTES`, and of one of 4 bytes."""
    large = torch.ones(REDUCED_BYTES // 4, device=device)
    dist.all_reduce(large)
    if not (large == dist.get_world_size()).all():  # as on GPUs whose direct copies the machine breaks
        raise RuntimeError("the sum of ones over all processes is wrong")
    small = torch.ones(1, device=device)
    return {
        "reduce_seconds": _median_seconds(lambda: dist.all_reduce(large), device, BANDWIDTH_ROUNDS),
        "latency_seconds": _median_seconds(lambda: dist.all_reduce(small), device, LATENCY_ROUNDS),
    }


def _median_seconds(call: Callable[[], object], device: torch.device, rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        dist.barrier()
        _finish(device)
        began = time.perf_counter()
        call()
        _finish(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


if __name__ == "__main__":
    main()
