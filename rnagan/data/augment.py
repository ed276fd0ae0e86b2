"""Augmentation of image batches, every draw addressed by image number."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnagan.runtime import rng

TRANSLATION = 0.125  # of the side; DiffAugment's value (Zhao et al. 2020)
CUTOUT = 0.5  # of the side; likewise


def draw_turns(seed: int, start: int, count: int) -> NDArray[np.uint8]:
    """Draws for images start … start+count−1, (count, 3): upside down or not, mirrored or not, quarter turns 0 … 3."""
    draws = rng.uniform(seed, "flip", start, count, 3)
    return np.column_stack([draws[:, :2] < 0.5, np.floor(4 * draws[:, 2])]).astype(np.uint8)


def turned(x: Tensor, ways: Tensor, *, flips: bool, turns: bool) -> Tensor:
    """Flips and quarter turns of x (n, C, H, H) as `draw_turns` drew them, `ways` (n, 3) on x's device."""
    out, ways = x, ways[:, :, None, None, None]
    if flips:
        for axis, column in ((2, 0), (3, 1)):
            out = torch.where(ways[:, column] > 0, out.flip(axis), out)
    if turns:
        for turns_left in (1, 2):  # the two bits of 0 … 3 quarter turns
            out = torch.where(ways[:, 2] % (2 * turns_left) >= turns_left, out.rot90(turns_left, (2, 3)), out)
    return out.contiguous(memory_format=torch.channels_last)


def flip_and_turn(x: Tensor, seed: int, start: int, *, flips: bool, turns: bool) -> Tensor:
    """Random flips and quarter turns, every symmetry of a square alike. x (n, C, H, H) are images start … start+n−1."""
    ways = torch.from_numpy(draw_turns(seed, start, len(x))).to(x.device)
    return turned(x, ways, flips=flips, turns=turns)


def draw_corners(seed: int, start: int, count: int, margin_px: int) -> NDArray[np.int64]:
    """Draws for images start … start+count−1, (count, 2): first row and column, 0 … 2·margin_px, of a tile in a stored
    image that is wider by `margin_px` on each side."""
    return np.floor(rng.uniform(seed, "shift", start, count, 2) * (2 * margin_px + 1)).astype(np.int64)


def draw_jitter(seed: int, start: int, count: int) -> NDArray[np.float64]:
    """Draws for images start … start+count−1, (count, 4) in (-1, 1): brightness, contrast, saturation and hue."""
    return 2 * rng.uniform(seed, "jitter", start, count, 4) - 1


def jittered(x: Tensor, draws: Tensor, strength: float) -> Tensor:
    """Brightness, contrast and saturation within ±strength, hue turned within ±strength/4 rad. x in [-1, 1]; `draws`
    as of `draw_jitter`, where and as x is."""
    brightness, contrast, saturation = (1 + strength * draws.T[:3])[:, :, None, None, None]
    x = (x + 1) / 2 * brightness
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = (x - mean) * contrast + mean
    grey = x.mean(dim=1, keepdim=True)
    hues = torch.einsum("nij,njhw->nihw", _hue_matrices(draws[:, 3] * strength / 4), x - grey)
    return ((grey + hues * saturation) * 2 - 1).clamp(-1, 1)


def _hue_matrices(angle: Tensor) -> Tensor:
    """Rotations of RGB space about its grey axis, (n, 3, 3) for angles (n,) in rad (Rodrigues)."""
    eye = torch.eye(3, device=angle.device)
    cross = (3**-0.5 * (eye.roll(1, 0) - eye.roll(-1, 0))).to(angle)
    sin, cos = torch.sin(angle)[:, None, None], torch.cos(angle)[:, None, None]
    return eye.to(angle) + sin * cross + (1 - cos) * (cross @ cross)


class DiffAugment(NamedTuple):
    """Draws of one differentiable augmentation, to be applied to real and generated tiles (Zhao et al. 2020).

    Where tiles are on a GPU the draws are best there too: each call would copy them.
    """

    shift: np.ndarray | Tensor  # (n, 2) px
    corner: np.ndarray | Tensor  # (n, 2) px, first row and column of the cut-out square; may lie outside

    def __call__(self, x: Tensor) -> Tensor:
        """Translate with zero (mid-grey) filling, then cut a square out. x (n, C, H, H); differentiable."""
        side = x.shape[-1]
        base = torch.arange(side, device=x.device)
        shift, corner = (torch.as_tensor(own).to(x.device) for own in self)
        rows, columns = (base[None] + shift[:, k : k + 1] for k in (0, 1))
        inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
        flat = rows.clamp(0, side - 1)[:, :, None] * side + columns.clamp(0, side - 1)[:, None, :]
        moved = x.flatten(2).gather(2, flat.flatten(1)[:, None].expand(-1, x.shape[1], -1)).view_as(x)
        into = base - corner[:, :, None]  # (n, 2, side) px past the corner
        cut = (into >= 0) & (into < int(CUTOUT * side))
        keep = inside & ~(cut[:, 0, :, None] & cut[:, 1, None, :])
        return (moved * keep[:, None]).contiguous(memory_format=torch.channels_last)


def draw_diffaugment(seed: int, purpose: str, start: int, count: int, side: int) -> DiffAugment:
    """Draws for images start … start+count−1 of `side` px."""
    draws = rng.uniform(seed, purpose, start, count, 4)
    reach = int(TRANSLATION * side)
    shift = np.floor(draws[:, :2] * (2 * reach + 1)).astype(np.int64) - reach
    return DiffAugment(shift, np.floor(draws[:, 2:] * side).astype(np.int64) - int(CUTOUT * side) // 2)
