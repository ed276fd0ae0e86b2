"""What a rank of a launch does with features on disk (test_feature_store.py starts two): `features_on_disks.py CASE
FOLDER` prints one line of JSON."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rnagan.evaluation import feature_store
from rnagan.runtime.distributed import processes
from rnagan.training.launch import end_together, start

TILES = 70  # of 768 bytes of features each: batches end within pages of 4 KiB
written: set[str] = set()


class Rows:
    """The first rows of a tile as its features."""

    name, width, resizer, weights = "rows", 192, "none", "none"

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        return tiles[:, :2].reshape(len(tiles), -1).astype(np.float32)

    def logits(self, features: np.ndarray) -> None:
        """It is no classifier."""


def note(event: str, given: tuple[Any, ...]) -> None:
    """Files that this process opened to write in them."""
    if event == "open" and set(str(given[1])) & set("wax+"):
        written.add(str(given[0]))


def tiles(numbers: range) -> np.ndarray:
    return np.stack([np.full((32, 32, 3), number, np.uint8) for number in numbers])


if __name__ == "__main__":
    case, folder = sys.argv[1], Path(sys.argv[2])
    accelerator = start("float32", 0)
    here = processes()
    if case == "stale" and not here.is_main:  # this machine still sees what another one has deleted
        is_file = Path.is_file
        Path.is_file = lambda path: path.parent == folder or is_file(path)
    if case == "apart":
        folder = folder / str(here.rank)
    sys.addaudithook(note)
    found: dict[str, Any] = {}
    try:
        wanted = [feature_store.Wanted(folder, {"tiles": "real"}, Rows())]
        ((features, _),) = feature_store.cached_features(wanted, tiles, TILES, here, "Tiles", torch.device("cpu"))
        if features is not None:
            found["sha256"] = hashlib.sha256(np.ascontiguousarray(features).tobytes()).hexdigest()
    except FileNotFoundError as error:
        found["error"] = str(error)
    found["written"] = sorted(name for name in written if name.startswith(str(folder)))
    print(json.dumps(found), flush=True)
    end_together(accelerator, wait=True)
