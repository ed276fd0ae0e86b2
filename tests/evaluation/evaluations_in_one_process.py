"""Scores a model again and again in one process, and prints the resident MiB before that and after each time
(test_fid.py starts it).

Features are Inception's, with any weights, cut to a few so that the scores take no time: memory goes into its maps.
"""

import sys
from pathlib import Path

import psutil
import torch

from rnagan.evaluation.features import make_extractor
from rnagan.evaluation.fid import compute_fid
from rnagan.evaluation.test_set import EvaluationInputs
from rnagan.runtime.distributed import Processes
from rnagan.tracking import evaluations


class FewFeatures:
    """The first 16 features of Inception's 2,048."""

    name, width, resizer, weights = "few", 16, "bilinear to 299 px", "random"

    def __init__(self, weights: Path) -> None:
        self.whole = make_extractor("inception_v3", weights)

    def __call__(self, tiles):
        return self.whole(tiles)[:, : self.width]

    def logits(self, features):
        """Not asked for here."""


def say_memory() -> None:
    print("MiB", round(psutil.Process().memory_info().rss / 2**20), flush=True)


if __name__ == "__main__":
    weights, out, *paths = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    evaluations._mirror = lambda _: None
    extractor = FewFeatures(weights)
    say_memory()
    for k in range(4):
        cache = out / str(k) / "cache"
        compute_fid(EvaluationInputs(*paths), cache.parent, extractor, cache, Processes(0, 1), count=16, map_tiles=0)
        say_memory()
        extractor = FewFeatures(weights)
