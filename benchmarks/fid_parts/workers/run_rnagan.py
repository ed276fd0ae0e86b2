"""Our extraction, two evaluations in a row, memory; and what the extractor alone takes, its input at hand."""

import os
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from memory import peak_gb, start_counting
from ours import extract, open_tiles, set_up
from serving import serve
from torch_fidelity import feature_extractor_inceptionv3 as inception

from rnagan.api import RNAGAN
from rnagan.config.gan import GANConfig
from rnagan.evaluation.feature_store import BATCH, Wanted, cached_features
from rnagan.models.gan_generator import GANGenerator
from rnagan.models.generators import build_generator
from rnagan.runtime.distributed import processes

_RUN: dict[str, Any] = {}


def run(request: dict[str, Any]) -> dict[str, Any]:
    if _RUN.get("name") != request["extractor"]:
        _RUN.clear()
        _RUN.update(name=request["extractor"], extractor=set_up(request, len(os.sched_getaffinity(0))))
    return {"extract": _extract, "bare": _bare, "evaluations": _evaluations, "memory": _memory}[request["do"]](request)


def _extract(request: dict[str, Any]) -> dict[str, Any]:
    began = time.perf_counter()
    features = extract(request, _RUN["extractor"], processes(), "features.npy")
    seconds = time.perf_counter() - began
    assert features is not None  # of one process
    if "keep" in request:
        np.save(request["keep"], features[:BATCH])
    return {"tiles": len(features), "seconds": seconds}


def _bare(request: dict[str, Any]) -> dict[str, Any]:
    """The network on one batch of floats of the size and range that it sees, over and over."""
    if "x" not in _RUN:
        tiles = torch.from_numpy(open_tiles(request)(range(request["batch_size"]))).permute(0, 3, 1, 2)
        _RUN["x"], _RUN["forward"] = _prepare(_RUN["extractor"], tiles)
    batches = request["images"] // request["batch_size"]
    began = time.perf_counter()
    with torch.no_grad(), _as_it_is():
        for _ in range(batches):
            _RUN["forward"](_RUN["x"])
    return {"tiles": batches * request["batch_size"], "seconds": time.perf_counter() - began}


def _prepare(extractor: Any, tiles: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """Its input, and the network behind decoding, resizing and scaling."""
    if extractor.name == "efficientnet_lite0":  # 256 px are a multiple of 32: nothing is resized
        x = ((tiles.float() - 127) / 128).contiguous(memory_format=torch.channels_last)
        return x, lambda x: extractor.maps(x).mean((2, 3))
    # Its forward wants bytes, and resizes and scales them itself, so it is given bytes of its own size: what is left
    # beside the network is a cast and a scaling.
    side = inception.FeatureExtractorInceptionV3.INPUT_IMAGE_SIZE
    resized = torch.nn.functional.interpolate(tiles.float(), size=(side, side), mode="bilinear", align_corners=False)
    return resized.round().to(torch.uint8), extractor.network


def _as_it_is() -> Any:
    """A context in which Inception-v3 doesn't resize."""
    return mock.patch.object(inception, "interpolate_bilinear_2d_like_tensorflow1x", lambda x, **_: x)


def _evaluations(request: dict[str, Any]) -> dict[str, Any]:
    """Features of as many real as generated tiles, for two models in turn; real ones are made for the first alone.

    Tiles are generated before, since only extraction is compared, and generating is reported beside it.
    """
    extractor, count, out = _RUN["extractor"], request["images"], Path(request["out"])
    seconds, generating = [], []
    for seed in range(2):
        began = time.perf_counter()
        generated = _generate(count, seed)
        generating.append(time.perf_counter() - began)
        sources = (
            ("real", out / "cache", open_tiles(request)),
            (
                "generated",
                out / f"generated-{seed}",
                lambda numbers, tiles=generated: tiles[numbers.start : numbers.stop],
            ),
        )
        began = time.perf_counter()
        for kind, folder, tiles in sources:
            described = {"tiles": kind, "extractor": extractor.name, "weights": extractor.weights}
            wanted = Wanted(folder, described, extractor)
            cached_features([wanted], tiles, count, processes(), kind, torch.device("cpu"))
        seconds.append(time.perf_counter() - began)
    return {"tiles": 3 * count, "first": seconds[0], "second": seconds[1], "generating": generating}


def _generate(count: int, seed: int) -> np.ndarray:
    """By a model of the article's size, in the mode that takes no profiles; its weights are random."""
    torch.manual_seed(seed)
    config = GANConfig(mode="gan")
    model = RNAGAN(
        config, GANGenerator(config, build_generator(config, 0).eval(), 0), None, ["lung"], "random", frozenset()
    )
    batches = [range(first, min(first + BATCH, count)) for first in range(0, count, BATCH)]
    return np.concatenate([model.generate_numbered(None, ["slide"] * len(batch), list(batch), 0) for batch in batches])


def _memory(request: dict[str, Any]) -> dict[str, Any]:
    """Peak of an extraction, above what was there when all had run once, less the features themselves."""
    extract(request | {"images": request["warm_up_images"]}, _RUN["extractor"], processes(), "warm.npy")
    start_counting()
    features = extract(request, _RUN["extractor"], processes(), "features.npy")
    assert features is not None
    return {"tiles": len(features), "mib": peak_gb() * 1e9 / 2**20 - features.nbytes / 2**20}


if __name__ == "__main__":
    serve(run)
