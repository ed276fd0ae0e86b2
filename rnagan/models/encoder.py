"""What makes a latent of a profile: a β-VAE, or an embedding made elsewhere."""

from pathlib import Path
from typing import Any

import torch

from rnagan.io.files import read_json
from rnagan.models import embedding, trained_vae
from rnagan.models.embedding import EmbeddingModel, load_embedding
from rnagan.models.encoder_folder import EncoderKind, hand_on
from rnagan.models.trained_vae import VAEModel, load_vae

Encoder = VAEModel | EmbeddingModel
KINDS = {kind.name: kind for kind in (trained_vae.KIND, embedding.KIND)}  # each is a folder of this name in a model's


def encoder_folder(folder: Path) -> Path:
    """The folder of the encoder in that of a generator."""
    return next((folder / name for name in KINDS if (folder / name / "model.json").is_file()), folder / "vae")


def load_encoder(folder: Path, device: str | torch.device = "cpu") -> Encoder:
    """Read an encoder of either kind; raises as `load_vae` and `load_embedding`."""
    return load_embedding(folder) if _kind_of(folder) is embedding.KIND else load_vae(folder, device)


def hand_on_encoder(folder: Path, target: Path, link: bool = False) -> dict[str, str]:
    """Put an encoder's folder into that of a generator, `target`, as `hand_on` does. Returns hex SHA-256 by path."""
    kind = _kind_of(folder)
    digests = hand_on(folder, target / kind.name, kind, link)
    return {f"{kind.name}/{name}": digest for name, digest in digests.items()}


def _kind_of(folder: Path) -> EncoderKind:
    """By its model.json; that of a β-VAE where it says none that is known, which is then refused."""
    return KINDS.get(str(read_json(folder / "model.json", dict[str, Any]).get("kind")), trained_vae.KIND)
