"""What the generator sees of a profile, and the noise beside it."""

from pathlib import Path

import torch
from torch import Tensor, nn

from rnagan.config.families import TileConfig
from rnagan.config.gan import GANConfig
from rnagan.io.weights import read_tensors
from rnagan.runtime import rng

NUISANCE = ("nuisance_mean", "nuisance_sd")  # tensors of a bottleneck that sees a slide's stain too


class Bottleneck(nn.Module):
    """Active latent units, standardised with fixed statistics of the training split.

    Units that are not active are left out, never divided by a tiny SD (DESIGN.md, "Conditioning").
    mu (n, latent) float in; c (n, width) out. `nuisance`: mean and SD, each (k,), of the training slides' stains, which
    c has beside the profile; then a stain (n, k) or (1, k) is taken with mu, the average one where none is given.
    """

    units: Tensor
    mean: Tensor
    sd: Tensor
    nuisance_mean: Tensor
    nuisance_sd: Tensor

    def __init__(self, units: Tensor, mean: Tensor, sd: Tensor, nuisance: tuple[Tensor, Tensor] | None = None) -> None:
        super().__init__()
        self.register_buffer("units", units.long())
        self.register_buffer("mean", mean.float())
        self.register_buffer("sd", sd.float())
        beside = (torch.zeros(0), torch.ones(0)) if nuisance is None else nuisance
        for name, values in zip(NUISANCE, beside, strict=True):  # models without it are stored as they were before it
            self.register_buffer(name, values.float(), persistent=nuisance is not None)

    @property
    def width(self) -> int:
        return self.units.numel() + self.nuisance_mean.numel()

    def of_profile(self, mu: Tensor) -> Tensor:
        """What c has of the profile, (n, units)."""
        return (mu[:, self.units] - self.mean) / self.sd

    def forward(self, mu: Tensor, stain: Tensor | None = None) -> Tensor:
        stain = self.nuisance_mean[None] if stain is None else stain
        beside = (stain.float() - self.nuisance_mean) / self.nuisance_sd
        return torch.cat([self.of_profile(mu), beside.expand(len(mu), -1)], dim=1)


def load_bottleneck(path: Path, latent: int | None = None) -> Bottleneck:
    """Read the bottleneck of a model folder. Raises `ValueError` where it is none, or, of a β-VAE of `latent` units, of
    another one."""
    found = read_tensors(path, ("units", "mean", "sd"))
    units, mean, sd = found["units"], found["mean"], found["sd"]
    known = units.dim() == 1 and units.shape == mean.shape == sd.shape and not units.is_floating_point()
    nuisance = None
    if any(name in found for name in NUISANCE):
        nuisance = found.get(NUISANCE[0], torch.empty(0, 0)), found.get(NUISANCE[1], torch.empty(0, 0))
        known = known and nuisance[0].dim() == 1 and nuisance[0].shape == nuisance[1].shape
    if not known or (latent is not None and units.numel() and not 0 <= int(units.min()) <= int(units.max()) < latent):
        raise ValueError(f"{path} isn't the condition of this β-VAE; copy the model folder again.")
    return Bottleneck(units, mean, sd, nuisance)


def make_bottleneck(
    config: TileConfig, active: Tensor, mean: Tensor, sd: Tensor, nuisance: tuple[Tensor, Tensor] | None = None
) -> Bottleneck:
    """The condition of a config: `active` are latent units by falling KL; `mean`, `sd` (latent,) of the training split;
    `nuisance` as `Bottleneck` takes it.

    `latent_plus_noise` passes every unit as it is, as the paper does.
    """
    if config.condition == "latent_plus_noise":
        return Bottleneck(torch.arange(mean.numel()), torch.zeros_like(mean), torch.ones_like(sd))
    units = active[: config.condition_units]
    if not units.numel():
        raise ValueError("The VAE has no active latent unit, so there is nothing to condition on; lower its beta.")
    return Bottleneck(units, mean[units], sd[units], nuisance)


def noise_maps(resolution: int, grain: bool) -> list[int]:
    """Sides, in px, of the noise maps of a generator, DCGAN's excepted: with `grain` up to the tile's own side."""
    return [side for side in (8, 16, 32, 64) if side < resolution or (grain and side == resolution)]


def spatial_noise_width(resolution: int, grain: bool) -> int:
    """Numbers in all noise maps of one tile."""
    return sum(side * side for side in noise_maps(resolution, grain))


def _noise_is_added(config: GANConfig) -> bool:
    """Whether the noise is added to the latent, and not put beside it."""
    return config.mode == "rnagan" and config.condition == "latent_plus_noise"


def noise_width(config: GANConfig, condition_width: int) -> int:
    """Width of the generator's noise: that of the latent where noise is added to it, else `noise_units`; then its
    noise maps, which DCGAN's hasn't."""
    maps = spatial_noise_width(config.resolution, config.generator_grain) if config.generator != "dcgan" else 0
    return (condition_width if _noise_is_added(config) else config.noise_units) + maps


def input_width(config: GANConfig, condition_width: int) -> int:
    """Width of the generator's input vector without noise maps."""
    return condition_width + (0 if _noise_is_added(config) else config.noise_units)


def draw_noise(config: GANConfig, purpose: str, start: int, count: int, condition_width: int, seed: int) -> Tensor:
    """The generator's noise for images start … start+count−1, (count, noise_width) float64, on the CPU.

    Uniform in ±noise_range where it is added to a latent, or alone in `noise_only`; else standard normal.
    """
    width = noise_width(config, condition_width)
    if config.mode == "noise_only" or _noise_is_added(config):
        return torch.from_numpy(config.noise_range * (2 * rng.uniform(seed, purpose, start, count, width) - 1))
    return torch.from_numpy(rng.normal(seed, purpose, start, count, width))


def generator_input(config: GANConfig, c: Tensor | None, noise: Tensor) -> Tensor:
    """The generator's input, `input_width` and then its noise maps, from conditions (n, condition_width) and noise
    (n, noise_width).

    `batch_standardise` repeats the released code's fault for the contrast: with one profile a batch it removes the
    profile exactly.
    """
    if config.mode != "rnagan":
        return noise
    assert c is not None, "mode rnagan needs conditions"
    if config.condition == "bottleneck":
        return torch.cat([c, noise], dim=1)
    width = c.shape[1]
    code, maps = c + noise[:, :width], noise[:, width:]
    if config.batch_standardise and len(code) > 1:
        code = (code - code.mean(dim=0)) / (code.std(dim=0) + 1e-8)
    return torch.cat([code, maps], dim=1)
