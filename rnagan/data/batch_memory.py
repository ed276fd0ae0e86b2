"""Memory of batches, used again when nobody holds a batch any more: fresh pages cost a tenth of decoding into them."""

import collections
import weakref

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class BatchMemory:
    """Uninitialised tensors of one shape and dtype. `keep`: how much unused memory is kept at most, in tensors."""

    def __init__(self, shape: tuple[int, ...], keep: int, dtype: npt.DTypeLike = np.uint8) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._free: collections.deque[npt.NDArray] = collections.deque(maxlen=keep)

    def take(self) -> Tensor:
        """A tensor whose memory comes back when it and all that shares it are gone."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(self.shape, self.dtype)
        lent = memory.view()  # the tensor, and whatever is made of it, holds this view and not the array itself
        weakref.finalize(lent, self._free.append, memory).atexit = False
        return torch.from_numpy(lent)

    def fresh(self, pin_memory: bool = False) -> Tensor:
        """A tensor with memory of its own; of pinned memory torch itself keeps what was used."""
        dtype = torch.from_numpy(np.empty(0, self.dtype)).dtype
        return torch.empty(self.shape, dtype=dtype, pin_memory=pin_memory)
