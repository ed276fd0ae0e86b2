"""pytorch-fid: what its command does to a folder of images before it computes a score."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_fid import inception
from pytorch_fid.fid_score import IMAGE_EXTENSIONS, get_activations
from serving import serve

DIMS = 2048
_RUN: dict[str, Any] = {}


def run(request: dict[str, Any]) -> dict[str, Any]:
    if not _RUN:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        state = torch.load(request["weights"], weights_only=True)  # torch-fidelity has its names
        inception.load_state_dict_from_url = lambda *_, **__: state
        _RUN["model"] = inception.InceptionV3([inception.InceptionV3.BLOCK_INDEX_BY_DIM[DIMS]])
    began = time.perf_counter()
    folder = Path(request["folder"])
    files = sorted(path for extension in IMAGE_EXTENSIONS for path in folder.glob(f"*.{extension}"))
    workers = len(os.sched_getaffinity(0)) if request["workers"] else 0  # its command takes as many as there are cores
    found = get_activations(files, _RUN["model"], request["batch_size"], DIMS, "cpu", workers)
    seconds = time.perf_counter() - began
    if "keep" in request:
        np.save(request["keep"], found[: request["batch_size"]])
    return {"tiles": len(found), "seconds": seconds}


if __name__ == "__main__":
    serve(run)
