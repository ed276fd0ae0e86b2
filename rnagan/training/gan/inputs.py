"""What a GAN is trained on: paths and their digests, tiles joined with latents of profiles, and what is refused."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnagan.api import model_folder
from rnagan.cohort.leakage import check_same_splits, donor_digest, seen_donors
from rnagan.config.families import TileConfig
from rnagan.config.gan import GANConfig
from rnagan.data.index import ShardSet
from rnagan.data.loader import Loading
from rnagan.data.sampler import Order
from rnagan.data.selection import Selection, read_weights
from rnagan.expression.h5ad import read_embedding
from rnagan.io.files import atomic_path, sha256_of, sha256_of_file
from rnagan.io.provenance import asked
from rnagan.io.tables import first_few
from rnagan.models.backbones import backbone_digest
from rnagan.models.conditioning import Bottleneck, make_bottleneck
from rnagan.models.embedding import EmbeddingModel, embedding_key, save_embedding
from rnagan.models.encoder import Encoder, load_encoder
from rnagan.runtime import rng
from rnagan.runtime.devices import computes_bf16, rounds_to_tf32
from rnagan.runtime.distributed import processes

FIXED_PROFILES = 8  # validation profiles generated in every sample grid
_LATENTS, _METADATA = "latents.parquet", b"rnagan"  # file of the table of latents, and its metadata


def shuffled_samples(table: pd.DataFrame, seed: int, own_profiles: bool = False) -> list[str]:
    """The sample whose profile each row of `table` (sample, donor, tissue) gets instead of its own.

    Within a tissue the donors are put in a circle at random and each takes the profiles of the next, so each profile is
    used by one donor, and nobody keeps an own one where a tissue has two donors or more. A donor's k-th sample goes to
    the k-th of the next, beginning again where that one has fewer. Where a tissue is one donor's and tiles have
    profiles of their own (`own_profiles`), the samples themselves are put in a circle.
    """
    given: dict[tuple[str, str], str] = {}
    for tissue, rows in table.groupby("tissue", observed=True):
        samples = {donor: sorted(set(own)) for donor, own in rows.groupby("donor", observed=True)["sample"]}
        if own_profiles and len(samples) == 1:
            samples = {sample: [sample] for sample in rows["sample"]}
        circle = rng.generator(seed, f"null profiles/{tissue}").permutation(sorted(samples)).tolist()
        for donor, other in zip(circle, circle[1:] + circle[:1], strict=True):
            for k, sample in enumerate(samples[donor]):
                given[str(tissue), sample] = samples[other][k % len(samples[other])]
    return [given[key] for key in zip(table["tissue"], table["sample"], strict=True)]


def check_run(
    config: TileConfig, shards: ShardSet, processes: int, on_gpus: bool = False, deepspeed: bool = False
) -> None:
    """Refuse a config that these shards or this number of processes can't serve."""
    if shards.tile_px % config.resolution:
        raise ValueError(
            f"{shards.address} holds tiles of {shards.tile_px} px, which don't shrink evenly to resolution "
            f"{config.resolution}; build shards with --tile-px {config.resolution}."
        )
    check_processes(config, processes, on_gpus, deepspeed)


def check_processes(config: TileConfig, processes: int, on_gpus: bool = False, deepspeed: bool = False) -> None:
    """Refuse a config that so many processes can't train."""
    if config.batch_size % processes:
        raise ValueError(f"batch_size {config.batch_size} can't be shared evenly by {processes} processes.")
    if deepspeed and config.precision == "float64":
        raise ValueError("DeepSpeed keeps its weights in float32: choose precision float32 or bf16, or another launch.")
    if not isinstance(config, GANConfig):
        return
    if config.batch_size // processes % config.accumulate:
        raise ValueError(
            f"A process's {config.batch_size // processes} tiles a step can't be cut evenly in accumulate "
            f"{config.accumulate} parts."
        )
    together = config.batch_size // processes // config.accumulate
    if together % config.penalty_every:
        raise ValueError(
            f"penalty_every {config.penalty_every} must divide the {together} tiles that a process takes at a time."
        )
    if processes > 1 and config.penalty_step == "separate":
        raise ValueError("penalty_step separate (preset released) runs on one process only.")
    if processes > 1 and "batch" in (config.generator_norm, config.critic_norm) and (not on_gpus or deepspeed):
        raise ValueError("BatchNorm (presets that follow the paper) differs between processes: run it on one.")
    if wide := [name for name in config.batch_wide if processes > 1 and name != "generator_norm batch"]:
        raise ValueError(f"{wide[0]} needs a batch whole: run it on one process.")  # the generator has SyncBatchNorm
    if deepspeed and config.accumulate > 1:
        raise ValueError("accumulate isn't for DeepSpeed: set it to 1, or start with another of launch_configs/.")


def check_device(config: TileConfig, device: torch.device) -> None:
    """Refuse a config whose penalty a device doesn't compute."""
    if not isinstance(config, GANConfig):
        return
    if config.penalty_precision == "tf32" and not rounds_to_tf32(device):
        raise ValueError("penalty_precision tf32 is for NVIDIA's GPUs since Ampere; choose bf16, or float32.")
    if config.penalty_precision == "bf16" and device.type == "cuda" and not computes_bf16():
        raise ValueError("penalty_precision bf16: this GPU only emulates it, slower than float32; choose float32.")


@dataclasses.dataclass(frozen=True)
class GANInputs:
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
class LatentTable:
    """`values` (samples, latent) float32 of `samples`; `shown`: those generated in every sample grid."""

    samples: list[str]
    values: NDArray[np.float32]
    shown: list[str]

    def of(self, samples: list[str]) -> NDArray[np.float32]:
        """The latents of samples, all of which must be there, (n, latent)."""
        rows = pd.Index(self.samples).get_indexer(samples)
        assert (rows >= 0).all()
        return self.values[rows]


@dataclasses.dataclass(frozen=True)
class GANData:
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


def digests(config: TileConfig, inputs: GANInputs, shards: ShardSet, selection: Selection) -> dict[str, str]:
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


def join_profiles(
    config: TileConfig,
    inputs: GANInputs,
    made_from: dict[str, str],
    cohort: pd.DataFrame,
    selection: Selection,
    validation_samples: list[str],
    keep: Callable[[str, Callable[[], LatentTable]], LatentTable],
    opened: Callable[[], Encoder],
    stains_of: Callable[[Selection], NDArray[np.float64]],
) -> tuple[Selection, Profiles, LatentTable]:
    """The latent of every profile of the selection; slides whose profile isn't there are left out, by name.

    The table also holds those of `validation_samples` that have a profile. `keep` returns a table that was made from
    the same before, or else makes it. The main process alone has the encoder `opened` and reads the profiles; every
    process must call.
    """

    def encoded() -> tuple[LatentTable, tuple[NDArray, NDArray, NDArray]]:
        encoder = opened()
        digest = asked(made_from=made_from, samples=selection.table["sample"].tolist(), validation=validation_samples)
        found = keep(digest, functools.partial(_encode, inputs, encoder, cohort, selection, validation_samples))
        return found, (encoder.space.active, encoder.space.mean, encoder.space.sd)

    table, space = processes().from_main(encoded)
    known = selection.table["sample"].isin(table.samples).to_numpy()
    what, name = ("slides", "slide") if selection.stored is None else ("tiles' profiles", "sample")
    without = selection.table.loc[~known, name].tolist()
    selection = selection.only(known, {f"{what} without a profile": without})
    stains = nuisance = None
    if config.nuisance == "section_stain":
        stains = torch.from_numpy(processes().from_main(functools.partial(stains_of, selection)))
        each = stains[~torch.from_numpy(selection.table["slide"].duplicated().to_numpy())]  # a slide once
        nuisance = each.mean(0), each.std(0, correction=0).clamp(min=1e-6)
    active, mean, sd = map(torch.from_numpy, space)
    bottleneck = make_bottleneck(config, active, mean, sd, nuisance)
    own = selection.table["sample"].tolist()
    if config.shuffle_profiles:
        given = shuffled_samples(selection.table, config.seed, selection.stored is not None)
    else:
        given = own
    latents, shown = (torch.from_numpy(table.of(samples)) for samples in (given, table.shown))
    return selection, Profiles(bottleneck, latents, shown, stains), table


def encoder_folder(inputs: GANInputs, out: Path) -> Path:
    """The folder of the encoder of a run's profiles: of the VAE given, or `out/embedding`."""
    return out / "embedding" if inputs.vae is None else model_folder(inputs.vae)


def open_encoder(inputs: GANInputs, out: Path, dry_run: bool) -> Encoder:
    """The encoder of a run's profiles, which is made of their embedding where no VAE is given, and is then in its
    folder unless it is a dry run. For the main process."""
    folder = encoder_folder(inputs, out)
    if inputs.vae is not None:
        return load_encoder(folder)
    assert inputs.embedding is not None and inputs.expression is not None
    key = embedding_key(inputs.embedding)
    expression = read_embedding(inputs.expression, key)
    train = expression.obs["donor"][expression.obs["split"] == "train"].unique()
    encoder = EmbeddingModel.fit(expression, key, {"train_donors": sorted(map(donor_digest, train))})
    if not dry_run:
        save_embedding(folder, encoder)
    return encoder


def _encode(
    inputs: GANInputs, encoder: Encoder, cohort: pd.DataFrame, selection: Selection, validation_samples: list[str]
) -> LatentTable:
    """Latents of the selection's profiles, of those generated in sample grids, and of the validation's."""
    assert inputs.expression is not None
    expression = encoder.read(inputs.expression)
    check_same_splits(cohort, expression.obs, inputs.cohort, inputs.expression)
    held_out = expression.obs.loc[expression.obs["split"] != "train", "donor"]
    seen = seen_donors(held_out, encoder.record["train_donors"])
    if seen and expression.split_by == "donor":
        raise ValueError(
            f"{inputs.vae} was trained on donors that {inputs.expression} holds out ({first_few(seen)}); train a VAE "
            "with these splits."
        )
    own = selection.table["sample"][selection.table["sample"].isin(expression.obs.index)].unique().tolist()
    if not own:
        raise ValueError(f"No slide of the training split has a profile in {inputs.expression}.")
    validation = expression.obs.index[expression.obs["split"] == "validation"]
    shown = _few_of_each_tissue(expression.obs.loc[validation, "tissue"], selection.table["tissue"].unique())
    shown = shown or own[:FIXED_PROFILES]
    validated = [sample for sample in validation_samples if sample in expression.obs.index]
    samples = list(dict.fromkeys([*own, *shown, *validated]))
    rows = expression.obs.index.get_indexer(samples)
    encoding = encoder.encode(expression.values[rows], expression.genes, expression.units)
    return LatentTable(samples, encoding.latents, shown)


def _few_of_each_tissue(tissue_of: pd.Series, tissues: np.ndarray) -> list[str]:
    each = max(1, FIXED_PROFILES // len(tissues))
    return [sample for tissue in sorted(tissues) for sample in tissue_of.index[tissue_of == tissue][:each]]


def latent_table(run: Path, made_from: str, encode: Callable[[], LatentTable]) -> LatentTable:
    """The table in `run/latents.parquet`; a new one where it isn't there or was made from other inputs.

    `made_from` is a digest of all that decides its content. It is for the main process.
    """
    table = _read_latents(run / _LATENTS, made_from)
    if table is None:
        table = encode()
        _write_latents(run / _LATENTS, made_from, table)
    return table


def shown_samples(run: Path) -> list[str]:
    """The samples generated in a run's sample grids, a row each."""
    try:
        with pq.ParquetFile(run / _LATENTS, pre_buffer=False) as file:
            return json.loads((file.schema_arrow.metadata or {})[_METADATA])["shown"]
    except (OSError, pa.ArrowException, KeyError, ValueError):
        raise FileNotFoundError(f"{run / _LATENTS} does not say which profiles its sample grids show.") from None


def _write_latents(path: Path, made_from: str, table: LatentTable) -> None:
    values = pa.FixedSizeListArray.from_arrays(pa.array(table.values.ravel()), table.values.shape[1])
    metadata = json.dumps({"made_from": made_from, "shown": table.shown})
    columns = pa.table({"sample": pa.array(table.samples, pa.string()), "latent": values}).replace_schema_metadata(
        {_METADATA: metadata.encode()}
    )
    with atomic_path(path) as temporary:
        pq.write_table(columns, temporary)


def _read_latents(path: Path, made_from: str) -> LatentTable | None:
    """The table at `path`; None where there is none that was made from this."""
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            columns = file.read(use_threads=False)
        metadata = json.loads((columns.schema.metadata or {})[_METADATA])
        if metadata["made_from"] != made_from:
            return None
        values = columns["latent"].combine_chunks().flatten().to_numpy().reshape(len(columns), -1)
        return LatentTable(columns["sample"].to_pylist(), np.array(values), metadata["shown"])
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None
