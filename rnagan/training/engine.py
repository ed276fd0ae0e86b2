"""Whole weights and moments of a model that Accelerate has prepared, which DeepSpeed cuts into parts, and back.

So a checkpoint is the same few safetensors whether one process, DDP or ZeRO wrote it, and each goes on from any other.
"""

from collections.abc import Callable

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

from rnagan.training.checkpoint import Moments, moments_of


def uses_deepspeed(accelerator: Accelerator) -> bool:
    return accelerator.distributed_type == DistributedType.DEEPSPEED


def expect_batches_of(accelerator: Accelerator, count: int) -> None:
    """Tell DeepSpeed, which would ask a data loader of its own, how many samples a process takes a step."""
    if uses_deepspeed(accelerator):
        accelerator.deepspeed_plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = count


def whole_weights(accelerator: Accelerator, network: nn.Module) -> dict[str, Tensor]:
    """All weights on the CPU, not copied where they are there already. Every process must call it."""
    state = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    if uses_deepspeed(accelerator):
        from deepspeed.utils import safe_get_full_fp32_param

        state |= {name: safe_get_full_fp32_param(weight) for name, weight in network.named_parameters()}
    return {name: tensor.cpu() for name, tensor in state.items()}


def whole_moments(accelerator: Accelerator, network: nn.Module, optimizer: torch.optim.Optimizer) -> Moments:
    """Adam's state. Every process must call it."""
    if not uses_deepspeed(accelerator):
        return moments_of(optimizer)
    from deepspeed.utils import safe_get_full_optimizer_state

    tensors: dict[str, Tensor] = {}
    (step,) = {float(own["step"]) for own in _inner(optimizer).state.values()} or {0.0}
    for k, weight in enumerate(network.parameters()):
        for field in ("exp_avg", "exp_avg_sq"):
            tensors[f"{k}.{field}"] = safe_get_full_optimizer_state(weight, field).cpu()
        tensors[f"{k}.step"] = torch.tensor(step)
    groups = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    return Moments(tensors, [group | {"params": list(range(k + 1))} for group in groups[:1]])


def put_back(
    accelerator: Accelerator,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    weights: dict[str, Tensor],
    moments: dict[str, Tensor],
    backward: Callable[[], None],
) -> None:
    """Give DeepSpeed the weights and moments of a checkpoint, after `prepare`. Every process must call it.

    `backward` is one of any batch: ZeRO 1 and 2 make room for moments at the first step only.
    """
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    for group in optimizer.param_groups:
        group["lr"] = 0.0
    backward()
    for k, (name, weight) in enumerate(network.named_parameters()):
        safe_set_full_fp32_param(weight, weights[name].to(accelerator.device))
        for field in ("exp_avg", "exp_avg_sq"):
            safe_set_full_optimizer_state(weight, moments[f"{k}.{field}"].to(accelerator.device), field)
    for own in _inner(optimizer).state.values():
        own["step"] = moments["0.step"].to(own["step"])


def _inner(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Adam itself, within what Accelerate and ZeRO wrap around it."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer
