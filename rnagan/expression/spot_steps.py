"""What is done to the counts of spots before a model sees them: rare genes left out, neighbours pooled, groups centred.

All of it needs the other spots of a section, so it is done once, where the expression file is made: training,
evaluation and generation then read the same numbers, whichever spots they take.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from rnagan.expression.h5ad import ProfileWriter, StoredExpression
from rnagan.expression.transform import log_of_shares
from rnagan.io.matrix_parquet_h5ad import read_h5ad
from rnagan.io.tables import first_few

LEAST = 10  # profiles of a group, whose mean would be noise otherwise
_ROWS = 512  # in memory at a time


@dataclasses.dataclass(frozen=True)
class SpotSteps:
    """`min_spots`: training profiles in which a gene must be seen. `pool_spots`: nearest spots of the same section and
    split whose counts are added to a spot's own. `centre_by`: a column of the cohort table; profiles become
    ln(1 + counts per 10⁴) less the mean of their group. 0 and "" do nothing."""

    min_spots: int = 0
    pool_spots: int = 0
    centre_by: str = ""

    def __post_init__(self) -> None:
        for name in ("min_spots", "pool_spots"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name.replace('_', '-')} must be 0 or more, not {getattr(self, name)}.")

    def __bool__(self) -> bool:
        return bool(self.min_spots or self.pool_spots or self.centre_by)

    @property
    def options(self) -> str:
        """Those that were asked for, as one gives them."""
        named = {"--min-spots": self.min_spots, "--pool-spots": self.pool_spots, "--centre-by": self.centre_by}
        return " and ".join(name for name, value in named.items() if value)

    @property
    def columns(self) -> list[str]:
        """Columns of the cohort table that they need of each profile."""
        return list(
            dict.fromkeys([*(["slide"] if self.pool_spots else []), *([self.centre_by] * bool(self.centre_by))])
        )


class Prepared(NamedTuple):
    """Columns of the genes that were kept, and lines for the user."""

    columns: NDArray[np.intp]
    lines: list[str]


def profiles_of_spots(cohort: pd.DataFrame, steps: SpotSteps, source: Path, table: Path) -> pd.DataFrame:
    """The columns that `steps` need, by sample, and x and y as numbers where spots are pooled: of the cohort table, or
    of `obsm["spatial"]` where `table` is an .h5ad that has it.

    Raises `ValueError` on columns or positions that are missing, and on a sample of several groups.
    """
    needed = list(steps.columns)
    if lacking := [column for column in needed if column not in cohort]:
        raise ValueError(
            f"{source} has no column {lacking[0]}, by which --centre-by {lacking[0]} would group profiles; name one "
            "that it has, such as slide."
        )
    placed = steps.pool_spots and {"x", "y"} <= set(cohort)
    rows = cohort[["sample", *needed, *(["x", "y"] if placed else [])]].drop_duplicates().set_index("sample")
    if rows.index.has_duplicates:
        raise ValueError(
            f"{source} gives {first_few(rows.index[rows.index.duplicated()])} more than one {' or '.join(needed)}, and "
            f"{steps.options} needs one of each profile."
        )
    for column in needed:
        if (empty := rows[column] == "").any():
            raise ValueError(
                f"{source} says no {column} of {first_few(rows.index[empty])}, which {steps.options} needs."
            )
    if not steps.pool_spots:
        return rows
    at = rows[["x", "y"]].apply(pd.to_numeric, errors="coerce") if placed else _spatial(table, source)
    at = at.reindex(rows.index)
    if (lost := ~np.isfinite(at).all(axis=1)).any():
        raise ValueError(f"{source} gives no position of {first_few(at.index[lost])}, which --pool-spots needs.")
    return rows.assign(x=at["x"], y=at["y"])


def _spatial(table: Path, source: Path) -> pd.DataFrame:
    """Positions in an .h5ad's `obsm["spatial"]`, by sample."""
    if table.suffix.lower() == ".h5ad":
        data = read_h5ad(table, backed=True)
        try:
            if "spatial" in data.obsm:
                at = np.asarray(data.obsm["spatial"], np.float64)
                if at.ndim == 2 and at.shape[1] >= 2:
                    return pd.DataFrame(at[:, :2], data.obs_names.astype(str), ["x", "y"])
        finally:
            data.file.close()
    raise ValueError(
        f"--pool-spots needs positions: columns x and y of {source} (rnagan build-cohort --x-column --y-column), or an "
        f".h5ad with obsm['spatial'], and {table} is none."
    )


def prepare_spots(stored: StoredExpression, about: pd.DataFrame, steps: SpotSteps, writer: ProfileWriter) -> Prepared:
    """Write profiles of counts (or TPM) in `stored` to `writer` as `steps` have it, in their order.

    `about`: what `profiles_of_spots` gave. The mean of a group is over all its profiles, of whatever split: it holds
    expression and no image. Raises `ValueError` on data in log2, where no training profile or no gene is left, and on
    a group with fewer than LEAST profiles.
    """
    if stored.units == "log2":
        raise ValueError(f"{steps.options} needs counts or TPM, and the table is in log2; give its counts.")
    about = about.loc[stored.obs.index]
    columns = _seen_genes(stored, steps.min_spots)
    own = _neighbours(about, stored.obs["split"], steps.pool_spots)
    lines = []
    if steps.min_spots:
        left = len(stored.genes) - len(columns)
        lines.append(f"Left out {left:,} genes that were seen in fewer than {steps.min_spots:,} training spots.")
    if steps.pool_spots:
        lines.append(f"Each spot has the counts of its {steps.pool_spots:,} nearest of the same section and split too.")
    if not steps.centre_by:
        for block in _pooled(stored, own, columns):
            writer.append(block)
        return Prepared(columns, lines)
    names, group = np.unique(about[steps.centre_by].to_numpy(str), return_inverse=True)
    counts = np.bincount(group)
    if (few := counts < LEAST).any():
        raise ValueError(
            f"--centre-by {steps.centre_by}: {first_few(names[few])} has {counts[few][0]} profiles, too few for a mean "
            f"of its own ({LEAST} at least); leave such groups out of the cohort table, or centre by another column."
        )
    sums, at = np.zeros((len(names), len(columns))), 0
    for block in _pooled(stored, own, columns):
        np.add.at(sums, group[at : at + len(block)], log_of_shares(block))
        at += len(block)
    means, at = sums / counts[:, None], 0
    for block in _pooled(stored, own, columns):
        writer.append((log_of_shares(block) - means[group[at : at + len(block)]]).astype(np.float32))
        at += len(block)
    lines.append(
        f"Profiles are ln(1 + counts per 10⁴) less the mean of their {steps.centre_by} ({len(names):,}, of "
        f"{counts.min():,} to {counts.max():,} profiles)."
    )
    return Prepared(columns, lines)


def _seen_genes(stored: StoredExpression, least: int) -> NDArray[np.intp]:
    """Columns of genes above 0 in at least `least` training profiles."""
    if not least:
        return np.arange(len(stored.genes))
    train = stored.split("train")
    if not len(train):
        raise ValueError(
            "--min-spots counts training spots, and none is in split train; for spots of another cohort give the "
            "model's genes instead: --genes with the expression file that it was trained on."
        )
    seen = sum((block > 0).sum(axis=0) for block in stored.blocks(train, _ROWS))
    columns = np.flatnonzero(seen >= least)
    if not len(columns):
        raise ValueError(f"No gene was seen in {least:,} of {len(train):,} training spots; lower --min-spots.")
    return columns


def _neighbours(about: pd.DataFrame, split: pd.Series, k: int) -> NDArray[np.intp] | None:
    """Rows that are added up for each spot, itself first, (spots, 1 + k); −1 where its section and split have fewer."""
    if not k:
        return None
    own = np.full((len(about), 1 + k), -1, np.intp)
    at = about[["x", "y"]].to_numpy(np.float64)
    for rows in about.groupby([about["slide"].to_numpy(), split.to_numpy()]).indices.values():
        # Two spots of one place are each other's nearest, so a spot is known by its row.
        found = cKDTree(at[rows]).query(at[rows], min(k + 1, len(rows)))[1].reshape(len(rows), -1)
        for row, near in zip(rows, rows[found], strict=True):
            others = near[near != row][:k]
            own[row, 0], own[row, 1 : 1 + len(others)] = row, others
    return own


def _pooled(
    stored: StoredExpression, own: NDArray[np.intp] | None, columns: NDArray[np.intp]
) -> Iterator[NDArray[np.float32]]:
    """Blocks of all profiles (rows, kept genes), each with its neighbours' added."""
    every = len(columns) == len(stored.genes)
    size = _ROWS if own is None else max(1, _ROWS // own.shape[1])
    for start in range(0, len(stored), size):
        rows = np.arange(start, min(start + size, len(stored)))
        if own is None:
            values = stored.rows(rows)
        else:
            near = own[rows]
            wanted, place = np.unique(near[near >= 0], return_inverse=True)
            into = np.repeat(np.arange(len(rows)), (near >= 0).sum(axis=1))
            adds = csr_array((np.ones(len(place), np.float32), (into, place)), (len(rows), len(wanted)))
            values = np.asarray(adds @ stored.rows(wanted), np.float32)
        yield values if every else values[:, columns]
