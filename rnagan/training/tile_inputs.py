"""What a generator is trained on: paths and their digests, and the tiles of a selection with their profiles."""

import dataclasses
from pathlib import Path

from torch import Tensor

from rnagan.api import model_folder
from rnagan.config.families import TileConfig
from rnagan.data.index import ShardSet
from rnagan.data.loader import Loading
from rnagan.data.sampler import Order
from rnagan.data.selection import Selection, read_weights
from rnagan.io.files import sha256_of, sha256_of_file
from rnagan.models.backbones import backbone_digest
from rnagan.models.conditioning import Bottleneck
from rnagan.models.embedding import embedding_key


@dataclasses.dataclass(frozen=True)
class TileInputs:
    """Paths of a run; `shards` may be a URL. `expression` and `vae` may be None in the modes without profiles.

    `embedding`: obsm:KEY of `expression`, which is taken for the latent in place of a `vae`.
    `init_from`: an earlier run, whose networks and condition a new one starts from (warm_start.py).
    """

    shards: Path | str
    cohort: Path
    expression: Path | None = None
    vae: Path | None = None
    init_from: Path | None = None
    embedding: str | None = None

    def check(self, config: TileConfig) -> None:
        """Refuse a config whose mode needs what isn't given, with `ValueError`."""
        if self.embedding is not None:
            embedding_key(self.embedding)
            if self.vae is not None:
                raise ValueError("--vae and --embedding both make the latent of a profile; give one of them.")
        if config.mode == "rnagan" and (self.expression is None or (self.vae is None and self.embedding is None)):
            raise ValueError(
                "mode rnagan needs --expression, and --vae or --embedding; without profiles use --mode gan."
            )


def digests(config: TileConfig, inputs: TileInputs, shards: ShardSet, selection: Selection) -> dict[str, str]:
    """Digests of all inputs of a run; its settings are kept beside them."""
    found = {"shards": shards.digest, "cohort": sha256_of_file(inputs.cohort)}
    if config.tissue_weights not in ("natural", "balanced"):
        found["tissue weights"] = sha256_of(read_weights(config.tissue_weights, selection))  # which a table may hold
    if inputs.expression is not None and inputs.vae is not None:
        found |= {
            "vae": sha256_of_file(model_folder(inputs.vae) / "model.json"),
            "expression": sha256_of_file(inputs.expression),
        }
    elif inputs.expression is not None and inputs.embedding is not None:
        digest = sha256_of_file(inputs.expression)
        found |= {"vae": sha256_of([inputs.embedding, digest]), "expression": digest}
    if config.backbone != "none":
        found["backbone"] = backbone_digest(config.backbone)
    return found


@dataclasses.dataclass(frozen=True)
class Profiles:
    """Profiles of a run, encoded once; `bottleneck` makes conditions of latents, and of stains where it sees those."""

    bottleneck: Bottleneck
    latents: Tensor  # (rows, latent), of the selection's rows
    fixed: Tensor  # (profiles, latent), of the validation donors generated in every sample grid
    stains: Tensor | None = None  # (rows, STAINS), of the slides of the selection's rows

    @property
    def conditions(self) -> Tensor:
        """(rows, width), of the selection's rows."""
        return self.bottleneck(self.latents, self.stains)


@dataclasses.dataclass(frozen=True)
class TileData:
    """What a run trains on: the tiles of a selection in `order`, each with the profile of its row.

    `profiles` is None in the modes without profiles.
    """

    shards: ShardSet
    selection: Selection
    order: Order
    profiles: Profiles | None = None

    @property
    def tissues(self) -> list[str]:
        """The tissues that have a part in training."""
        return sorted(self.selection.slides.loc[self.order.counts > 0, "tissue"].unique())


def make_loading(config: TileConfig, pin_memory: bool = False) -> Loading:
    """How the batches of a run are made."""
    return Loading(
        threads=config.loader_threads,
        workers=config.loader_workers,
        prefetch=config.prefetch_batches,
        pin_memory=pin_memory,
        skip_corrupt=config.on_corrupt == "skip",
        max_corrupt=config.max_corrupt,
        shift_seed=config.seed if config.shifts else None,
    )
