"""A process of `run_processes.py`: extracts its share; the first one tells the time of the slowest."""

import json
import sys
import time

import torch
from ours import extract, set_up

from rnagan.evaluation.feature_store import BATCH
from rnagan.runtime.distributed import processes


def main() -> None:
    request = json.loads(sys.argv[1])
    torch.distributed.init_process_group("gloo")
    here, extractor = processes(), set_up(request, request["threads"])
    extract(request | {"images": here.count * BATCH}, extractor, here, "warm.npy")
    began = time.perf_counter()
    extract(request, extractor, here, "features.npy")  # ends when the slowest has
    if here.is_main:
        print(json.dumps({"seconds": time.perf_counter() - began, "tiles": request["images"]}), flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
