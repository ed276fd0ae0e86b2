import pytest
import torch
from accelerate import Accelerator
from torch import nn

from rnagan.training.gradient_norms import GradientNorms


def test_norm_is_of_all_gradients_together_and_a_mean_over_steps() -> None:
    accelerator, norms = Accelerator(cpu=True), GradientNorms()
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    expected = []
    for k in range(3):
        optimizer.zero_grad()
        (model(torch.full((4, 3), k + 1.0)) ** 2).sum().backward()
        expected.append(torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item())
        norms.add("critic", optimizer)
    found = norms.reduce(accelerator)
    assert found == {"gradient_norm/critic": pytest.approx(sum(expected) / 3)}
    by_tensor = sum(p.grad.norm().item() for p in model.parameters())  # a sum of norms is not the norm
    assert abs(by_tensor - expected[-1]) > 0.01 * expected[-1]
    assert norms.reduce(accelerator) == {}
    optimizer.zero_grad()  # as DeepSpeed leaves them
    norms.add("critic", optimizer)
    assert norms.reduce(accelerator) == {}
