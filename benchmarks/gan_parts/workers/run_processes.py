"""Our step on one process of all cores, or on a process a core: the rate of the whole."""

import time
from typing import Any

import torch
from launching import launch
from serving import serve

from rnagan.config.gan import GANConfig
from rnagan.training.step_rate import TrainingStep


def member(request: dict[str, Any]) -> dict[str, Any]:
    """Train on this process's share of the batch; the time is that of the slowest."""
    config = GANConfig(**request["config"], threads=request["threads"])
    width = request["condition_width"]
    step = TrainingStep(config, width)
    n = config.batch_size // request["processes"]
    tiles = torch.randint(0, 256, (n, 3, config.resolution, config.resolution), dtype=torch.uint8)
    c = torch.randn(n, width)
    for number in range(2 * config.critic_steps):
        step(number, tiles, c)
    torch.distributed.barrier()
    began = time.perf_counter()
    for number in range(request["steps"]):
        step(number, tiles, c)
    torch.distributed.barrier()
    seconds = time.perf_counter() - began
    torch.distributed.destroy_process_group()
    return {"seconds": seconds, "tiles": request["steps"] * config.batch_size}


if __name__ == "__main__":
    serve(lambda request: launch(member, request))
