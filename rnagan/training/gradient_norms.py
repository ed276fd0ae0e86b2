"""How large gradients are, for a run's rows of metrics."""

import torch
from accelerate import Accelerator
from torch import Tensor


class GradientNorms:
    """Mean Euclidean norm of all gradients of a network, by name, over its optimiser's steps since the last row.

    Under DDP every process has the same, averaged gradients. DeepSpeed keeps gradients to itself: there is none to look
    at, and no row.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.steps: dict[str, int] = {}

    @torch.no_grad()
    def add(self, name: str, optimizer: torch.optim.Optimizer) -> None:
        """Count one step, right before it is made. No host sync."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if gradients:
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)).float())
            self.sums[name] = self.sums[name] + norm if name in self.sums else norm
            self.steps[name] = self.steps.get(name, 0) + 1

    def reduce(self, accelerator: Accelerator) -> dict[str, float]:
        """`gradient_norm/NAME` by name, a mean over steps and processes; starts new sums."""
        row = {
            f"gradient_norm/{name}": accelerator.reduce(self.sums[name], "mean").item() / self.steps[name]
            for name in sorted(self.sums)
        }
        self.sums, self.steps = {}, {}
        return row
