"""A trained model: encode profiles and generate tiles from them.

A model folder holds `config.yaml`, the averaged weights (of a GAN, `generator.safetensors`), `condition.safetensors`,
the VAE in `vae/` or what stands for it in `embedding/`, and `model.json`, which names the family of the generator.
Nothing in it can run code.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, Self, TypedDict

import anndata
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import rnagan
from rnagan.config.base import family, load_config
from rnagan.config.families import CONFIGS, TileConfig
from rnagan.expression.h5ad import embedding_of, pooled_spots
from rnagan.expression.units import stated_units, to_known_units
from rnagan.io.files import atomic_path, check_holds_only, read_json, sha256_of, sha256_of_file, write_json
from rnagan.io.hub import fetched
from rnagan.io.json_values import check_json
from rnagan.io.matrix_parquet_h5ad import check_anndata, dense
from rnagan.io.weights import save_weights
from rnagan.models.conditioning import Bottleneck, load_bottleneck
from rnagan.models.embedding import EmbeddingModel
from rnagan.models.encoder import KINDS, Encoder, encoder_folder, hand_on_encoder, load_encoder
from rnagan.models.families import family_named, family_of
from rnagan.models.sampling import generate, number_tiles
from rnagan.models.tile_generator import NO_OPTIONS, SamplingOptions, TileGenerator
from rnagan.models.trained_vae import Encoding, VAEModel
from rnagan.runtime.devices import AUTO, choose_device

BATCH_ON_CPU, BATCH_ON_GPU = 16, 64  # tiles; 64 take a CPU a fifth longer, and four times the memory


FILES = ("model.json", "config.yaml", "condition.safetensors")  # beside those of the generator's family


class ModelRecord(TypedDict):
    """The model.json of a generator. `made_from`: digests of what it was trained on; `family`: without one, gan."""

    format: str
    family: NotRequired[str]
    digest: str
    mpp: float | None
    tissues: list[str]
    train_donors: list[str]
    images: int
    made_from: dict[str, str]
    split_by: NotRequired[str]


@dataclasses.dataclass(frozen=True)
class RNAGAN:
    """A trained generator with the encoder of profiles, a VAE or an embedding, and the bottleneck in front of it (both
    None in the modes without profiles).

    `mpp`: µm per px of its tiles, None where the training tiles didn't say. `digest`: hex SHA-256 of the weights.
    `train_donors`: who was in the training split, as `donor_digest`s: a model may be given away, its donors' names not.
    `split_by`: what was held out from it, as `cohort.table.split_by` has it.
    `stain`: of a model trained with nuisance section_stain, what its tiles are stained like, (4,) as `stain_of` gives
    it; the average of its training slides where it is None.
    `options`: how its tiles are generated, where not as the generator does by itself (`with_options`). `gains`: factors
    on the components that its conditions have of the profile, (units,), such as a calibration's; None: 1.
    """

    config: TileConfig
    generator: TileGenerator
    mpp: float | None
    tissues: list[str]
    digest: str
    train_donors: frozenset[str]
    encoder: Encoder | None = None
    bottleneck: Bottleneck | None = None
    split_by: str = "donor"
    stain: NDArray[np.float64] | None = None
    options: SamplingOptions = NO_OPTIONS
    gains: NDArray[np.float64] | None = None

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str | torch.device = AUTO) -> Self:
        """Load a run's folder or its `model` folder, or a model of a Hugging Face hub by its id OWNER/NAME (`fetched`).
        `device`: as `choose_device` takes it, where profiles are encoded and tiles are generated. Raises
        `FileNotFoundError` where there is no model."""
        folder = model_folder(fetched(folder))
        record = read_model_record(folder)
        if record is None:
            raise ValueError(f"{folder} holds no generator; give a run of rnagan train-rnagan or its model folder.")
        if record["digest"] != digest_of_folder(folder):
            raise ValueError(f"{folder} was changed after training; copy the model folder again.")
        named = record.get("family", "gan")
        config = load_config(CONFIGS[named], folder / "config.yaml")
        device = choose_device(device)
        encoder = bottleneck = None
        if config.mode == "rnagan":
            encoder = load_encoder(encoder_folder(folder), device)
            bottleneck = load_bottleneck(folder / "condition.safetensors", encoder.space.mean.size).to(device)
        width = bottleneck.width if bottleneck else 0
        generator = family_named(named).load(folder, config, width).to(device)
        about = record["mpp"], record["tissues"], record["digest"], frozenset(record["train_donors"])
        by = record.get("split_by", "donor")
        return cls(config, generator, *about, encoder, bottleneck, by)

    def encode(self, adata: anndata.AnnData) -> anndata.AnnData:
        """Write the latent of every profile into `adata.obsm["X_rnagan"]`, float32 (profiles, latent); returns `adata`.

        `adata.X` is (profiles, genes) in `adata.uns["units"]` (tpm, counts, log2 or centred), genes named in
        `adata.var_names`; NaN is a gene that wasn't measured. `adata.obs` gets `rnagan_missing_genes` (share of the
        model's genes that a profile lacks), `rnagan_distance` (from the training profiles, which lie at about 1),
        `rnagan_residual` (error of its reconstruction over its own distance from the training mean; in Z scores of a
        model of an earlier version) and `rnagan_far` (unlike the training profiles: don't trust its tiles). A model
        that was trained on an embedding takes `adata.obsm` of its key instead, of whatever X. A view, `adata[mask]`,
        becomes a data set of its own, with a copy of the values that it shows; the one that it is of isn't changed.
        """
        check_anndata(adata, "adata")
        encoding = self._encode(adata)
        if adata.is_view:
            adata._init_as_actual(adata.copy())  # as anndata does at the first write, with a warning
        adata.obsm["X_rnagan"] = encoding.latents
        adata.obs["rnagan_missing_genes"] = encoding.missing
        adata.obs["rnagan_distance"] = encoding.distance
        adata.obs["rnagan_residual"] = encoding.residual
        adata.obs["rnagan_far"] = encoding.far
        return adata

    def _encode(self, adata: anndata.AnnData) -> Encoding:
        encoder = self._encoder
        if isinstance(encoder, EmbeddingModel):
            values = embedding_of(adata, encoder.key, "adata")
            return encoder.encode(values, [""] * values.shape[1], encoder.units)
        units, values = stated_units(adata.uns, "adata"), dense(adata.X)
        if units is None:
            raise ValueError("adata.uns['units'] must say what X holds: 'tpm', 'counts' or 'log2'.")
        values, units = to_known_units(values, units)
        encoder.warn_of_pooling(pooled_spots(adata.uns), "adata")
        return encoder.encode(values, list(adata.var_names), units)

    def generate(
        self, adata: anndata.AnnData, n: int, seed: int = 0, truncation: float | None = None
    ) -> NDArray[np.uint8]:
        """Generate `n` tiles of every profile: uint8 (profiles, n, resolution, resolution, 3).

        A tile depends on the model, its options, the profile and its name in `adata.obs_names`, its number below n and
        `seed` alone, up to the rounding of another batch. `truncation`: as `with_options` takes it.
        """
        model = self if truncation is None else self.with_options(truncation=truncation)
        latents = model.encode(adata).obsm["X_rnagan"]
        names = adata.obs_names.tolist()
        return np.stack(list(model.generate_each(latents, names, [n] * len(names), seed)))

    def with_options(self, **options: Any) -> Self:
        """The same model, which generates with other options (`SamplingOptions`); those not named stay as they were.
        Raises `ValueError` where its family hasn't one of them, or a value is out of bounds."""
        changed = dataclasses.replace(self.options, **options)
        changed.on(self.generator)
        return dataclasses.replace(self, options=changed)

    @property
    def sampling(self) -> dict[str, Any]:
        """All options that its tiles are generated with, by name, for records."""
        return self.options.on(self.generator)

    @property
    def unusual_sampling(self) -> dict[str, Any]:
        """Those of them that aren't what its generator does by itself."""
        return {name: value for name, value in self.sampling.items() if value != self.generator.card[name]}

    def latents(self, values: NDArray[np.float32], genes: list[str], units: str) -> NDArray[np.float32]:
        """Encode profiles (n, genes) in `units`, as the encoder's `read` gives them, to latent means (n, latent)."""
        return self._encoder.encode(values, genes, units).latents

    @property
    def vae(self) -> VAEModel | None:
        """The encoder, where it is a β-VAE, which takes genes and gives them back."""
        return self.encoder if isinstance(self.encoder, VAEModel) else None

    @property
    def units(self) -> tuple[str, ...]:
        """Units that it takes profiles in; none where any will do, as to a model that takes no genes."""
        return () if self.vae is None else self.vae.transform.accepts

    @property
    def _encoder(self) -> Encoder:
        if self.encoder is None:
            raise ValueError(f"This model was trained in mode {self.config.mode}: it takes no profiles.")
        return self.encoder

    def generate_tiles(self, latent: NDArray[np.float32] | None, n: int, seed: int, name: str) -> NDArray[np.uint8]:
        """Generate `n` tiles of one latent (None in the modes without profiles): uint8 (n, resolution, resolution,
        3)."""
        c = self.whole_conditions(None if latent is None else latent[None])
        return generate(self.generator, c, n, seed, f"generate/{name}", options=self.options)

    def generate_numbered(
        self,
        latents: NDArray[np.float32] | None,
        names: Sequence[str],
        numbers: Sequence[int],
        seed: int,
    ) -> NDArray[np.uint8]:
        """Generate one tile a row of `latents` (n, latent), in one batch: of the profile called `names[i]` tile
        `numbers[i]`, which is `generate_tiles(...)[numbers[i]]` of that profile up to rounding; uint8 (n, H, W, 3)."""
        c, options = self.whole_conditions(latents), self.sampling
        noise = [
            self.generator.draw_noise(f"generate/{name}", number, 1, seed)
            for name, number in zip(names, numbers, strict=True)
        ]
        parts = [slice(0, len(noise))]
        if self.generator.together:  # the tiles of one profile, as the released code generates
            ends = [k for k in range(1, len(names)) if names[k] != names[k - 1]] + [len(names)]
            parts = [slice(first, last) for first, last in zip([0, *ends], ends, strict=False)]
        drawn = torch.cat(noise)
        tiles = [self.generator.tiles(None if c is None else c[part], drawn[part], options) for part in parts]
        return np.concatenate(tiles)

    def generate_each(
        self,
        latents: NDArray[np.float32] | None,
        names: Sequence[str],
        counts: Sequence[int],
        seed: int,
        batch_size: int | None = None,
    ) -> Iterator[NDArray[np.uint8]]:
        """Generate the first `counts[i]` tiles of each row of `latents` (n, latent), which is called `names[i]`.

        Yields (counts[i], H, W, 3) uint8 row by row, equal to `generate_tiles` of that row up to rounding. A batch
        holds tiles of several rows, so that few tiles of many profiles keep a GPU busy; one batch and one row are in
        memory at a time. `batch_size` is BATCH_ON_CPU or BATCH_ON_GPU by default.
        """
        batch_size = batch_size or (BATCH_ON_CPU if self.device.type == "cpu" else BATCH_ON_GPU)
        if self.generator.together:  # its tiles depend on those beside them
            for row, (name, count) in enumerate(zip(names, counts, strict=True)):
                yield self.generate_tiles(None if latents is None else latents[row], count, seed, name)
            return
        row_of, number_of = number_tiles(counts)
        waiting = [np.empty((0, self.generator.resolution, self.generator.resolution, 3), np.uint8)]
        first = 0
        for count in counts:
            while sum(map(len, waiting)) < count:
                rows = row_of[first : first + batch_size]
                numbers = number_of[first : first + batch_size].tolist()
                own = None if latents is None else latents[rows]
                waiting.append(self.generate_numbered(own, [names[k] for k in rows], numbers, seed))
                first += batch_size
            made = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
            yield made[:count]
            waiting = [made[count:]]

    def stained_like(self, stain: NDArray[np.float64]) -> Self:
        """The same model with the stain of a section, (4,) as `stain_of` gives it."""
        if self.config.nuisance == "none":
            raise ValueError("This model was trained without nuisance section_stain: it takes no stain.")
        return dataclasses.replace(self, stain=stain)

    def conditions(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the generator sees of the profiles of latents (n, latent): (n, units)."""
        if self.bottleneck is None:
            raise ValueError(f"This model was trained in mode {self.config.mode}: it takes no profiles.")
        return self.bottleneck.of_profile(self._placed(latents)).cpu().numpy()

    @property
    def device(self) -> torch.device:
        """Where it generates."""
        return self.generator.device

    def whole_conditions(self, latents: NDArray[np.float32] | None) -> Tensor | None:
        """All that the generator sees of latents (n, latent) and of a stain, (n, width), on the model's device; None in
        the modes without profiles."""
        if self.bottleneck is None:
            return None
        c = self.bottleneck(self._placed(latents), None if self.stain is None else self._placed(self.stain[None]))
        if self.gains is None:
            return c
        beside = np.ones(c.shape[1] - len(self.gains))  # a stain, which isn't the profile's
        return c * self._placed(np.concatenate([self.gains, beside])).to(c.dtype)

    def _placed(self, values: NDArray[np.floating] | None) -> Tensor:
        return torch.as_tensor(values, device=self.device)


def write_model(
    folder: Path,
    config: TileConfig,
    generator: dict[str, Tensor],
    bottleneck: Bottleneck | None,
    encoder: Path | None,
    record: dict[str, Any],
    link_encoder: bool = False,
) -> None:
    """Write a model folder by rename; `record` (mpp, tissues, images trained, inputs …) goes into model.json.

    `generator`: the weights of its network. `encoder`: the folder of the VAE, or of what stands for it. `link_encoder`:
    its files are linked, not copied, where the disk allows (`hand_on`).
    """
    digests: dict[str, str] = {}
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        config.save(temporary / "config.yaml")
        family_of(config).save(temporary, config, bottleneck.width if bottleneck else 0, generator)
        if bottleneck is not None:
            assert encoder is not None, "a model with a bottleneck has an encoder before it"
            save_weights(temporary / "condition.safetensors", bottleneck)
            digests = hand_on_encoder(model_folder(encoder), temporary, link_encoder)
        made = {"format": "rnagan-model", "version": 1, "rnagan": rnagan.__version__, "family": family(type(config))}
        write_json(temporary / "model.json", made | {"digest": digest_of_folder(temporary, digests)} | record)


def read_model_record(folder: Path) -> ModelRecord | None:
    """What the model.json of a generator's folder says, None where it is of another kind of model. Raises `ValueError`
    where it, or the folder, holds anything that is no part of a model."""
    path = folder / "model.json"
    record = read_json(path, dict[str, Any])
    if record.get("format") != "rnagan-model":
        return None
    found = check_json(record, ModelRecord, path)
    own = family_named(found.get("family", "gan"))
    check_holds_only(folder, (*FILES, *own.files), (*KINDS, *own.folders))
    return found


def model_folder(folder: str | Path) -> Path:
    """The folder with `model.json`: `folder` itself, or `model` in a run's folder."""
    for candidate in (Path(folder), Path(folder) / "model"):
        if (candidate / "model.json").is_file():
            return candidate
    raise FileNotFoundError(f"{folder} holds no trained model (no model.json there or in {Path(folder) / 'model'}).")


def digest_of_folder(folder: Path, known: Mapping[str, str] | None = None) -> str:
    """Hex SHA-256 over the names and contents of all files of a model folder but its own model.json.

    `known`: digests of some of them, by their paths in it.
    """
    digests = dict(known or {})
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != "model.json" and name not in digests:
            digests[name] = sha256_of_file(path)
    return sha256_of(digests)
