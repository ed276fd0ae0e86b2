"""Measures a loader; runs in the environments of the peers. A loader is an iterable of batches: images and numbers.

Images are uint8, (n, H, W, 3) or (n, 3, H, W); numbers say which tile each is. A request has `do`: `make` (write the
tiles of `shards` in this contender's own form to `to`), `check` (read an epoch) or `rate`; `option`; `batch_size`; and
for the latter two `store`, what was made.
"""

import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from serving import Request

Loader = Iterable[tuple[Any, Any]]


def answer(request: Request, load: Callable[[Request], Loader], make: Callable[[Request], None] | None = None) -> dict:
    """Do what is asked."""
    if request["do"] == "make":
        assert make
        make(request)
        return {}
    return {"check": check, "rate": rate}[request["do"]](load(request), request)


def rate(loader: Loader, request: Request) -> dict[str, Any]:
    """Tiles that arrive in `seconds`, after `warm_up_seconds` in which workers start and buffers fill.

    An epoch that ends before ends the measurement.
    """
    batches = iter(loader)
    next(batches)
    began = time.perf_counter()
    while time.perf_counter() - began < request["warm_up_seconds"]:
        next(batches)
    tiles, seconds, began = 0, 0.0, time.perf_counter()
    for images, _ in batches:
        tiles, seconds = tiles + len(images), time.perf_counter() - began
        if seconds >= request["seconds"]:
            break
    return {"tiles": tiles, "seconds": seconds}


def check(loader: Loader, request: Request) -> dict[str, Any]:
    """One epoch: how many tiles, how many different by number and by content, how far a sample is from the truth."""
    with np.load(request["sample"]) as sample:
        truth = dict(zip(sample["numbers"].tolist(), sample["pixels"].astype(np.int16), strict=True))
    tiles, seen, contents, differences = 0, set(), set(), []
    for images, numbers in loader:
        assert len(images) <= request["batch_size"] and len(images) == len(numbers)
        pixels = np.asarray(images)
        assert pixels.dtype == np.uint8
        pixels = pixels if pixels.shape[-1] == 3 else pixels.transpose(0, 2, 3, 1)
        for image, number in zip(pixels, map(int, numbers), strict=True):
            tiles += 1
            seen.add(number)
            contents.add(hash(image.tobytes()))
            if number in truth:
                differences.append(np.abs(image - truth[number]))
    return {
        "tiles": tiles,
        "different": len(seen),
        "different_in_content": len(contents),
        "compared": len(differences),
        "largest_difference": int(np.max(differences)),
        "mean_difference": float(np.mean(differences)),
    }


def stored(shards: str) -> Iterator[tuple[str, list[tuple[int, bytes]]]]:
    """Slides with their numbered JPEGs."""
    for path in tars(shards):
        yield path.stem, jpegs_of(path)


def tars(shards: str) -> list[Path]:
    return sorted(Path(shards).glob("*.tar"))


def jpegs_of(path: Path) -> list[tuple[int, bytes]]:
    """The numbered JPEGs of a tar, by tarfile."""
    with tarfile.open(path) as tar:
        images = [member for member in tar if member.name.endswith(".jpg")]
        return [(int(member.name.removesuffix(".jpg")), tar.extractfile(member).read()) for member in images]
