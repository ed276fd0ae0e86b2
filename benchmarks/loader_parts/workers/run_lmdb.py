"""The published loader (Carrillo-Perez et al. 2023, its released `PatchDataset`), with batches and shuffling as here.

A database a slide, its values LZ4 frames of pickled (name, pixels, shape), in OpenCV's order of channels; it is opened
anew for each tile. `option.open_once` keeps it open instead; `option.workers`. Left out, in its favour: conversion to
floats, normalisation, and the turn to channels first.
"""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import lmdb
import lz4.frame
import numpy as np
import simplejpeg
import torch
from measuring import answer, stored
from serving import Request, serve
from torch.utils.data import DataLoader, Dataset


class Tiles(Dataset):
    """All tiles of a folder of databases."""

    def __init__(self, folder: str, open_once: bool) -> None:
        self.open_once, self.items = open_once, []
        self.opened: dict[str, lmdb.Environment] = {}  # each process opens its own
        for path in map(str, sorted(Path(folder).glob("*.db"))):
            with open_read_only(path).begin() as transaction:
                keys = pickle.loads(lz4.frame.decompress(transaction.get(b"__keys__")))
            self.items += [(path, key) for key in keys]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, at: int) -> tuple[torch.Tensor, int]:
        path, key = self.items[at]
        with self.open(path).begin(write=False) as transaction:
            value = transaction.get(key)
        name, pixels, shape = pickle.loads(lz4.frame.decompress(value))
        image = np.copy(np.frombuffer(pixels, dtype=np.uint8).reshape(shape))
        return torch.from_numpy(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)), int(name)

    def open(self, path: str) -> lmdb.Environment:
        if not self.open_once:
            return open_read_only(path)
        if path not in self.opened:
            self.opened[path] = open_read_only(path)
        return self.opened[path]


def open_read_only(path: str) -> lmdb.Environment:
    return lmdb.open(path, subdir=False, readonly=True, lock=False, readahead=False, meminit=False)


def make(request: Request) -> None:
    folder = Path(request["to"])
    folder.mkdir()
    for slide, jpegs in stored(request["shards"]):
        with lmdb.open(str(folder / f"{slide}.db"), subdir=False, map_size=1 << 30, lock=False) as database:
            with database.begin(write=True) as transaction:
                for number, jpeg in jpegs:
                    pixels = simplejpeg.decode_jpeg(jpeg, colorspace="BGR")
                    value = pickle.dumps((str(number), pixels.tobytes(), pixels.shape))
                    transaction.put(b"%06d" % number, lz4.frame.compress(value))
                keys = [b"%06d" % number for number, _ in jpegs]
                transaction.put(b"__keys__", lz4.frame.compress(pickle.dumps(keys)))


def load(request: Request) -> Iterator[tuple[Any, Any]]:
    dataset = Tiles(request["store"], request["option"]["open_once"])
    yield from DataLoader(dataset, request["batch_size"], shuffle=True, num_workers=request["option"]["workers"])


if __name__ == "__main__":
    serve(lambda request: answer(request, load, make))
