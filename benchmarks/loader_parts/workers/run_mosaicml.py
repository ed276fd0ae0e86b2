"""MosaicML Streaming: the very JPEGs in a column of bytes, since its `jpeg` encodes anew; decoded by Pillow as in its
documentation, shuffled in its default way. `option.workers`.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from measuring import answer, stored
from PIL import Image
from serving import Request, serve
from streaming import MDSWriter, StreamingDataset
from streaming.base.util import clean_stale_shared_memory
from torch.utils.data import DataLoader


class Tiles(StreamingDataset):
    def __getitem__(self, at: int) -> tuple[torch.Tensor, int]:
        sample = super().__getitem__(at)
        image = Image.open(io.BytesIO(sample["jpeg"])).convert("RGB")
        return torch.from_numpy(np.array(image)), sample["tile"]


def make(request: Request) -> None:
    with MDSWriter(out=request["to"], columns={"jpeg": "bytes", "tile": "int"}) as writer:
        for _, jpegs in stored(request["shards"]):
            for number, jpeg in jpegs:
                writer.write({"jpeg": jpeg, "tile": number})


def load(request: Request) -> Iterator[tuple[Any, Any]]:
    clean_stale_shared_memory()  # of the data set before
    dataset = Tiles(local=request["store"], shuffle=True, batch_size=request["batch_size"])
    yield from DataLoader(dataset, request["batch_size"], num_workers=request["option"]["workers"])


if __name__ == "__main__":
    serve(lambda request: answer(request, load, make))
