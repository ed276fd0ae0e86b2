"""Which slides of a shard set are read, with profile, donor and tissue of each, in which order, and how donors mix."""

import dataclasses
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from rnagan.cohort.filter import matching_rows
from rnagan.cohort.table import split_by
from rnagan.data.index import ShardSet
from rnagan.data.reader import SpotReader, TileReader
from rnagan.data.sampler import WINDOW, Order, TileOrder, WeightedOrder
from rnagan.io.codes import coded, in_several
from rnagan.io.tables import first_few, need_columns, read_table

GOOD_SHARE = 0.95  # of the donors that independent draws would give: fewer get advice


@dataclasses.dataclass(frozen=True)
class Selection:
    """`table`: one row a slide, by slide, with at least slide, sample, donor, tissue; where tiles have profiles of
    their own, one row a slide and profile. `counts` (slides,): tiles used of each slide, of all its rows together.

    `profiles` (rows,): where tiles have profiles of their own, the row of each in the set's table of profiles, and
    `stored` (rows,) how many there are of it; of all of a slide, the first `most` are used.
    """

    table: pd.DataFrame
    counts: NDArray[np.int64]
    left_out: dict[str, list[str]]  # reason → slides or samples
    profiles: NDArray[np.int32] | None = None
    stored: NDArray[np.int32] | None = None
    most: int = 0

    @property
    def slides(self) -> pd.DataFrame:
        """The first row of each slide, in the order of `counts`: all that an order needs."""
        return (
            self.table
            if self.stored is None
            else self.table.iloc[_firsts(self.table)].reset_index(drop=True).astype(str)
        )

    @property
    def tiles(self) -> NDArray[np.int64]:
        """Tiles of each row that can be used, (rows,)."""
        return self.counts if self.stored is None else self.stored.clip(max=self.most).astype(np.int64)

    def only(self, rows: NDArray[np.bool_], left_out: dict[str, list[str]]) -> "Selection":
        """Some of the rows, at least one; `left_out`: the others, by reason."""
        table, left_out = self.table[rows].reset_index(drop=True), self.left_out | left_out
        if self.stored is None or self.profiles is None:
            return Selection(table, self.counts[rows], left_out)
        profiles, stored = self.profiles[rows], self.stored[rows]
        return Selection(table, _of_slides(table, stored, self.most), left_out, profiles, stored, self.most)

    def reader(self, shards: ShardSet, counts: NDArray[np.int64] | None = None, window: int = WINDOW) -> TileReader:
        """Reads the selection's tiles; a batch's `slides` are rows of `table`. `counts` (slides,): those in use, all by
        default."""
        counts = self.counts if counts is None else counts
        slides = self.slides["slide"].tolist()
        if self.profiles is None:
            return TileReader(shards, slides, counts, window)
        return SpotReader(shards, slides, self.profiles, _firsts(self.table), counts, window)


def select(shards: ShardSet, cohort: pd.DataFrame, split: str, tiles_per_slide: int, where: str = "") -> Selection:
    """Slides of `split` that have tiles and a row in the cohort table; what is left out is listed by reason.

    `where` chooses among the rows by any column (rnagan/cohort/filter.py). The first `tiles_per_slide` tiles of each
    shard are used, which are a uniform draw.
    """
    if shards.profiles is not None:
        return _select_spots(shards, cohort, split, tiles_per_slide, where)
    if split_by(cohort) in ("section", "block"):
        raise ValueError(
            f"The cohort table is split by {split_by(cohort)} and gives slides several profiles, and {shards.address} "
            "says of no tile which is its own; build it with rnagan build-tiles --profile-column."
        )
    tiles = shards.slides.set_index("slide")["tiles"]
    paired = cohort[cohort["slide"] != ""]
    in_split = paired[paired["split"] == split]
    chosen = matching_rows(paired, where)[in_split.index]
    rows = in_split[chosen]
    known = rows["slide"].isin(tiles.index)
    with_tiles = known & rows["slide"].map(tiles).fillna(0).gt(0)
    repeated = with_tiles & rows["slide"].duplicated()
    table = rows[with_tiles & ~repeated].sort_values("slide").reset_index(drop=True)
    if table.empty:
        raise _nothing("slide", shards, split, where)
    counts = table["slide"].map(tiles).clip(upper=tiles_per_slide).to_numpy(np.int64)
    return Selection(
        table,
        counts,
        {
            "slides that the selection doesn't want": in_split.loc[~chosen, "slide"].tolist(),
            "slides in the cohort table without shards": rows.loc[~known, "slide"].tolist(),
            "slides without tiles": rows.loc[known & ~with_tiles, "slide"].tolist(),
            "samples beyond the first of a slide": rows.loc[repeated, "sample"].tolist(),
            "shards without a row in the cohort table": sorted(set(tiles.index) - set(paired["slide"])),
        },
    )


def _select_spots(shards: ShardSet, cohort: pd.DataFrame, split: str, tiles_per_slide: int, where: str) -> Selection:
    """As `select`, where tiles have profiles of their own: the profiles of `split` that have tiles.

    Rows are chosen by masks, and the cohort table, which may have 100 million, is copied once.
    """
    assert shards.profiles is not None
    paired = (cohort["slide"] != "").to_numpy(bool)
    if not paired.all():
        cohort = cohort[paired]
    found = shards.profiles.rows(cohort["slide"], cohort["sample"])
    in_split = (cohort["split"] == split).to_numpy(bool)
    chosen = in_split & matching_rows(cohort, where).to_numpy(bool) if where.strip() else in_split
    without_tiles = chosen & (found < 0)
    taken = np.flatnonzero(chosen & (found >= 0))
    if not len(taken):
        raise _nothing("profile", shards, split, where)
    profiles = found[taken]
    if (profiles[1:] < profiles[:-1]).any():  # the set's table is by slide and profile
        order = np.argsort(profiles)
        taken, profiles = taken[order], profiles[order]
    table, stored = cohort.iloc[taken].reset_index(drop=True), shards.profiles.tiles[profiles]
    for column in ("donor", "tissue"):
        if several := in_several(table, "slide", column):
            raise ValueError(
                f"The cohort table gives slides several {column}s ({first_few(several)}), and a shard is of one; give "
                "them the same, or build a shard for each."
            )
    unknown = cohort.loc[without_tiles, ["slide", "sample"]]
    known = unknown["slide"].isin(shards.slides["slide"])
    without_row = np.ones(len(shards.profiles), bool)
    without_row[found[found >= 0]] = False
    return Selection(
        table,
        _of_slides(table, stored, tiles_per_slide),
        {
            "profiles that the selection doesn't want": cohort.loc[in_split & ~chosen, "sample"].tolist(),
            "slides in the cohort table without shards": unknown.loc[~known, "slide"].unique().tolist(),
            "profiles without tiles": unknown.loc[known, "sample"].tolist(),
            "profiles of tiles without a row in the cohort table": shards.profiles.names.filter(
                pa.array(without_row)
            ).to_pylist(),
        },
        profiles,
        stored,
        tiles_per_slide,
    )


def _firsts(table: pd.DataFrame) -> NDArray[np.int64]:
    """The first row of each slide of a table by slide, (slides,)."""
    slides, _ = coded(table["slide"])
    return np.append(0, np.flatnonzero(slides[1:] != slides[:-1]) + 1)


def _of_slides(table: pd.DataFrame, stored: NDArray[np.int32], most: int) -> NDArray[np.int64]:
    """Tiles used of each slide, (slides,): those of its rows together, `most` at most."""
    return np.add.reduceat(stored.astype(np.int64), _firsts(table)).clip(max=most)


def _nothing(what: str, shards: ShardSet, split: str, where: str) -> ValueError:
    meant = f" where {where}" if where else ""
    return ValueError(
        f"No {what} of split {split}{meant} has tiles in {shards.address}; is it the cohort table of these shards?"
    )


def make_order(
    selection: Selection, seed: int, window: int, tile_order: str = "mixed", tissue_weights: str = "natural"
) -> Order:
    """The order of the tiles of a selection: `tile_order` mixed or by_slide; `tissue_weights` as `read_weights` has it.

    Raises `ValueError` where weights and `tile_order` don't go together.
    """
    weights = read_weights(tissue_weights, selection)
    if weights is None:
        return TileOrder(selection.counts, seed, window, tile_order == "by_slide")
    if tile_order == "by_slide":
        raise ValueError("Tissue weights need tile_order mixed; for by_slide choose tissue_weights natural.")
    return WeightedOrder(selection.counts, selection.slides["tissue"].tolist(), weights, seed, window)


def read_weights(text: str, selection: Selection) -> dict[str, float] | None:
    """The weight of each tissue of a selection, or None where every tile counts alike: `natural`, or one tissue alone.

    `text`: natural; balanced: every tissue alike; `lung=2,colon=1`; or a table with columns tissue and weight. Every
    tissue must be named, with 0 for one to leave out.
    """
    tissues = sorted(selection.table["tissue"].unique())
    if text == "natural" or (text == "balanced" and len(tissues) == 1):
        return None
    if text == "balanced":
        return dict.fromkeys(tissues, 1.0)
    stated = _stated_weights(text)
    for these, what in ((set(tissues) - stated.keys(), "no weight of"), (stated.keys() - set(tissues), "a weight of")):
        if these:
            raise ValueError(
                f"tissue_weights {text!r} has {what} {first_few(sorted(these))}; the selection holds "
                f"{', '.join(tissues)}."
            )
    weights = {tissue: _number(stated[tissue], tissue, text) for tissue in tissues}
    if not any(weights.values()):
        raise ValueError(f"tissue_weights {text!r} leaves no tissue.")
    return weights


def _stated_weights(text: str) -> dict[str, str]:
    if "=" not in text:
        table = read_table(Path(text))
        need_columns(list(table), ("tissue", "weight"), text)
        pairs = list(zip(table["tissue"], table["weight"], strict=True))
    else:
        pairs = [(name.strip(), value.strip()) for name, _, value in (part.rpartition("=") for part in text.split(","))]
    if len(dict(pairs)) < len(pairs):
        raise ValueError(f"tissue_weights {text!r} names a tissue twice.")
    return dict(pairs)


def _number(value: str, tissue: str, text: str) -> float:
    try:
        weight = float(value)
    except ValueError:
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise ValueError(f"tissue_weights {text!r}: the weight of {tissue} must be a number from 0 up, not {value!r}.")
    return weight


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


def describe_mixing(selection: Selection, order: Order, batch_size: int, window: int) -> str:
    """A sentence on the batches of an order of this selection, made with `window` slides open."""
    found = measure_mixing(order, selection.slides["donor"], batch_size)
    slides = int((order.counts > 0).sum())
    sentence = (
        f"{slides:,} training slides, {order.epoch_length:,} tiles, {window:,} slides open: "
        f"batches of {batch_size} hold {found.mean:.1f} different donors (at least {found.least}, of "
        f"{found.batches:,} batches); independent draws would hold {found.expected:.1f}: {found.share:.1%}."
    )
    if found.share < GOOD_SHARE and window < slides:
        sentence += " Let more slides be open: --window-slides."
    return sentence
