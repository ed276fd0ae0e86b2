"""A process of `run_processes.py`: trains on its share of the batch; the first one tells the time of the slowest."""

import json
import sys
import time

import torch

from rnagan.config.gan import GANConfig
from rnagan.training.step_rate import TrainingStep


def main() -> None:
    request = json.loads(sys.argv[1])
    config = GANConfig(**request["config"], threads=request["threads"])
    width = request["condition_width"]
    step = TrainingStep(config, width)
    n = config.batch_size // request["processes"]
    tiles = torch.randint(0, 256, (n, 3, config.resolution, config.resolution), dtype=torch.uint8)
    c = torch.randn(n, width)
    for number in range(2 * config.critic_steps):
        step(number, tiles, c)
    _barrier()
    began = time.perf_counter()
    for number in range(request["steps"]):
        step(number, tiles, c)
    _barrier()
    seconds = time.perf_counter() - began
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        print(json.dumps({"seconds": seconds, "tiles": request["steps"] * config.batch_size}), flush=True)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _barrier() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


if __name__ == "__main__":
    main()
