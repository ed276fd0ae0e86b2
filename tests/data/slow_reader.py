"""Reads the tiles of a folder (argv 1) by two workers without end, and says so in another (argv 2)."""

import multiprocessing
import sys
import time
from pathlib import Path

from rnagan.data.index import open_dataset
from rnagan.data.loader import Loading, tile_batches
from rnagan.data.reader import TileReader
from rnagan.data.sampler import TileOrder
from rnagan.runtime.ends import answered_signals

if __name__ == "__main__":
    shards = open_dataset(sys.argv[1])
    names = shards.slides["slide"].tolist()
    order = TileOrder(shards.slides["tiles"].tolist(), seed=0, window=2)
    out = Path(sys.argv[2])
    batches = tile_batches(TileReader(shards, names), order, 0, 2, loading=Loading(workers=2))
    with answered_signals():  # as a command
        for number, _ in enumerate(batches):
            workers = " ".join(str(child.pid) for child in multiprocessing.active_children())
            (out / "new").write_text(f"{number} {workers}")
            (out / "new").replace(out / "read")
            time.sleep(0.01)
