"""The loader: a WebDataset pipeline whose source follows `TileOrder`, read by offset from plain tars."""

import functools
import os
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import webdataset as wds
from torch import Tensor

from rnagan.data.images import decode_image
from rnagan.data.index import ShardSet
from rnagan.data.order import TileOrder

OPEN_SLIDES = 512  # file handles and indexes kept; at least the order's window


class Batch(NamedTuple):
    """Tiles of images `start` … `start + n − 1` of the endless sequence."""

    start: int
    images: Tensor  # (n, 3, H, W) uint8, channels-last memory
    slides: Tensor  # (n,) int64, rows of the selection's table


class TileReader:
    """Reads stored tiles by (slide, k); every read is checked against the index's CRC-32."""

    def __init__(self, shards: ShardSet, slides: list[str]) -> None:
        self.shards, self.slides = shards, slides
        self._open = functools.lru_cache(maxsize=OPEN_SLIDES)(self._open_slide)

    def read(self, slide: int, k: int) -> bytes:
        """The JPEG bytes of tile k of a slide, exactly as stored."""
        name = self.slides[slide]
        handle, offset, size, crc = self._open(name)
        data = os.pread(handle.fileno(), size[k], offset[k])
        if zlib.crc32(data) != crc[k]:
            raise ValueError(
                f"{self.shards.tar_path(name)} is damaged at tile {k} (CRC-32 differs); build this slide again."
            )
        return data

    def _open_slide(self, name: str) -> tuple:
        index = self.shards.index(name)
        columns = (index[column].to_numpy() for column in ("offset", "size", "crc32"))
        return open(self.shards.tar_path(name), "rb"), *columns


def tile_batches(
    reader: TileReader, order: TileOrder, start: int, batch_size: int, rank: int = 0, processes: int = 1
) -> Iterator[Batch]:
    """Endless batches of this process from image number `start` on.

    Global batch b is images start + bB … start + (b+1)B−1; each process takes its slice, so the union over processes is
    the same for any number of them; B must be divisible by `processes`. `start` may be any image number.
    """
    if batch_size % processes:
        raise ValueError(f"batch_size {batch_size} can't be shared evenly by {processes} processes.")
    share = batch_size // processes
    source = functools.partial(_samples, reader, order, start + rank * share, share, batch_size)
    decode = wds.map(functools.partial(_decode, reader))
    return iter(wds.DataPipeline(source, decode, wds.batched(share, collation_fn=_collate, partial=False)))


def _samples(reader: TileReader, order: TileOrder, first: int, share: int, stride: int) -> Iterator[dict]:
    while True:
        for number, (slide, k) in enumerate(order.locate(first, share).tolist(), start=first):
            yield {"number": number, "slide": slide, "k": k, "jpg": reader.read(slide, k)}
        first += stride


def _decode(reader: TileReader, sample: dict) -> dict:
    try:
        image = decode_image(sample["jpg"])
    except ValueError as error:
        tar = reader.shards.tar_path(reader.slides[sample["slide"]])
        raise ValueError(
            f"{tar} holds no readable image at tile {sample['k']} ({error}); build this slide again."
        ) from None
    return {"number": sample["number"], "slide": sample["slide"], "image": image}


def _collate(samples: list[dict]) -> Batch:
    images = torch.from_numpy(np.stack([sample["image"] for sample in samples])).permute(0, 3, 1, 2)
    return Batch(samples[0]["number"], images, torch.tensor([sample["slide"] for sample in samples]))
