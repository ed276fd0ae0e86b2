"""A table of spots to a cohort table: each tile has a profile of its own, and a slide is a section with many of them.

What is held out is a donor, a section where there are too few donors, or a block of every section. The table says
which in the column `split_by`, and each model and score that comes of it is a claim about no more than that.
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from rnagan.cohort.leave_out import leave_out
from rnagan.cohort.people import refuse_one_person_as_several
from rnagan.cohort.slide_ids import shard_name
from rnagan.cohort.table import CAVEATS, COLUMNS, FRACTIONS, SPLITS, assign_splits, check_cohort, describe
from rnagan.io.cells import safe_table
from rnagan.io.files import write_text
from rnagan.io.matrix import matrix_samples
from rnagan.io.tables import first_few, need_columns, read_table
from rnagan.runtime import rng

LEVELS = ("donor", "section", "block")
POSITIONS = ("x", "y")  # columns of a cohort table that has them, in any unit that is the same within a section


@dataclasses.dataclass(frozen=True)
class SpotOptions:
    """How a cohort table is made of a table of spots.

    `profile`, `section`, `donor`, `tissue`, `site`, `x`, `y`: names of its columns; of `site`, `x` and `y` None, where
    it has none. Positions become columns x and y of the cohort table.
    `tissue_is`: of all spots, where it has no such column. `expression`: only spots of this table; `rows`: samples or
    genes, where it doesn't say what its rows are. `split_by`: donor, section or block, which needs positions; `gap`: of
    blocks, in the unit of x and y: spots nearer to another split are left out. `all_in`: one split for all.
    `leave_out`: which no training sees (`cohort.leave_out`). `seed`: of the splits.
    """

    profile: str
    section: str
    donor: str = "donor"
    tissue: str = "tissue"
    site: str | None = None
    x: str | None = None
    y: str | None = None
    tissue_is: str = ""
    expression: Path | None = None
    rows: str | None = None
    split_by: str = "donor"
    gap: float | None = None
    all_in: str | None = None
    leave_out: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.split_by not in LEVELS:
            raise ValueError(f"Of spots --split-by must be {' or '.join(LEVELS)}, not {self.split_by!r}.")
        placed = self.x is not None and self.y is not None
        if self.split_by == "block" and not (placed and self.gap is not None):
            raise ValueError("--split-by block needs --x-column, --y-column and --gap, in the unit of these columns.")
        if self.split_by != "block" and self.gap is not None:
            raise ValueError("--gap is for --split-by block.")
        if (self.x is None) != (self.y is None):
            raise ValueError("A position is --x-column and --y-column; give both, or neither.")
        if self.gap is not None and not 0 < self.gap < np.inf:
            raise ValueError(f"--gap must be a distance above 0, not {self.gap:g}.")
        if self.all_in is not None and self.split_by != "donor":
            raise ValueError(f"--all-in puts everybody into one split; leave out --split-by {self.split_by}.")


class Dealt(NamedTuple):
    """The split of each spot, '' where it is left out, and notes for the user."""

    splits: NDArray[np.object_]
    notes: list[str]


def make_spot_cohort(table: Path, out: Path, options: SpotOptions) -> list[str]:
    """Read a table with a row a spot, write its cohort table to `out`, and return lines that say what became of them.

    Raises `ValueError` where columns are missing or empty, where a spot comes twice, where a section is of several
    donors or tissues, where nothing is left of a split, and where `out` exists and would change.
    """
    spots, notes = _read(table, options)
    dealt = _deal(spots, table, options)
    cohort = spots.assign(split=dealt.splits)
    if options.split_by != "donor":
        cohort["split_by"] = options.split_by
    cohort = cohort[cohort["split"] != ""]
    cohort = cohort[[*COLUMNS, *(name for name in ("split_by", *POSITIONS) if name in cohort)]]
    cohort = cohort.sort_values(["sample", "slide"], ignore_index=True)
    check_cohort(cohort, str(table))
    notes += dealt.notes
    if options.leave_out:
        cohort, line = leave_out(cohort, options.leave_out)
        notes.append(line)
    missing = [split for split in SPLITS if split not in set(cohort["split"])]
    if missing and options.all_in is None:
        further = " (--split-by section holds out sections, where donors are few)" * (options.split_by == "donor")
        notes.append(f"No spot is in split {' or '.join(missing)}{further}.")
    if options.split_by in CAVEATS:
        notes.append(CAVEATS[options.split_by])
    lines = [f"Rule spots (--profile-column): each tile goes with its own profile, of {options.profile}.", *notes]
    text = safe_table(cohort).to_csv(index=False)
    if out.is_file() and out.read_text(encoding="utf-8") == text:
        return [*lines, f"{out} is up to date."]
    if out.exists():
        raise ValueError(f"{out} exists and would change, which would move spots between splits; delete it first.")
    write_text(out, text)
    return [*lines, f"{out}: {describe(cohort)}"]


def _read(table: Path, options: SpotOptions) -> tuple[pd.DataFrame, list[str]]:
    """Spots: sample, donor, tissue, slide, site, and x and y where they are named, as the table writes them; notes."""
    rows = read_table(table)
    named = {"sample": options.profile, "slide": options.section, "donor": options.donor, "site": options.site}
    named |= {"tissue": None if options.tissue_is else options.tissue, "x": options.x, "y": options.y}
    wanted = {ours: column for ours, column in named.items() if column}
    need_columns(list(rows), list(dict.fromkeys(wanted.values())), table)
    spots = pd.DataFrame({ours: rows[column] for ours, column in wanted.items()})
    spots = spots.assign(tissue=spots.get("tissue", options.tissue_is), site=spots.get("site", ""))
    for ours in ("sample", "slide", "donor", "tissue"):
        if (empty := spots[ours] == "").any():
            raise ValueError(f"{table}, line {int(empty.argmax()) + 2}: the column {wanted.get(ours, ours)} is empty.")
    spots["slide"] = spots["slide"].map({name: shard_name(name) for name in spots["slide"].unique()})
    refuse_one_person_as_several(spots, table)
    if (twice := spots["sample"].duplicated()).any():
        raise ValueError(
            f"{table} has profiles twice in {options.profile} ({first_few(spots.loc[twice, 'sample'])}); give each "
            "spot a name of its own, such as SECTION_SPOT, and the same in the expression table."
        )
    for column in ("donor", "tissue"):
        several = spots.groupby("slide")[column].nunique()
        if (several > 1).any():
            raise ValueError(f"{table} has sections of several {column}s ({first_few(several.index[several > 1])}).")
    if options.x is not None:
        positions_of(spots, f"{table} ({options.x}, {options.y})")
    notes = []
    if options.expression is not None:
        ids = matrix_samples(options.expression, options.rows, options.profile)
        here = spots["sample"].isin(ids)
        if not here.any():
            raise ValueError(
                f"No spot is in {options.expression}: it starts with {first_few(ids, 1)}, the spots with "
                f"{first_few(spots['sample'], 1)}; use the same names."
            )
        if (~here).any():
            left = first_few(spots.loc[~here, "sample"])
            notes.append(f"{(~here).sum():,} spots left out: not in {options.expression} ({left}).")
        spots = spots[here]
    return spots.reset_index(drop=True), notes


def _deal(spots: pd.DataFrame, table: Path, options: SpotOptions) -> Dealt:
    if options.all_in is not None:
        return Dealt(np.full(len(spots), options.all_in, object), [])
    if options.split_by == "block":
        return deal_blocks(spots, table, options)
    unit = "slide" if options.split_by == "section" else "donor"
    tissues_of = {str(one): set(group) for one, group in spots.groupby(unit)["tissue"]}
    return Dealt(spots[unit].map(assign_splits(tissues_of, seed=options.seed)).to_numpy(object), [])


def deal_blocks(spots: pd.DataFrame, table: Path, options: SpotOptions) -> Dealt:
    """Each section cut across its longer side into three blocks, in about FRACTIONS of its spots, the training block at
    an end that is drawn from the seed. Of two spots of different splits nearer than the gap the one is left out whose
    split is the larger, so that what is left is as far apart."""
    places = positions_of(spots, str(table))
    assert options.gap is not None
    splits, left = np.full(len(spots), "", object), 0
    for slide, rows in spots.groupby("slide").groups.items():
        xy = places[rows]
        along = xy[:, int(np.ptp(xy, axis=0).argmax())]
        if rng.generator(options.seed, f"blocks/{slide}").integers(2):
            along = -along
        share = (along.argsort(kind="stable").argsort() + 0.5) / len(along)
        own = np.array(SPLITS, object)[np.searchsorted(np.cumsum(FRACTIONS)[:-1], share, side="right")]
        for split in SPLITS[:-1]:  # train yields to both others, validation to test
            others = xy[(own != split) & (own != "")]
            if len(others):
                near = (own == split) & (cKDTree(others).query(xy)[0] < options.gap)
                own[near], left = "", left + int(near.sum())
        if gone := [split for split in SPLITS if split not in own]:
            raise ValueError(
                f"{table}: of section {slide} no spot of split {gone[0]} is {options.gap:g} away from the other "
                "splits; give a smaller --gap, or split by section."
            )
        splits[rows] = own
    note = (
        f"{left:,} spots left out: nearer than {options.gap:g} ({options.x}, {options.y}) to a spot of another split."
    )
    return Dealt(splits, [note])


def positions_of(spots: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """x and y of each row, (rows, 2); raises `ValueError` with the first spot that has none. `name`: of the table."""
    places = spots[list(POSITIONS)].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    if not np.isfinite(places).all():
        line = int((~np.isfinite(places)).any(axis=1).argmax())
        raise ValueError(f"{name}: spot {spots['sample'].iloc[line]} has no position.")
    return places
