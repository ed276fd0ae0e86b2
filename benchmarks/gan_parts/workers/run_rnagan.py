"""Our step, in the precision and with the networks asked for at the first request; and what this machine can do."""

import os
import time
from typing import Any

import torch
from memory import peak_gb, start_counting
from serving import serve
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from rnagan.config.gan import GANConfig
from rnagan.training.step_rate import TrainingStep

_RUN: dict[str, Any] = {}


class FlopCounter(TorchDispatchMode):
    """Sums what PyTorch's own formulas say of each operation; its FlopCounterMode can't look into a penalty."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        result = function(*arguments, **(options or {}))
        if function._overloadpacket in flop_registry:
            self.flops += flop_registry[function._overloadpacket](*arguments, **(options or {}), out_val=result)
        return result


def run(request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "peak":
        return {"flops_per_second": {name: _peak(getattr(torch, name)) for name in ("float32", "bfloat16")}}
    if not _RUN:
        start_counting()
        config = GANConfig(**request["config"], threads=len(os.sched_getaffinity(0)))
        step = TrainingStep(config, request["condition_width"])
        tiles = torch.randint(0, 256, (config.batch_size, 3, config.resolution, config.resolution), dtype=torch.uint8)
        c = torch.randn(config.batch_size, request["condition_width"])
        step(0, tiles, c)
        with FlopCounter() as counter:
            for number in range(config.critic_steps):
                step(number, tiles, c)
        flops = counter.flops / config.critic_steps / config.batch_size
        _RUN.update(step=step, tiles=tiles, c=c, flops=flops, number=0)
    began = time.perf_counter()
    for _ in range(request["steps"]):
        _RUN["step"](_RUN["number"], _RUN["tiles"], _RUN["c"])
        _RUN["number"] += 1
    seconds = time.perf_counter() - began
    tiles = request["steps"] * len(_RUN["tiles"])
    return {"seconds": seconds, "tiles": tiles, "flops_a_tile": _RUN["flops"], "peak_gb": peak_gb()}


def _peak(dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix multiply on all cores, the best of three."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    a, b = (torch.randn(4096, 4096).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(3):
        began = time.perf_counter()
        a @ b
        best = max(best, 2 * 4096**3 / (time.perf_counter() - began))
    return best


if __name__ == "__main__":
    serve(run)
