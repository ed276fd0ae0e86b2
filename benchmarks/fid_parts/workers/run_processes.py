"""Our extraction on one process of all cores, or on a process a core: the rate of the whole."""

import time
from typing import Any

import torch
from launching import launch
from ours import extract, set_up
from serving import serve

from rnagan.evaluation.feature_store import BATCH
from rnagan.runtime.distributed import processes


def member(request: dict[str, Any]) -> dict[str, Any]:
    """Extract this process's share; that ends when the slowest has."""
    torch.distributed.init_process_group("gloo")
    here, extractor = processes(), set_up(request, request["threads"])
    extract(request | {"images": min(here.count * BATCH, request["images"])}, extractor, here, "warm.npy")
    began = time.perf_counter()
    extract(request, extractor, here, "features.npy")
    seconds = time.perf_counter() - began
    torch.distributed.destroy_process_group()
    return {"seconds": seconds, "tiles": request["images"]}


if __name__ == "__main__":
    serve(lambda request: launch(member, request))
