"""Whole weights and moments of a model that Accelerate has prepared, which DeepSpeed cuts into parts, and back.

So a checkpoint is the same few safetensors whether one process, DDP or ZeRO wrote it, and each goes on from any other.
"""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import DeepSpeedPlugin, DistributedType
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rnagan.training.checkpoint import Moments, moments_of

# ZeRO stages of a generator and of its critic that give what one process gives (tests/training/gan/test_processes.py).
# A critic at stage 3 is wrong without an error: its penalty passes DeepSpeed by.
STAGES = {0: 0, 1: 1, 2: 2, 3: 2}


class Prepared(NamedTuple):
    """A network and its optimiser as Accelerate wraps them, and the Accelerator that takes its steps: under DeepSpeed
    each network has its own."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator


def uses_deepspeed(accelerator: Accelerator) -> bool:
    return accelerator.distributed_type == DistributedType.DEEPSPEED


def asks_for_deepspeed() -> bool:
    """Whether the launcher of this process asked for DeepSpeed."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"


def plugins_of_two() -> dict[str, DeepSpeedPlugin]:
    """DeepSpeed's settings for a generator, with the launcher's zero_stage, and for the critic beside it."""
    given = {
        "deepspeed_config_file": os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE"),
        "offload_optimizer_device": os.environ.get("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE"),
        "offload_param_device": os.environ.get("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE"),
        "gradient_clipping": os.environ.get("ACCELERATE_GRADIENT_CLIPPING"),
    }
    for name, value in given.items():
        if value not in (None, "none", "auto"):
            raise ValueError(f"A GAN takes zero_stage alone of DeepSpeed's settings; leave {name} {value} out.")
    stage = DeepSpeedPlugin().zero_stage
    if stage not in STAGES:
        raise ValueError(f"zero_stage {stage} is none of {', '.join(map(str, STAGES))}.")
    stages = {"generator": stage, "critic": STAGES[stage]}
    return {name: DeepSpeedPlugin(zero_stage=own, zero3_init_flag=False) for name, own in stages.items()}


def expect_batches_of(accelerator: Accelerator, count: int) -> None:
    """Tell DeepSpeed, which would ask a data loader of its own, how many samples a process takes a step."""
    if uses_deepspeed(accelerator):
        settings = accelerator.deepspeed_plugin.deepspeed_config
        settings["train_micro_batch_size_per_gpu"] = count
        if settings.get("gradient_clipping") == "auto":  # Accelerate would make it 1, and no other launch clips
            settings["gradient_clipping"] = 0.0


def prepare_each(
    accelerator: Accelerator, count: int, networks: dict[str, tuple[nn.Module, torch.optim.Optimizer]], bf16: bool
) -> list[Prepared]:
    """Prepare networks that are trained in turns on `count` samples a process, by the names of their plugins.

    `bf16`: their forward computes in it where tensors allow, as the Accelerator itself has it without DeepSpeed.
    """
    if not uses_deepspeed(accelerator):
        wrapped = accelerator.prepare(*(part for pair in networks.values() for part in pair))
        return [Prepared(*pair, accelerator) for pair in zip(wrapped[::2], wrapped[1::2], strict=True)]
    prepared = []
    for k, (name, (network, optimizer)) in enumerate(networks.items()):
        own = Accelerator(mixed_precision=accelerator.mixed_precision) if k else accelerator
        own.state.select_deepspeed_plugin(name)
        if bf16:  # the instance's forward, as Accelerate does: the class's stays in full precision, for the penalty
            network.forward = torch.autocast(own.device.type, torch.bfloat16)(network.forward)
        expect_batches_of(own, count)
        module, optimizer = own.prepare(network, optimizer)
        prepared.append(Prepared(module, optimizer, own))
    return prepared


def unwrapped(module: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The network in what Accelerate has prepared.

    Accelerate's own `unwrap_model` imports DeepSpeed to look for it, which takes seconds and prints a warning.
    """
    is_wrapped = isinstance(module, DistributedDataParallel) or uses_deepspeed(accelerator)
    return module.get_submodule("module") if is_wrapped else module


def is_cut(network: nn.Module) -> bool:
    """Whether ZeRO has cut a network's state into parts (stage 1 and above)."""
    return any(hasattr(weight, "ds_id") or hasattr(weight, "_hp_mapping") for weight in network.parameters())


def gathered(network: nn.Module) -> contextlib.AbstractContextManager:
    """All weights of a network, on every process, in a `with` block; every process must enter it."""
    if not any(hasattr(weight, "ds_id") for weight in network.parameters()):
        return contextlib.nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(list(network.parameters()))


def are_finite(accelerator: Accelerator, networks: Iterable[nn.Module]) -> bool:
    """Whether no weight is NaN or infinite on any process. Every process must call it."""
    # ZeRO 3 keeps a process's own part of a weight in ds_tensor.
    weights = [getattr(weight, "ds_tensor", weight) for network in networks for weight in network.parameters()]
    bad = (~torch.stack([weight.isfinite().all() for weight in weights]).all()).float()
    return not accelerator.reduce(bad, "sum").item()


def whole_weights(network: nn.Module) -> dict[str, Tensor]:
    """All weights, where they are and not copied, or on the CPU where ZeRO has cut them. Every process must call it."""
    state = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    if is_cut(network):
        from deepspeed.utils import safe_get_full_fp32_param

        state |= {name: safe_get_full_fp32_param(weight).cpu() for name, weight in network.named_parameters()}
    return state


def whole_moments(network: nn.Module, optimizer: torch.optim.Optimizer) -> Moments:
    """Adam's state, where it is and not copied, or on the CPU where ZeRO has cut it. Every process must call it."""
    if not is_cut(network):
        return moments_of(optimizer)
    from deepspeed.utils import safe_get_full_optimizer_state

    _link_moments(optimizer)
    tensors: dict[str, Tensor] = {}
    (step,) = {float(own["step"]) for own in _inner(optimizer).state.values()} or {0.0}
    for k, weight in enumerate(network.parameters()):
        for field in ("exp_avg", "exp_avg_sq"):
            tensors[f"{k}.{field}"] = safe_get_full_optimizer_state(weight, field).cpu()
        tensors[f"{k}.step"] = torch.tensor(step)
    numbers = iter(range(len(tensors) // 3))
    groups = [
        {**group, "params": list(itertools.islice(numbers, size))}
        for group, size in zip(optimizer.param_groups, _group_sizes(network, optimizer), strict=False)
    ]
    return Moments(tensors, groups)


def _group_sizes(network: nn.Module, optimizer: torch.optim.Optimizer) -> list[int]:
    """How many weights each group of an optimiser had before ZeRO laid them end to end."""
    zero = _stage_1_or_2(optimizer)
    if zero is None:  # stage 3, at which no network has several groups
        return [len(list(network.parameters()))]
    return [len(group) for group in zero.bit16_groups]


def _link_moments(optimizer: torch.optim.Optimizer) -> None:
    """Let DeepSpeed find the moments of every group's weights: by itself it looks for them once, after the first step
    of the first group, when the other groups have none yet."""
    zero = _stage_1_or_2(optimizer)
    if zero is not None:
        from deepspeed.utils import lazy_init_hp_params_optimizer_state

        for group, flat in zip(zero.bit16_groups, zero.single_partition_of_fp32_groups, strict=True):
            lazy_init_hp_params_optimizer_state(group, flat, _inner(optimizer).state)


def _stage_1_or_2(optimizer: Any) -> Any:
    """ZeRO's own optimiser within what Accelerate wraps around it; None at stage 3."""
    while not hasattr(optimizer, "bit16_groups"):
        if not hasattr(optimizer, "optimizer"):
            return None
        optimizer = optimizer.optimizer
    return optimizer


def make_room(optimizers: Iterable[torch.optim.Optimizer], step: Callable[[], None]) -> None:
    """Make one `step`, of any batch, at whose end ZeRO 1 and 2 have room for moments; the weights stay as they are."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    rates = [group["lr"] for group in groups]
    for group in groups:
        group["lr"] = 0.0
    step()
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] = rate


def put_moments(network: nn.Module, optimizer: torch.optim.Optimizer, moments: dict[str, Tensor]) -> None:
    """Give the optimiser of a network that ZeRO has cut the moments of a checkpoint, after `make_room`. Every process
    must call it. Weights are loaded before ZeRO cuts them: what is written into them later, a forward sees a step late.
    """
    from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

    _link_moments(optimizer)
    for k, weight in enumerate(network.parameters()):
        for field in ("exp_avg", "exp_avg_sq"):
            value = moments[f"{k}.{field}"].to(weight.device)
            if hasattr(weight, "ds_id"):
                safe_set_local_optimizer_state(weight, _own_part(weight, value), field)
            else:
                safe_set_full_optimizer_state(weight, value, field)
    for own in _inner(optimizer).state.values():
        own["step"].copy_(moments["0.step"])  # each its own: Adam counts them up in place


def _own_part(weight: Any, value: Tensor) -> Tensor:
    """What ZeRO 3 keeps of a weight's `value` on this process: one of equal parts, the last filled up with zeros.

    DeepSpeed's own `safe_set_full_optimizer_state` fails where the number of processes doesn't divide a weight's size.
    """
    size, rank = weight.ds_tensor.numel(), torch.distributed.get_rank()
    part = value.flatten()[rank * size : (rank + 1) * size]
    return F.pad(part, (0, size - len(part)))


def _inner(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Adam itself, within what Accelerate and ZeRO wrap around it."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer
