"""How well batches mix donors: different donors in a batch, against as many independent draws."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rnagan.cohort.table import read_cohort
from rnagan.config.gan import GANConfig
from rnagan.data.index import open_dataset
from rnagan.data.sampler import Order
from rnagan.data.selection import make_order, select

GOOD_SHARE = 0.95


class Mixing(NamedTuple):
    """Different donors a batch: `mean` and `least` of `batches` batches of an epoch, and what draws would give."""

    batches: int
    mean: float
    least: int
    expected: float

    @property
    def share(self) -> float:
        """The mean as a share of what independent draws give."""
        return self.mean / self.expected


def measure_mixing(order: Order, donors: pd.Series, batch_size: int, most_batches: int = 1000) -> Mixing:
    """Look at batches spread evenly over the first epoch. `donors`: of each slide of the order.

    The draws compared with are independent, with replacement, of each donor as often as the order shows it in the long
    run: Σ 1 − (1 − pᵈ)ᴮ different ones over donors d, in batches of B.
    """
    donor_of = pd.factorize(donors)[0]
    batches = max(1, order.epoch_length // batch_size)
    looked_at = np.unique(np.linspace(0, batches - 1, min(batches, most_batches)).astype(np.int64))
    shown = [donor_of[order.locate(int(b) * batch_size, batch_size)[:, 0]] for b in looked_at]
    different = [len(np.unique(batch)) for batch in shown]
    share = np.bincount(donor_of, weights=order.shares, minlength=donor_of.max() + 1)
    expected = float((1 - (1 - share) ** batch_size).sum())
    return Mixing(len(looked_at), float(np.mean(different)), min(different), expected)


def describe_mixing(shards: Path | str, cohort: Path, config: GANConfig) -> str:
    """A sentence on the training batches that a config makes of these shards."""
    selection = select(open_dataset(shards), read_cohort(cohort), "train", config.tiles_per_slide, config.where)
    order = make_order(selection, config)
    found = measure_mixing(order, selection.table["donor"], config.batch_size)
    slides = int((order.counts > 0).sum())
    told = (
        f"{slides:,} training slides, {order.epoch_length:,} tiles, {config.window_slides:,} slides open: "
        f"batches of {config.batch_size} hold {found.mean:.1f} different donors (at least {found.least}, of "
        f"{found.batches:,} batches); independent draws would hold {found.expected:.1f}: {found.share:.1%}."
    )
    if found.share < GOOD_SHARE and config.window_slides < slides:
        told += " Let more slides be open: --window-slides."
    return told
