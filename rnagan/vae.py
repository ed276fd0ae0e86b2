"""A trained β-VAE as a folder: weights, expression transform, statistics of its latent units."""

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

import rnagan
from rnagan.config import VAEConfig, load_config
from rnagan.expression.transform import ExpressionTransform
from rnagan.files import atomic_path, read_json, sha256_of_file, write_json
from rnagan.models.vae import BetaVAE
from rnagan.weights import load_weights, read_arrays, save_weights, write_arrays

ACTIVE_KL_NATS = 0.01
MANY_GENES_MISSING = 0.05
_BATCH = 64


@dataclasses.dataclass(frozen=True)
class VAEModel:
    """A β-VAE ready to encode profiles.

    Of each latent unit over the training split, float32 (latent,): `latent_mean` and `latent_sd` of mu, mean `kl` in
    nats. `record`: what model.json says.
    """

    config: VAEConfig
    transform: ExpressionTransform
    network: BetaVAE
    latent_mean: NDArray[np.float32]
    latent_sd: NDArray[np.float32]
    kl: NDArray[np.float32]
    record: dict[str, Any]

    @property
    def active(self) -> NDArray[np.intp]:
        """Indices of the units whose KL is above ACTIVE_KL_NATS, highest first."""
        order = np.argsort(-self.kl, kind="stable")
        return order[self.kl[order] > ACTIVE_KL_NATS]

    def encode(self, x: NDArray[np.floating], genes: Sequence[str], units: str) -> NDArray[np.float32]:
        """Latent means (samples, latent) of profiles (samples, genes) in `units`; warns when many genes are missing."""
        z_scores = torch.from_numpy(self.transform.apply(x, genes, units))
        if not z_scores.isfinite().all():
            raise ValueError("The profiles hold values that are missing, infinite or negative; leave those out.")
        share = self.transform.missing_share(genes)
        if share > MANY_GENES_MISSING:
            warnings.warn(
                f"The profiles lack {share:.0%} of the model's {len(self.transform.genes):,} genes, which are taken at "
                "their training mean; expect latents nearer the average.",
                stacklevel=2,
            )
        return posterior(self.network, z_scores)[0].numpy()


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
        save_weights(temporary / "vae.safetensors", model.network)
        statistics = {"mean": model.latent_mean, "sd": model.latent_sd, "kl": model.kl}
        write_arrays(temporary / "latents.safetensors", statistics)
        files = {path.name: sha256_of_file(path) for path in sorted(temporary.iterdir())}
        versions = {"rnagan": rnagan.__version__, "torch": torch.__version__, "numpy": np.__version__}
        write_json(temporary / "model.json", {"kind": "vae", "versions": versions} | model.record | {"files": files})


def load_vae(folder: Path | str) -> VAEModel:
    """Read a model folder that `save_vae` wrote, on the CPU; changed or missing files are refused by name."""
    folder = Path(folder)
    record = read_json(folder / "model.json")
    if record.get("kind") != "vae":
        raise ValueError(f"{folder} holds no β-VAE; give the model folder that tools/train_vae.py wrote.")
    for name, digest in record["files"].items():
        if not (folder / name).is_file() or sha256_of_file(folder / name) != digest:
            raise ValueError(f"{folder / name} is missing or was changed after training; copy the model folder again.")
    config = load_config(VAEConfig, folder / "config.yaml")
    transform = ExpressionTransform.load(folder)
    network = BetaVAE(len(transform.genes), config)
    load_weights(folder / "vae.safetensors", network)
    statistics = read_arrays(folder / "latents.safetensors")
    return VAEModel(config, transform, network.eval(), statistics["mean"], statistics["sd"], statistics["kl"], record)
