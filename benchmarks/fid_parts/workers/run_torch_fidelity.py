"""torch-fidelity: what its command does to a folder of images before it computes a score."""

import os
import time
from typing import Any

import numpy as np
import torch
from serving import serve
from torch_fidelity.utils import create_feature_extractor, extract_featuresdict_from_input_id

LAYER = "2048"
_RUN: dict[str, Any] = {}


def run(request: dict[str, Any]) -> dict[str, Any]:
    if not _RUN:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        _RUN["extractor"] = create_feature_extractor(
            "inception-v3-compat",
            [LAYER],
            cuda=False,
            feature_extractor_weights_path=request["weights"],
            verbose=False,
        )
    began = time.perf_counter()
    found = extract_featuresdict_from_input_id(
        1,
        _RUN["extractor"],
        input1=request["folder"],
        batch_size=request["batch_size"],
        cuda=False,
        cache=False,
        save_cpu_ram=not request["workers"],  # it chooses their number itself, or takes none
        verbose=False,
    )[LAYER]
    seconds = time.perf_counter() - began
    if "keep" in request:
        np.save(request["keep"], found[: request["batch_size"]].numpy())
    return {"tiles": len(found), "seconds": seconds}


if __name__ == "__main__":
    serve(run)
