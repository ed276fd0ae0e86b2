"""A trained β-VAE as a folder: weights, expression transform, what the training split looks like in its latent."""

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from rnagan.config.base import load_config
from rnagan.config.vae import VAEConfig
from rnagan.expression.h5ad import POOLED, Expression, read_expression
from rnagan.expression.imputation import GeneImputer
from rnagan.expression.transform import ExpressionTransform
from rnagan.io.files import atomic_path
from rnagan.io.weights import build_with_weights, save_weights
from rnagan.models.encoder_folder import EncoderKind, checked_record, write_record
from rnagan.models.latent_space import LatentSpace
from rnagan.models.vae import BetaVAE

MANY_GENES_MISSING = 0.05
_BATCH = 64
_BLOCK = 16 * _BATCH  # profiles that are encoded at a time: memory doesn't grow with them, but for the latents


_ARRAYS = ("transform.safetensors", "imputer.safetensors", "vae.safetensors", "latents.safetensors")
KIND = EncoderKind("vae", "β-VAE", "rnagan train-vae", ("model.json", "config.yaml", "transform.json", *_ARRAYS))


class Encoding(NamedTuple):
    """Profiles in the latent, and how far to trust them."""

    latents: NDArray[np.float32]  # (samples, latent), means
    distance: NDArray[np.float32]  # (samples,) to the nearest tissue of the training split (LatentSpace.distance)
    residual: NDArray[np.float32]  # (samples,) share that the reconstruction misses (LatentSpace.residual)
    missing: NDArray[np.float64]  # (samples,) share of the model's genes that a profile lacks
    far: NDArray[np.bool_]  # (samples,) whether it is unlike the training split: well beyond held-out profiles


@dataclasses.dataclass(frozen=True)
class VAEModel:
    """A β-VAE ready to encode profiles. `record`: what model.json says."""

    config: VAEConfig
    transform: ExpressionTransform
    imputer: GeneImputer
    network: BetaVAE
    space: LatentSpace
    record: dict[str, Any]

    def read(self, path: Path | str) -> Expression:
        """The profiles of an .h5ad that rnagan build-expression made; raises as `read_expression`, warns as
        `warn_of_pooling`."""
        expression = read_expression(path)
        self.warn_of_pooling(expression.pooled, str(path))
        return expression

    def warn_of_pooling(self, pooled: int, name: str) -> None:
        """Warn where spots have the counts of another number of neighbours than the training spots had."""
        own = int(self.record.get(POOLED, 0))
        if pooled != own:
            warnings.warn(
                f"{name} has spots pooled with {pooled:,} neighbours and the model was trained with {own:,}; make it "
                f"with rnagan build-expression --pool-spots {own}.",
                stacklevel=3,
            )

    def encode(self, x: NDArray[np.floating], genes: Sequence[str], units: str) -> Encoding:
        """Latents of profiles (samples, genes) in `units`; NaN marks a gene that wasn't measured in a profile.

        Warns when a profile lacks many of the model's genes or lies far from the training split.
        """
        starts = range(0, max(len(x), 1), _BLOCK)
        parts = [self._encode_block(x[start : start + _BLOCK], genes, units) for start in starts]
        encoding = Encoding(*(np.concatenate(pieces) for pieces in zip(*parts, strict=True)))
        self._warn_of_missing_genes(encoding)
        warn_of_far(encoding, self.space)
        return encoding

    def _encode_block(self, x: NDArray[np.floating], genes: Sequence[str], units: str) -> Encoding:
        z_scores, measured = self.transform.apply(x, genes, units), self.transform.measured(x, genes)
        if self.config.missing_genes == "impute" and not measured.all():
            z_scores = self.imputer.fill(z_scores, measured)
        latents = posterior(self.network, torch.from_numpy(z_scores).to(self.device))[0].cpu().numpy()
        distance, residual = self.space.distance(latents), self.space.residual(z_scores, self.decode(latents), measured)
        missing = 1.0 - measured.mean(axis=1)
        far = self.space.is_far(distance, residual, self.space.direction(latents))
        return Encoding(latents, distance, residual, missing, far)

    @property
    def device(self) -> torch.device:
        """The device of its network, on which it encodes and decodes."""
        return next(self.network.parameters()).device

    @torch.no_grad()
    def decode(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """Z scores (samples, the model's genes) of latents (samples, latent)."""
        padded = F.pad(torch.from_numpy(np.ascontiguousarray(latents)), (0, 0, 0, -len(latents) % _BATCH))
        parts = [self.network.eval().decode(part).cpu() for part in padded.to(self.device).split(_BATCH)]
        return torch.cat(parts)[: len(latents)].numpy()

    def _warn_of_missing_genes(self, encoding: Encoding) -> None:
        total, lacking = len(encoding.missing), int((encoding.missing > MANY_GENES_MISSING).sum())
        if lacking:
            warnings.warn(
                f"{lacking:,} of {total:,} profiles lack up to {encoding.missing.max():.0%} of the model's "
                f"{len(self.transform.genes):,} genes, which are filled in.",
                stacklevel=3,
            )


def warn_of_far(encoding: Encoding, space: LatentSpace, of: str = "") -> None:
    """Warn, in the name of the caller's caller, where profiles are far in `space`; `of`: in what, such as obsm:KEY."""
    if encoding.far.any():
        warnings.warn(
            f"{encoding.far.sum():,} of {len(encoding.far):,} profiles are unlike the training profiles"
            f"{of and ' in '}{of} (distance up to {encoding.distance.max():.2f}, residual to "
            f"{encoding.residual.max():.2f}; far is beyond {space.far_distance:.2f} or {space.far_residual:.2f}, or in "
            "no tissue's direction); don't trust what is made from them.",
            stacklevel=3,
        )


@torch.no_grad()
def posterior(network: BetaVAE, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """mu and logvar (samples, latent) of Z scores (samples, genes), on the network's device and in evaluation mode."""
    network.eval()
    # Always in batches of the same size: a matrix product of another shape may round a row otherwise, and a profile's
    # latent would depend on those beside it.
    padded = F.pad(x, (0, 0, 0, -len(x) % _BATCH))
    parts = [network.encode(chunk) for chunk in padded.split(_BATCH)]
    mu, logvar = (torch.cat(pieces)[: len(x)] for pieces in zip(*parts, strict=True))
    return mu, logvar


def save_vae(folder: Path, model: VAEModel) -> None:
    """Write a model folder, which appears by rename; model.json holds `record`, versions and a digest of every file."""
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        model.config.save(temporary / "config.yaml")
        model.transform.save(temporary)
        model.imputer.save(temporary / "imputer.safetensors")
        save_weights(temporary / "vae.safetensors", model.network)
        model.space.save(temporary / "latents.safetensors")
        write_record(temporary, KIND, model.record, model.space.tissues)


def load_vae(folder: Path | str, device: str | torch.device = "cpu") -> VAEModel:
    """Read a model folder that `save_vae` wrote onto a device; changed, missing and strange files are refused by
    name."""
    folder = Path(folder)
    record = checked_record(folder, KIND)
    config = load_config(VAEConfig, folder / "config.yaml")
    transform = ExpressionTransform.load(folder)
    imputer = GeneImputer.load(folder / "imputer.safetensors")
    network = build_with_weights(folder / "vae.safetensors", lambda: BetaVAE(len(transform.genes), config))
    space = LatentSpace.load(folder / "latents.safetensors", record["tissues"])
    if imputer.loadings.shape[:1] != transform.mean.shape or space.mean.shape != (config.latent,):
        raise ValueError(f"{folder} holds files of several models; copy the model folder again.")
    return VAEModel(config, transform, imputer, network.to(device).eval(), space, dict(record))
