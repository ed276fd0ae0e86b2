"""Transposes a table that is larger than memory, through one file on disk."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

_BAND = 1024  # samples that are in memory at a time with all their genes
_BUFFER_BYTES = 32 << 20


class Transposer:
    """Takes genes × samples in blocks of genes, gives samples × genes in blocks of samples.

    The file holds, block after block, its tiles of _BAND samples each, so that both ways read and write long runs.
    Memory: 32 MiB while taking, and _BAND × genes × 4 bytes twice while giving.
    """

    def __init__(self, path: Path, n_samples: int) -> None:
        self._file = open(path, "w+b", buffering=0)  # noqa: SIM115
        self._n_samples = n_samples
        self._waiting: list[NDArray[np.float32]] = []
        self._waiting_bytes = 0
        self._heights: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, values: NDArray[np.float32]) -> None:
        """Take float32 (genes, samples); it must not change afterwards."""
        if values.size == 0:
            return
        self._waiting.append(values)
        self._waiting_bytes += values.nbytes
        if self._waiting_bytes > _BUFFER_BYTES:
            self._flush()

    def rows(self, genes: NDArray[np.intp]) -> Iterator[NDArray[np.float32]]:
        """float32 (up to _BAND samples, len(genes)): the genes asked for, by the order in which they were taken."""
        self._flush()
        n_genes = sum(self._heights)
        column = np.full(n_genes, -1, dtype=np.intp)
        column[genes] = np.arange(len(genes))
        for first in range(0, self._n_samples, _BAND):
            width = min(_BAND, self._n_samples - first)
            band = np.empty((width, len(genes)), np.float32)
            place, offset = 0, 0
            for height in self._heights:
                columns = column[place : place + height]
                wanted = np.flatnonzero(columns >= 0)
                if len(wanted):
                    tile = np.empty((height, width), np.float32)
                    self._read(tile, 4 * (offset + height * first))
                    band[:, columns[wanted]] = (tile if len(wanted) == height else tile[wanted]).T
                place, offset = place + height, offset + height * self._n_samples
            yield band

    def _flush(self) -> None:
        if not self._waiting:
            return
        block = np.concatenate(self._waiting) if len(self._waiting) > 1 else self._waiting[0]
        self._waiting, self._waiting_bytes = [], 0
        self._heights.append(len(block))
        for first in range(0, self._n_samples, _BAND):
            data = np.ascontiguousarray(block[:, first : first + _BAND]).data.cast("B")
            while len(data):
                data = data[self._file.write(data) :]

    def _read(self, tile: NDArray[np.float32], offset: int) -> None:
        data = tile.data.cast("B")
        while len(data):
            read = os.preadv(self._file.fileno(), [data], offset)
            if read == 0:
                raise OSError(f"{self._file.name} ended early.")
            data, offset = data[read:], offset + read
