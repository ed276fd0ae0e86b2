"""Our step, in each precision and with each network that is asked for; and what this machine can do."""

import json
import os
import time
from typing import Any

import torch
from memory import peak_gb, start_counting
from peak import flops_per_second
from serving import serve

from rnagan.config.gan import GANConfig
from rnagan.training.op_counts import OpCounter
from rnagan.training.step_rate import TrainingStep

_RUNS: dict[str, dict[str, Any]] = {}


def run(request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "peak":
        return {"flops_per_second": flops_per_second(request["matrix"], request["dtypes"])}
    name = json.dumps(request["config"])
    if name not in _RUNS:
        _RUNS[name] = _set_up(request)
    made = _RUNS[name]
    began = time.perf_counter()
    for _ in range(request["steps"]):
        made["step"](made["number"], made["tiles"], made["c"])
        made["number"] += 1
    seconds = time.perf_counter() - began
    tiles = request["steps"] * len(made["tiles"])
    return {"seconds": seconds, "tiles": tiles, "flops_a_tile": made["flops"], "peak_gb": peak_gb()}


def _set_up(request: dict[str, Any]) -> dict[str, Any]:
    start_counting()
    config = GANConfig(**request["config"], threads=len(os.sched_getaffinity(0)))
    step = TrainingStep(config, request["condition_width"])
    tiles = torch.randint(0, 256, (config.batch_size, 3, config.resolution, config.resolution), dtype=torch.uint8)
    c = torch.randn(config.batch_size, request["condition_width"])
    step(0, tiles, c)
    with OpCounter() as counter:
        for number in range(config.critic_steps):
            step(number, tiles, c)
    flops = counter.flops / config.critic_steps / config.batch_size
    return {"step": step, "tiles": tiles, "c": c, "flops": flops, "number": 0}


if __name__ == "__main__":
    serve(run)
