"""Plain WebDataset on our tars, as its documentation has it: shards in random order, a buffer of 1,000 samples.

`option.workers`; `option.decoder`: `rgb8`, its own, by Pillow, or `simplejpeg`.
"""

from collections.abc import Iterator
from typing import Any

import simplejpeg
import webdataset as wds
from measuring import answer, tars
from serving import Request, serve

SHUFFLED_SHARDS, SHUFFLED_SAMPLES = 100, 1000


def load(request: Request) -> Iterator[tuple[Any, Any]]:
    urls = list(map(str, tars(request["store"])))
    decoder = request["option"]["decoder"]
    dataset = (
        wds.WebDataset(urls, shardshuffle=SHUFFLED_SHARDS)
        .shuffle(SHUFFLED_SAMPLES)
        .decode(by_simplejpeg if decoder == "simplejpeg" else decoder)
        .to_tuple("jpg", "__key__")
        .batched(request["batch_size"])
    )
    yield from wds.WebLoader(dataset, batch_size=None, num_workers=request["option"]["workers"])


def by_simplejpeg(key: str, data: bytes) -> Any:
    """A decoder for `.decode`."""
    return simplejpeg.decode_jpeg(data, colorspace="RGB") if key.endswith("jpg") else None


if __name__ == "__main__":
    serve(lambda request: answer(request, load))
