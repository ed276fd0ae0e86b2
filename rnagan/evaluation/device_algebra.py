"""Linear algebra of tile scores on a device, in float64, for GPUs: 30 Fréchet distances of 60,000 tiles, and their
precision and recall, take a CPU minutes. On a CPU scores are computed by torch-fidelity (tile_scores.py)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def moments(features: NDArray, device: torch.device) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (d,) of features (n, d), and the sum (d, d) of the outer products of what differs from it."""
    x = _on(features, device)
    mean = x.mean(dim=0)
    centred = x - mean
    return mean.cpu().numpy(), (centred.T @ centred).cpu().numpy()


def trace_of_root(one: NDArray[np.float64], other: NDArray[np.float64], device: torch.device) -> float:
    """tr((Σ₁Σ₂)^½) of two covariances (d, d): the roots of the eigenvalues of Σ₁^½ Σ₂ Σ₁^½, which is symmetric."""
    values, vectors = torch.linalg.eigh(_on(one, device))
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return torch.linalg.eigvalsh(root @ _on(other, device) @ root).clamp(min=0).sqrt().sum().item()


def precision_recall(
    generated: NDArray, real: NDArray, neighbourhood: int, rows: int, device: torch.device
) -> tuple[float, float]:
    """Share of generated tiles within a real one's ball, and of real ones within a generated one's. A ball reaches to
    the tile's neighbour number `neighbourhood` of its own kind. `rows` of distances are computed at a time."""
    x, y = _on(generated, device), _on(real, device)
    own_x, own_y = (_reach(own, neighbourhood, rows) for own in (x, y))
    precise, recalled = x.new_zeros(()), y.new_zeros(len(y), dtype=torch.bool)
    for part, reach in zip(x.split(rows), own_x.split(rows), strict=True):
        distances = torch.cdist(part, y)
        precise += (distances <= own_y).any(dim=1).sum()
        recalled |= (distances <= reach[:, None]).any(dim=0)
    return precise.item() / len(x), recalled.double().mean().item()


def _reach(x: Tensor, neighbourhood: int, rows: int) -> Tensor:
    """Of each tile (n, d) the distance (n,) to its neighbour of that number; the nearest of all is itself."""
    return torch.cat(
        [torch.cdist(part, x).topk(neighbourhood + 1, largest=False).values[:, -1] for part in x.split(rows)]
    )


def _on(values: NDArray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(values)).to(device).double()  # a copy: mapped files can't be written to
