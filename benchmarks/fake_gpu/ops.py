"""A log of what a step does on a fake GPU: its maps, bytes touched, copies between host and device, collectives."""

import collections
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses import fake_impls, fake_tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rnagan.training.op_counts import bytes_of

_COUNTS = ("ops", "bytes", "to_device", "blocking", "to_host")
COPIES = ("_to_copy", "copy_", "_copy_from", "_copy_from_and_resize")


class Map(NamedTuple):
    """A tensor of four dimensions that an operation made on the device."""

    op: str
    shape: tuple[int, ...]
    dtype: str
    channels_last: bool


class OpLog(TorchDispatchMode):
    """Counts, while it is entered.

    `to_device`, `to_host`: copies between host and device; `blocking`: those to the device that don't say non_blocking.
    `bytes`: read and written by all operations on the device, each tensor once an operation, views as nothing. It is
    what memory traffic would be if no cache kept anything.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ops = self.bytes = self.to_device = self.blocking = self.to_host = 0
        self.maps: collections.Counter[Map] = collections.Counter()
        self.collectives: list[str] = []  # name and devices

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        result = function(*arguments, **(options or {}))
        name = function._schema.name.split("::")[1]
        given = [leaf for leaf in tree_leaves((arguments, options)) if isinstance(leaf, Tensor)]
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if function.namespace == "c10d":
            self.collectives.append(f"{name} {' '.join(sorted({own.device.type for own in given}))}")
            return result
        came_from = {own.device.type for own in given}
        goes_to = {own.device.type for own in made}
        if name in COPIES and "cpu" in came_from and "cuda" in goes_to:
            self.to_device += 1
            self.blocking += not (options or {}).get("non_blocking", False)
        # A mask as an index has its true places counted, and the host waits for the count.
        masks = any(own.dtype == torch.bool for own in given[1:]) and name in ("index", "index_put")
        if "cuda" in came_from and ("cpu" in goes_to or name == "_local_scalar_dense" or masks):
            self.to_host += 1
        if "cuda" not in came_from | goes_to or function.is_view or name in ("detach", "alias", "device"):
            return result
        self.ops += 1
        distinct = {id(own): own for own in [*given, *made] if own.device.type == "cuda"}
        self.bytes += sum(map(bytes_of, distinct.values()))
        for own in made:
            if own.dim() == 4:
                is_last = own.is_contiguous(memory_format=torch.channels_last)
                self.maps[Map(name, tuple(own.shape), str(own.dtype).split(".")[1], is_last)] += 1
        return result

    def counts(self) -> dict[str, Any]:
        """All of it, for JSON; maps as [op, shape, dtype, channels-last, how many]."""
        own = {name: getattr(self, name) for name in _COUNTS}
        return own | {"maps": [[*made, count] for made, count in self.maps.items()], "collectives": self.collectives}


def _all_but_a_diagonal(mode: FakeTensorMode, function: Any, mask: Tensor) -> Tensor:
    """`nonzero` of a square mask whose values aren't there: as SimCLR's loss has it, the one place that asks."""
    return mask.new_empty((mask.numel() - len(mask), mask.dim()), dtype=torch.int64)


def _apply(module: nn.Module, convert: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """`nn.Module._apply`, which can't move fake parameters to another device in place, with new ones."""
    for child in module.children():
        child._apply(convert)
    for name, own in module._parameters.items():
        if own is None:
            continue
        made = convert(own.detach())
        if (made.device, made.dtype, made.stride()) != (own.device, own.dtype, own.stride()):  # optimisers hold `own`
            module._parameters[name] = nn.Parameter(made, own.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            buffer.constant = None  # of a number that a fake tensor still knows, and would move to a device
            module._buffers[name] = convert(buffer)
    return module


@contextlib.contextmanager
def fake_gpu() -> Iterator[None]:
    """A block in which tensors are fake and cuda:0 is there. Real tensors on the CPU may join."""
    fake_tensor.init_gpu_context = lambda device: None  # it would allocate
    torch.cuda._lazy_init = lambda: None  # type: ignore[assignment]
    torch.cuda.current_device = lambda: 0
    torch.cuda.is_bf16_supported = lambda including_emulation=True: True
    torch.cuda.get_device_capability = lambda device=None: (9, 0)
    nn.Module._apply = _apply
    fake_impls.op_implementations_dict[torch.ops.aten.nonzero.default] = _all_but_a_diagonal
    fake_tensor.CONSTANT_NUMEL_LIMIT = 0  # it would compute with numbers that it knows, on the device
    with FakeTensorMode(allow_non_fake_inputs=True):
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(1, device="cuda") makes it here, then copies it
        yield
