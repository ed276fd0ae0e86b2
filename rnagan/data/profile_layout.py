"""Which profile lies in which shard at which place, and the order of training over those of a split.

Pure functions of sample ids: training from memory deals the profiles as rnagan build-profiles would, and so sees the
same sequence as training from shards.
"""

import dataclasses
import functools
from collections.abc import Collection, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rnagan.data.sampler import WINDOW, Indices, ReshuffledOrder
from rnagan.io.tables import first_few
from rnagan.runtime import rng

PER_SHARD = 256  # 20 MB of 19,198 genes: a shard is sent in a second, and a window of them covers any cohort


def deal(samples: Sequence[str], seed: int = 0, per_shard: int = PER_SHARD) -> list[Indices]:
    """Rows of the profiles of each shard, in stored order: all of them, in a random order, cut into pieces.

    It depends on the set of sample ids alone, not on their order. So the first n of a shard are a uniform draw.
    """
    by_name = np.array(sorted(range(len(samples)), key=samples.__getitem__), np.int64)
    rows = by_name[rng.generator(seed, "profiles").permutation(len(samples))]
    return [rows[at : at + per_shard] for at in range(0, len(rows), per_shard)]


@dataclasses.dataclass(frozen=True)
class Arrangement:
    """Profiles in stored order: `samples` by shard and place; `sizes` (shards,): profiles of each shard."""

    samples: list[str]
    sizes: Indices

    @classmethod
    def dealt(cls, samples: Sequence[str], seed: int = 0, per_shard: int = PER_SHARD) -> Self:
        """That of the shards which rnagan build-profiles makes of these samples in an empty folder."""
        shards = deal(samples, seed, per_shard)
        return cls([samples[row] for rows in shards for row in rows], np.array([len(rows) for rows in shards]))

    @functools.cached_property
    def first_rows(self) -> Indices:
        """Row of the first profile of each shard in `samples`, (shards,)."""
        return np.cumsum(self.sizes) - self.sizes

    def select(self, samples: Collection[str]) -> "ProfileSelection":
        """Those of the given samples, such as the training split's, that are here; at least one must be."""
        wanted = set(samples)
        chosen = np.fromiter((sample in wanted for sample in self.samples), bool, len(self.samples))
        if not chosen.any():
            raise ValueError(
                f"None of the {len(wanted):,} selected samples ({first_few(sorted(wanted))}) is among the "
                f"{len(self.samples):,} profiles ({first_few(self.samples)}); use the same sample ids."
            )
        pieces = np.split(chosen, np.cumsum(self.sizes)[:-1])
        return ProfileSelection(self, [np.flatnonzero(piece) for piece in pieces])


@dataclasses.dataclass(frozen=True)
class ProfileSelection:
    """Some of the profiles of an arrangement: `places` of them in each shard, rising."""

    arrangement: Arrangement
    places: list[NDArray[np.int64]]

    @functools.cached_property
    def counts(self) -> Indices:
        """Selected profiles of each shard, (shards,)."""
        return np.array([len(places) for places in self.places], np.int64)

    @functools.cached_property
    def all_rows(self) -> Indices:
        """Rows of `arrangement.samples` of all selected profiles, in stored order."""
        return np.concatenate([f + p for f, p in zip(self.arrangement.first_rows.tolist(), self.places, strict=True)])

    @property
    def samples(self) -> list[str]:
        """All selected samples, in stored order."""
        return [self.arrangement.samples[row] for row in self.all_rows]

    def order(self, seed: int, window: int = WINDOW) -> ReshuffledOrder:
        """The endless order of training: each selected profile once an epoch, as (shard, k-th selected of it)."""
        return ReshuffledOrder(self.counts, seed, window, purpose="vae order")

    def rows(self, located: Indices) -> Indices:
        """Rows of `arrangement.samples`, (n,), of what an order of this selection locates, (n, 2)."""
        shards, k = located.T
        return self.all_rows[(np.cumsum(self.counts) - self.counts)[shards] + k]
