"""All tensors of a batch in one piece of memory, so that one copy brings them to a GPU."""

import math
from collections.abc import Mapping
from typing import NamedTuple, Self

import torch
from torch import Tensor

_ALIGNED = 64  # bytes; every field begins at a multiple


class Row(NamedTuple):
    """What one item of a batch has of a field."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class Layout:
    """Where the fields of a batch of `count` items lie in memory of `nbytes` bytes: one after another."""

    def __init__(self, count: int, rows: Mapping[str, Row]) -> None:
        self.count, self.rows, self.nbytes = count, dict(rows), 0
        self._at: dict[str, int] = {}
        for name, row in self.rows.items():
            self._at[name] = self.nbytes
            size = count * math.prod(row.shape) * row.dtype.itemsize
            self.nbytes += -(-size // _ALIGNED) * _ALIGNED

    def view(self, memory: Tensor, name: str) -> Tensor:
        """A field (count, *shape) in `memory` (nbytes,) uint8, which it shares."""
        row, at = self.rows[name], self._at[name]
        size = self.count * math.prod(row.shape) * row.dtype.itemsize
        return memory[at : at + size].view(row.dtype).view(self.count, *row.shape)


class Packed(NamedTuple):
    """The fields of a batch, by name: tensors that share `memory`."""

    layout: Layout
    memory: Tensor  # (layout.nbytes,) uint8

    @classmethod
    def empty(cls, layout: Layout, pin_memory: bool = False) -> Self:
        """With memory of its own, which holds anything; pinned for a GPU."""
        return cls(layout, torch.empty(layout.nbytes, dtype=torch.uint8, pin_memory=pin_memory))

    def field(self, name: str) -> Tensor:
        """(count, *shape of a row)"""
        return self.layout.view(self.memory, name)

    def to(self, device: torch.device) -> Self:
        """All fields on a device, by one copy that nobody waits for where the memory is pinned."""
        return type(self)(self.layout, self.memory.to(device, non_blocking=True))
