"""The profiles of a VAE run: from an .h5ad in memory, or streamed from profile shards, in one and the same order."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnagan.cohort.filter import matching_rows
from rnagan.cohort.table import read_cohort, split_by
from rnagan.config.vae import VAEConfig
from rnagan.data.packed import Layout, Packed, Row
from rnagan.data.profile_layout import PER_SHARD, Arrangement, ProfileSelection
from rnagan.data.profile_shards import ProfileSet, all_profiles, open_profile_set, profile_batches
from rnagan.expression.build_h5ad import profiles_of_cohort
from rnagan.expression.h5ad import OBS_COLUMNS, open_expression
from rnagan.expression.transform import ExpressionTransform
from rnagan.io.files import sha256_of_file
from rnagan.runtime import rng
from rnagan.runtime.distributed import Processes
from rnagan.training.launch import dtype_of
from rnagan.training.vae.augmentation import InputAugmentation

Values = NDArray[np.float32]
T = TypeVar("T")
BLOCK = PER_SHARD  # profiles that are read, fitted and encoded at a time


@dataclasses.dataclass(frozen=True)
class VAEInputs:
    """`expression`: an .h5ad, or a folder or URL of profile shards, whose labels `cohort` has (None with an .h5ad)."""

    expression: Path | str
    cohort: Path | None = None


@dataclasses.dataclass(frozen=True)
class VAEData:
    """Profiles of a run. `obs` by sample, with OBS_COLUMNS; `genes` and `units` of all values.

    `split_by` and `pooled`: as in `Expression`. `made_from`: digests of the inputs. `in_memory`: values of the profiles
    in `obs`, in stored order, or None where they're streamed from `shards`.
    """

    obs: pd.DataFrame
    genes: list[str]
    units: str
    split_by: str
    made_from: dict[str, str]
    arrangement: Arrangement
    in_memory: Values | None = None
    shards: ProfileSet | None = None
    pooled: int = 0

    def split(self, name: str) -> ProfileSelection | None:
        """The profiles of a split in stored order; None where it has none."""
        samples = self.obs.index[self.obs["split"] == name]
        return self.arrangement.select(samples.tolist()) if len(samples) else None

    def tissues(self, selection: ProfileSelection) -> list[str]:
        """Tissue of each selected profile, in stored order."""
        return self.obs.loc[selection.samples, "tissue"].tolist()

    def blocks(self, selection: ProfileSelection) -> Iterator[Values]:
        """Values (up to BLOCK, genes) of all selected profiles, in stored order; the same blocks from either source."""
        if self.in_memory is None:
            assert self.shards is not None
            yield from (batch.values.numpy() for batch in all_profiles(self.shards, selection, BLOCK))
            return
        places = np.searchsorted(self.arrangement.select(self.obs.index).all_rows, selection.all_rows)
        for at in range(0, len(places), BLOCK):
            yield self.in_memory[places[at : at + BLOCK]]


class TrainingBatch(NamedTuple):
    """What one process takes a step on, float64 or float32, in one piece of memory."""

    packed: Packed

    @classmethod
    def empty(cls, config: VAEConfig, count: int, genes: int, pin_memory: bool = False) -> Self:
        """Room for `count` profiles; with `seen` where the config augments, `keep` where it drops genes or inputs."""
        dtype = dtype_of(config.precision)
        rows = {"x": Row((genes,), dtype), "eps": Row((config.latent,), dtype)}
        if config.augments:
            rows["seen"] = Row((genes,), dtype)
        if config.gene_dropout or config.input_dropout:
            rows["keep"] = Row((genes,), dtype)
        return cls(Packed.empty(Layout(count, rows), pin_memory))

    @property
    def x(self) -> Tensor:
        """Scores of the transform, (n, genes)."""
        return self.packed.field("x")

    @property
    def seen(self) -> Tensor:
        """What the encoder sees of `x`, before `keep`, (n, genes)."""
        return self.packed.field("seen") if "seen" in self.packed.layout.rows else self.x

    @property
    def eps(self) -> Tensor:
        """Standard normal, (n, latent)."""
        return self.packed.field("eps")

    @property
    def keep(self) -> Tensor | None:
        """Factor of the encoder's input, (n, genes)."""
        return self.packed.field("keep") if "keep" in self.packed.layout.rows else None

    def to(self, device: torch.device) -> Self:
        """On a device, by one copy."""
        return type(self)(self.packed.to(device))


def open_vae_data(inputs: VAEInputs, where: str, here: Processes | None = None) -> VAEData:
    """Open the profiles that `where` chooses; of the processes `here`, the main one hashes the files.

    Raises `ValueError` where training or validation has none.
    """
    address, here = str(inputs.expression), here or Processes(0, 1)
    if _is_file(address):
        return _open_file(Path(address), where, here)
    return _open_shards(address, inputs.cohort, where)


def training_batches(
    data: VAEData,
    selection: ProfileSelection,
    transform: ExpressionTransform,
    config: VAEConfig,
    first: int,
    rank: int = 0,
    processes: int = 1,
    pin_memory: bool = False,
) -> Generator[TrainingBatch]:
    """Endless batches of this process from profile number `first` of the run on, made by a thread ahead of their use.

    Batch b of the run holds profiles b·B … b·B + B − 1; each number addresses its profile, in the order of
    `ProfileSelection.order`, and its noise. So all is the same on any number of processes, in memory or streamed.
    """
    augmentation = InputAugmentation.of(config, transform)
    make = functools.partial(_with_draws, config, augmentation=augmentation, pin_memory=pin_memory)
    if data.in_memory is not None:
        z = standardised(data, selection, transform)
        scores = _scores_in_memory(z, selection, config, first, rank, processes)
    else:
        assert data.shards is not None
        order = selection.order(config.seed)
        stream = profile_batches(data.shards, selection, order, first, config.batch_size, rank, processes)
        scores = ((batch.start, transform.apply(batch.values.numpy(), data.genes, data.units)) for batch in stream)
    return _ahead(make(number, z) for number, z in scores)


def standardised(data: VAEData, selection: ProfileSelection | None, transform: ExpressionTransform) -> Values:
    """Scores (profiles, the model's genes) of all selected profiles, in stored order, in memory."""
    if selection is None:
        return np.empty((0, len(transform.genes)), np.float32)
    z = np.empty((int(selection.counts.sum()), len(transform.genes)), np.float32)
    at = 0
    for block in standardised_blocks(data, selection, transform):
        z[at : at + len(block)] = block
        at += len(block)
    return z


def standardised_blocks(data: VAEData, selection: ProfileSelection, transform: ExpressionTransform) -> Iterator[Values]:
    """As `standardised`, up to BLOCK profiles at a time."""
    return (transform.apply(block, data.genes, data.units) for block in data.blocks(selection))


def _is_file(address: str) -> bool:
    return address.lower().endswith(".h5ad") or Path(address).is_file()


def _open_file(path: Path, where: str, here: Processes) -> VAEData:
    with open_expression(path) as stored:
        obs = _chosen(stored.obs, where, path)
        arrangement = Arrangement.dealt(stored.obs.index.tolist())
        values = stored.rows(stored.obs.index.get_indexer(arrangement.select(obs.index).samples))
        about, pooled = (stored.genes, stored.units, stored.split_by), stored.pooled
    made_from = {"expression": here.from_main(lambda: sha256_of_file(path))}
    return VAEData(obs, *about, made_from, arrangement, values, pooled=pooled)


def _open_shards(address: str, cohort: Path | None, where: str) -> VAEData:
    shards = open_profile_set(address)
    if cohort is None:
        raise ValueError(f"{address} holds profile shards, which don't say donor, tissue or split: give --cohort too.")
    table = read_cohort(cohort)
    people = profiles_of_cohort(table, cohort)
    known = [sample for sample in shards.samples if sample in people.index]
    if not known:
        raise ValueError(
            f"No profile of {address} is in {cohort}: the shards hold {shards.samples[0]}, the cohort "
            f"{people.index[0]}; use the same sample ids."
        )
    obs = _chosen(people.loc[known, list(OBS_COLUMNS)], where, address)
    made_from = {"expression": shards.digest, "cohort": sha256_of_file(cohort)}
    return VAEData(obs, shards.genes, shards.units, split_by(table), made_from, shards.arrangement, shards=shards)


def _chosen(obs: pd.DataFrame, where: str, source: Path | str) -> pd.DataFrame:
    """The profiles that `where` chooses; both training and validation must have some."""
    chosen = obs[matching_rows(obs.astype(str), where)]
    for name, word in (("train", "training"), ("validation", "validation")):
        if not (chosen["split"] == name).any():
            meant = f" that meet where {where!r}" if where else ""
            raise ValueError(f"{source} holds no {word} profiles{meant}; check the splits of the cohort table.")
    return chosen


def _scores_in_memory(
    z: Values, selection: ProfileSelection, config: VAEConfig, first: int, rank: int, processes: int
) -> Iterator[tuple[int, Values]]:
    order, share = selection.order(config.seed), config.batch_size // processes
    while True:
        number = first + rank * share
        yield number, z[np.searchsorted(selection.all_rows, selection.rows(order.locate(number, share)))]
        first += config.batch_size


def _with_draws(
    config: VAEConfig,
    number: int,
    z: Values,
    augmentation: InputAugmentation | None = None,
    pin_memory: bool = False,
) -> TrainingBatch:
    count, genes = z.shape
    batch = TrainingBatch.empty(config, count, genes, pin_memory)
    batch.x.numpy()[:] = z
    batch.eps.numpy()[:] = rng.normal(config.seed, "vae noise", number, count, config.latent)
    if augmentation is not None:
        batch.seen.numpy()[:] = z + augmentation.offsets(number, count)
    if batch.keep is None:
        return batch
    keep = batch.keep.numpy()
    keep[:] = 1
    if config.gene_dropout:
        share = config.gene_dropout * rng.uniform(config.seed, "vae gene dropout share", number, count, 1)
        draws = rng.byte_draws(config.seed, "vae gene dropout", number, count, genes)
        keep *= draws >= np.rint(share * 256).astype(np.uint16)
    if config.input_dropout:
        kept = rng.uniform(config.seed, "vae dropout", number, count, genes) >= config.input_dropout
        keep *= (kept / (1 - config.input_dropout)).astype(keep.dtype)
    return batch


def _ahead(items: Iterator[T], depth: int = 2) -> Generator[T]:
    """Endless items, made in a thread while those before are used: drawing noise takes as long as a step on a GPU."""
    pending: collections.deque = collections.deque()
    with ThreadPoolExecutor(1, thread_name_prefix="profiles") as pool:
        following: Callable[[], T] = functools.partial(next, items)
        pending.extend(pool.submit(following) for _ in range(depth))
        while True:
            yield pending.popleft().result()
            pending.append(pool.submit(following))
