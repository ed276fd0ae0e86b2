"""Sets of profile shards: which samples, genes and units they hold, and batches of profiles from them.

A shard holds a few hundred profiles in a random order, under a name that says nothing; labels are joined by sample.
"""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from rnagan.data.index import DamagedShard, Locations, Shards, open_shards
from rnagan.data.loader import Loading, batches
from rnagan.data.manifest import GENES, SAMPLES
from rnagan.data.npy_codec import decode_profile_into
from rnagan.data.packed import Packed
from rnagan.data.profile_layout import Arrangement, ProfileSelection
from rnagan.data.reader import Corner, ProfileBatch, Replaced, ShardReader
from rnagan.data.sampler import Indices, Order
from rnagan.data.set_digest import table_sum
from rnagan.data.shard_schema import ProfileKind, genes_digest


@dataclasses.dataclass(frozen=True)
class ProfileSet(Shards):
    """A folder of profiles, a few hundred a shard. Values are float32 in `units`, (genes,) in the order of `genes`."""

    genes: list[str]
    symbols: list[str]
    units: str
    arrangement: Arrangement

    script: ClassVar[str] = "rnagan build-profiles"

    @property
    def samples(self) -> list[str]:
        """Sample of each profile, by shard and place."""
        return self.arrangement.samples

    @functools.cached_property
    def shard_names(self) -> list[str]:
        """By number."""
        return self.slides["slide"].tolist()


def open_profile_set(address: Path | str) -> ProfileSet:
    """Open a folder made by rnagan build-profiles, here or at a URL.

    Raises `ValueError` or `FileNotFoundError` where it isn't one, and `DamagedShard` where a table of it is damaged.
    """
    shards, kind = open_shards(address, ProfileSet.script)
    if not isinstance(kind, ProfileKind):
        raise ValueError(f"{shards.address} holds {kind}; a folder of profiles is wanted ({ProfileSet.script}).")
    nothing = Arrangement([], np.array([]))
    opened = ProfileSet(shards.storage, shards.slides, shards.digest, [], [], kind.units, nothing, sums=shards.sums)
    genes, samples = opened._read_table(GENES), opened._read_table(SAMPLES)
    if genes_digest(genes, kind.units) != kind.genes_sha256 or len(genes) != kind.genes:
        raise DamagedShard(f"{opened.address}/{GENES} is not the one of these shards; {kind.again}.")
    return dataclasses.replace(
        opened,
        genes=genes["gene"].tolist(),
        symbols=genes["symbol"].tolist(),
        arrangement=_arrangement(opened, samples),
    )


def profile_batches(
    profiles: ProfileSet,
    selection: ProfileSelection,
    order: Order,
    start: int,
    batch_size: int,
    rank: int = 0,
    processes: int = 1,
    loading: Loading | None = None,
) -> Iterator[ProfileBatch]:
    """Endless batches of this process from profile number `start` of the order on, by the rules of `tile_batches`.

    `selection` is one of `profiles.arrangement`, and `order` one of its orders.
    """
    return batches(ProfileReader(profiles, selection), order, start, batch_size, rank, processes, loading)


def all_profiles(
    profiles: ProfileSet, selection: ProfileSelection, batch_size: int, loading: Loading | None = None
) -> Iterator[ProfileBatch]:
    """Each selected profile once, in stored order; the last batch is what is left."""
    order, read = _StoredOrder(selection.counts), 0
    endless = batches(ProfileReader(profiles, selection), order, 0, batch_size, loading=loading)
    with contextlib.closing(endless):
        for batch in itertools.islice(endless, -(-order.epoch_length // batch_size)):
            kept = min(batch_size, order.epoch_length - read)
            yield batch._replace(values=batch.values[:kept], rows=batch.rows[:kept])
            read += kept


class ProfileReader(ShardReader):
    """Reads the selected profiles, each (genes,) float32: k of (shard, k) counts those of a shard that are selected."""

    kind, dtype = ProfileKind, np.float32

    def __init__(self, profiles: ProfileSet, selection: ProfileSelection) -> None:
        assert selection.arrangement is profiles.arrangement
        super().__init__(profiles, profiles.shard_names, selection.counts)
        self.shape = (len(profiles.genes),)
        self.selection = selection

    def batch(self, start: int, packed: Packed, replaced: tuple[Replaced, ...]) -> ProfileBatch:
        rows = self.selection.rows(packed.field("places").numpy())
        return ProfileBatch(start, packed.field("items"), torch.from_numpy(rows), replaced)

    def decode_bytes(self, data: bytes, out: NDArray, corner: Corner | None = None) -> None:
        decode_profile_into(data, out)

    def place(self, slide: int, k: int) -> int:
        return int(self.selection.places[slide][k])

    def _locate(self, slide: int) -> Locations:
        whole, places = self.shards.locations(self.slides[slide]), self.selection.places[slide]
        return Locations(whole.offset[places], whole.size[places], whole.crc32[places])


class _StoredOrder:
    """Shard after shard, place after place, again and again."""

    def __init__(self, counts: Indices) -> None:
        self.counts, self.epoch_length = counts, int(counts.sum())
        self._ends = np.cumsum(counts)

    @property
    def shares(self) -> NDArray[np.float64]:
        return self.counts / self.epoch_length

    def locate(self, start: int, count: int) -> Indices:
        numbers = np.arange(start, start + count) % self.epoch_length
        shards = np.searchsorted(self._ends, numbers, side="right")
        return np.stack([shards, numbers - (self._ends - self.counts)[shards]], axis=1)


def _arrangement(shards: Shards, table: pd.DataFrame) -> Arrangement:
    sizes = shards.slides["tiles"].to_numpy(np.int64)
    expected = np.repeat(shards.slides["slide"].to_numpy(), sizes), np.concatenate([np.arange(n) for n in sizes])
    stored = table["slide"].to_numpy(), table["place"].to_numpy()
    if (
        not all(np.array_equal(*pair) for pair in zip(stored, expected, strict=True))
        or table["sample"].duplicated().any()
        or shards.sums.get(SAMPLES, found := table_sum(table)) != found
    ):
        raise DamagedShard(
            f"{shards.address}/{SAMPLES} is not that of these shards; mend it with rnagan check-shards --repair."
        )
    return Arrangement(table["sample"].tolist(), sizes)
