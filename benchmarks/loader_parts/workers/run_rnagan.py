"""Ours. `option`: threads, and workers (processes)."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from measuring import answer
from serving import Request, serve

from rnagan.data.index import open_dataset
from rnagan.data.loader import Loading, tile_batches
from rnagan.data.reader import TileReader
from rnagan.data.sampler import TileOrder


def load(request: Request) -> Iterator[tuple[Any, Any]]:
    """Endless; for a check an epoch."""
    shards = open_dataset(request["store"])
    counts = shards.slides["tiles"].to_numpy(np.int64)
    (tiles_a_slide,) = set(counts.tolist())
    reader, order = TileReader(shards, shards.slides["slide"].tolist(), counts), TileOrder(counts, seed=0)
    batches = tile_batches(reader, order, 0, request["batch_size"], loading=Loading(**request["option"]))
    epoch = order.epoch_length // request["batch_size"]
    for batch in itertools.islice(batches, epoch if request["do"] == "check" else None):
        yield batch.images, batch.slides * tiles_a_slide + batch.tiles


if __name__ == "__main__":
    serve(lambda request: answer(request, load))
