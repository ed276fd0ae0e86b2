"""Our extractor and tiles, as compute_fid uses them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from rnagan.data.index import open_dataset
from rnagan.evaluation.feature_store import Features, read_features, write_features
from rnagan.evaluation.features import INCEPTION, FeatureExtractor, make_extractor
from rnagan.evaluation.real_tiles import NumberedTiles
from rnagan.runtime.distributed import Processes
from rnagan.runtime.memory import keep_freed_memory


def set_up(request: dict[str, Any], threads: int) -> FeatureExtractor:
    torch.set_num_threads(threads)
    keep_freed_memory()  # as compute_fid does
    name = request["extractor"]
    return make_extractor(name, request["weights"] if name == INCEPTION else None)


def open_tiles(request: dict[str, Any]) -> NumberedTiles:
    """All tiles, by number."""
    shards = open_dataset(request["shards"])
    counts = shards.slides["tiles"].to_numpy(np.int64)
    return NumberedTiles(shards, shards.slides, counts, shards.tile_px)


def extract(request: dict[str, Any], extractor: FeatureExtractor, here: Processes, to: str) -> Features | None:
    """Of the first `images` tiles; None on other processes than the main one."""
    path = Path(request["out"]) / to
    write_features({path: extractor}, open_tiles(request), request["images"], here, "Tiles")
    return read_features(path) if here.is_main else None
