"""What code computes and moves, operation by operation: counted on real tensors or on fake ones, without a GPU."""

import weakref
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

_MOVE_NOTHING = (
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
    *("detach", "alias", "_unsafe_view", "_reshape_alias"),
)


class Operation(NamedTuple):
    """One operation: the dtype of its floating-point result ("" where it has none), its FLOPs by PyTorch's formulas (a
    multiplication and an addition are two), and bytes of its inputs and outputs, each tensor once."""

    name: str
    dtype: str
    flops: int
    bytes: int


class OpCounter(TorchDispatchMode):
    """Lists operations while it is entered, but for views and bare allocations. PyTorch's FlopCounterMode can't look
    into a gradient's gradient.

    `live_bytes`: of all tensors seen that are still there; `peak_bytes`: most of it so far. An allocator needs more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.live_bytes = self.peak_bytes = 0
        self._seen: set[int] = set()

    @property
    def flops(self) -> int:
        return sum(one.flops for one in self.operations)

    def restart(self) -> None:
        """Forget operations and the peak; what is there stays counted."""
        self.operations, self.peak_bytes = [], self.live_bytes

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        options = options or {}
        result = function(*arguments, **options)
        if function.namespace != "aten" or function.is_view:
            return result
        given, made = _tensors((arguments, options)), _tensors(result)
        for tensor in (*given, *made):
            self._note(tensor.untyped_storage())
        name = function._schema.name.split("::")[1]
        if name in _MOVE_NOTHING or not (given or made):
            return result
        formula = flop_registry.get(function._overloadpacket)
        flops = formula(*arguments, **options, out_val=result) if formula else 0
        dtype = next((str(own.dtype).removeprefix("torch.") for own in made if own.is_floating_point()), "")
        moved = sum(map(bytes_of, {id(own): own for own in (*given, *made)}.values()))
        self.operations.append(Operation(name, dtype, int(flops), moved))
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key not in self._seen:
            self._seen.add(key)
            self.live_bytes += size
            self.peak_bytes = max(self.peak_bytes, self.live_bytes)
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live_bytes -= size


def bytes_of(tensor: Tensor) -> int:
    """Bytes of a tensor, what is expanded counted once."""
    count = 1
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= length if stride else 1
    return count * tensor.element_size()


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
