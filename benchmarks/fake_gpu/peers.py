"""A second process that isn't there: collectives are called, reach nobody and leave tensors as they are."""

import os
from typing import Any

import torch
import torch.nn.parallel.distributed as ddp
from torch import Tensor, distributed
from torch._subclasses import fake_impls
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.distributed.fake_pg import FakeStore

_ENVIRONMENT = {
    "RANK": "0",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "0",
    "LOCAL_WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "1",
}


def join_a_peer() -> None:
    """Make this process the first of two, before it starts a run. DDP then takes one step; at the second it would look
    at the addresses of its tensors."""
    os.environ.update(_ENVIRONMENT)
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    ddp._verify_param_shape_across_processes = lambda *_: None  # it compares what the processes say
    build = ddp.DistributedDataParallel.__init__

    def built(network: Any, *arguments: Any, **options: Any) -> None:
        build(network, *arguments, **options)
        network.register_comm_hook(None, _send)

    ddp.DistributedDataParallel.__init__ = built  # type: ignore[method-assign]
    fake_impls.op_implementations_dict[torch.ops.aten._local_scalar_dense.default] = _nothing


def _send(_: Any, bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:
    """What DDP does with gradients by itself, but for the answer, which the group that isn't there doesn't give."""
    gradients, done = bucket.buffer(), torch.futures.Future()  # type: ignore[var-annotated]
    distributed.all_reduce(gradients)
    done.set_result(gradients)
    return done


def _nothing(mode: FakeTensorMode, function: Any, scalar: Tensor) -> float:
    """A number of a tensor whose value isn't there, such as a mean that is written down."""
    return 0.0
