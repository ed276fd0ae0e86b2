"""litData: the very JPEGs, decoded as it does by default (torchvision), shuffled as by default. `option.workers`."""

import functools
from collections.abc import Iterator
from typing import Any

import litdata
from litdata.types import Jpeg
from measuring import answer, jpegs_of, tars
from serving import Request, serve


def make(request: Request) -> None:
    slides = list(range(len(tars(request["shards"]))))
    write = functools.partial(samples, request["shards"])
    litdata.optimize(write, slides, request["to"], chunk_bytes="64MB", num_workers=1, reorder_files=False)


def samples(shards: str, slide: int) -> Iterator[dict[str, Any]]:
    for number, jpeg in jpegs_of(tars(shards)[slide]):
        yield {"jpeg": Jpeg(bytes=jpeg), "tile": number}


def load(request: Request) -> Iterator[tuple[Any, Any]]:
    dataset = litdata.StreamingDataset(request["store"], shuffle=True)
    workers = request["option"]["workers"]
    for batch in litdata.StreamingDataLoader(dataset, batch_size=request["batch_size"], num_workers=workers):
        yield batch["jpeg"], batch["tile"]


if __name__ == "__main__":
    serve(lambda request: answer(request, load, make))
