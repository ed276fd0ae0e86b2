"""A matrix made elsewhere in place of the β-VAE: the latent of a profile is its row of a foundation model's embedding,
or of scores of pathways."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnagan.expression.h5ad import Expression, read_embedding
from rnagan.io.files import atomic_path, read_json, write_json
from rnagan.io.weights import read_arrays, write_arrays
from rnagan.models.encoder_folder import EncoderKind, checked_record, write_record
from rnagan.models.latent_space import LatentSpace, relative_residuals
from rnagan.models.trained_vae import Encoding, warn_of_far

KIND = EncoderKind(
    "embedding",
    "embedding of profiles",
    "rnagan train-rnagan --embedding",
    ("model.json", "embedding.json", "embedding.safetensors", "latents.safetensors"),
)
_OBSM = re.compile(r"obsm:(?P<key>[^\s/:]+)")
_LEAST_VARIANCE = 1e-6  # of the first component's: what lies below is rounding
_ROUNDING = 1e-4  # of a profile's distance from the training mean


def embedding_key(embedding: str) -> str:
    """KEY of `obsm:KEY`, which `--embedding` takes; `ValueError` on anything else."""
    match = _OBSM.fullmatch(embedding)
    if match is None:
        raise ValueError(f"--embedding must be obsm:KEY, where KEY is in the .h5ad's obsm, not {embedding!r}.")
    return match["key"]


@dataclasses.dataclass(frozen=True)
class EmbeddingModel:
    """The encoder of profiles whose embedding is in `obsm[key]`, with the interface of a `VAEModel`.

    The latent is the embedding's principal components over the training split: rotated, so that units don't say the
    same twice and the first say most, and neither scaled nor compressed. `mean` (dimensions,), `directions`
    (dimensions, latent) float32. `record`: what model.json says.
    """

    key: str
    mean: NDArray[np.float32]
    directions: NDArray[np.float32]
    space: LatentSpace
    record: dict[str, Any]

    @classmethod
    def fit(cls, expression: Expression, key: str, record: dict[str, Any]) -> Self:
        """Of what `read` gives: the training split makes the components and the tissues, the validation split says
        what isn't far (the training split where there is none). Raises `ValueError` where the training split doesn't
        vary."""
        x_train, tissues = expression.split("train"), expression.obs.loc[expression.obs["split"] == "train", "tissue"]
        if len(x_train) < 2 or not x_train.std(axis=0).any():
            raise ValueError(f"obsm[{key!r}] doesn't vary over two training profiles or more; there is nothing in it.")
        mean = x_train.mean(axis=0, dtype=np.float64)
        _, scale, rows = np.linalg.svd(x_train - mean, full_matrices=False)
        variance = np.square(scale) / len(x_train)
        kept = variance > _LEAST_VARIANCE * variance[0]
        directions, variance = rows[kept].T.astype(np.float32), variance[kept]
        held_out = expression.split("validation")
        held_out = held_out if len(held_out) else x_train
        centre = mean.astype(np.float32)
        mu_train, mu_held_out = ((x - centre) @ directions for x in (x_train, held_out))
        kl = 0.5 * np.log1p(variance / variance[-1]).astype(np.float32)  # in order of variance, and all active
        residual = _residual(held_out - centre, mu_held_out, directions)
        space = LatentSpace.fit(mu_train, kl, tissues.tolist(), mu_held_out, residual)
        return cls(key, centre, directions, space, record)

    @property
    def units(self) -> str:
        """What stands for the units of its profiles."""
        return f"obsm:{self.key}"

    def read(self, path: Path | str) -> Expression:
        """The embeddings of an .h5ad that rnagan build-expression made, as `values`; raises as `read_embedding`."""
        return read_embedding(path, self.key)

    def encode(self, x: NDArray[np.floating], genes: Sequence[str], units: str) -> Encoding:
        """Latents of embeddings (samples, dimensions); `genes` name the dimensions, `units` are `self.units`.

        Raises `ValueError` on an embedding of another key or width, or with values that aren't finite. Warns when a
        profile lies far from the training split.
        """
        if units != self.units or x.shape[1] != len(self.mean):
            raise ValueError(
                f"The model takes {len(self.mean):,} dimensions of {self.units}, not {x.shape[1]:,} of {units}; make "
                "the embedding with the same version of its model."
            )
        if not np.isfinite(x).all():
            raise ValueError(f"{self.units} holds values that are not finite; leave those profiles out.")
        centred: NDArray[np.float32] = x.astype(np.float32) - self.mean
        latents: NDArray[np.float32] = centred @ self.directions
        distance, residual = self.space.distance(latents), _residual(centred, latents, self.directions)
        far = self.space.is_far(distance, residual, self.space.direction(latents))
        encoding = Encoding(latents, distance, residual, np.zeros(len(latents)), far)
        warn_of_far(encoding, self.space, self.units)
        return encoding


def save_embedding(folder: Path, model: EmbeddingModel) -> None:
    """Write its folder, which appears by rename; model.json holds `record`, versions and a digest of every file."""
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        write_json(temporary / "embedding.json", {"key": model.key})
        write_arrays(temporary / "embedding.safetensors", {"mean": model.mean, "directions": model.directions})
        model.space.save(temporary / "latents.safetensors")
        write_record(temporary, KIND, model.record, model.space.tissues)


def load_embedding(folder: Path | str) -> EmbeddingModel:
    """Read what `save_embedding` wrote; changed, missing and strange files are refused by name."""
    folder = Path(folder)
    record = checked_record(folder, KIND)
    key = embedding_key(f"obsm:{read_json(folder / 'embedding.json', dict[str, str]).get('key', '')}")
    arrays = read_arrays(folder / "embedding.safetensors", ("mean", "directions"))
    space = LatentSpace.load(folder / "latents.safetensors", record["tissues"])
    if arrays["directions"].shape != (arrays["mean"].size, space.mean.size):
        raise ValueError(f"{folder} holds files of several models; copy the model folder again.")
    return EmbeddingModel(key, arrays["mean"], arrays["directions"], space, dict(record))


def _residual(
    centred: NDArray[np.float32], latents: NDArray[np.float32], directions: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Share of an embedding's distance from the training mean that lies outside all components of the training split,
    (samples,), 0 where it is rounding."""
    there = np.ones(centred.shape, np.bool_)
    share = relative_residuals(centred, latents @ directions.T, there)
    return np.where(share < _ROUNDING, np.float32(0), share)
