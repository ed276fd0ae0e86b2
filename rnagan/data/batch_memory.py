"""Memory of batches, used again when nobody holds a batch any more: fresh pages cost a tenth of decoding into them."""

import collections
import weakref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class BatchMemory:
    """Tensors of one shape, uint8. `keep`: how much unused memory is kept at most, in tensors."""

    def __init__(self, shape: tuple[int, ...], keep: int) -> None:
        self.shape = shape
        self._free: collections.deque[NDArray[np.uint8]] = collections.deque(maxlen=keep)

    def take(self) -> Tensor:
        """An uninitialised tensor. Its memory comes back when it and all that shares it are gone."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(self.shape, np.uint8)
        lent = memory.view()  # the tensor, and whatever is made of it, holds this view and not the array itself
        weakref.finalize(lent, self._free.append, memory).atexit = False
        return torch.from_numpy(lent)
