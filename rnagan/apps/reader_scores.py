"""What readers said of tiles, as a table: read from a CSV, from a study, or as the article prints it."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rnagan.io.tables import first_few, need_columns, read_table

REAL = "real"  # the source that is compared with all others
COLUMNS = ("reader", "source", "tissue", "quality")
OPTIONAL = ("tile", "called", "artefact", "text", "showing")
MAX_ROWS = 1_000_000
_YES_NO = {"": np.nan, "yes": 1.0, "no": 0.0, "1": 1.0, "0": 0.0, "true": 1.0, "false": 0.0}

# Carrillo-Perez et al. 2023, "Expert evaluation of synthetic tiles": the mean scores of six pathologists, in order.
_ARTICLE_SCORES: dict[str, dict[str, tuple[float, ...]]] = {
    "lung": {
        "real": (4, 1.4, 2, 0.8, 2.4, 3),
        "RNA-GAN": (3, 1, 1.2, 1.2, 1.6, 2.4),
        "GAN": (1, 0.6, 1.2, 0.6, 0.6, 2),
    },
    "brain cortex": {
        "real": (2.3, 3.3, 3, 4.3, 3.3, 5),
        "RNA-GAN": (2, 3, 3, 3, 2.7, 4),
        "GAN": (2.3, 2.7, 3, 3, 2.3, 4),
    },
}
# The article's own figures: mean and SD; p, which it doesn't say the side of (0.025 is one-sided).
ARTICLE_MEANS = {
    ("lung", "real"): (2.26, 1.14),
    ("lung", "RNA-GAN"): (1.73, 0.79),
    ("lung", "GAN"): (1.00, 0.55),
    ("brain cortex", "real"): (3.55, 0.95),
    ("brain cortex", "RNA-GAN"): (2.94, 0.64),
    ("brain cortex", "GAN"): (2.88, 0.62),
}
ARTICLE_P = {
    ("lung", "real", "RNA-GAN"): 0.052,
    ("lung", "RNA-GAN", "GAN"): 0.025,
    ("brain cortex", "real", "RNA-GAN"): 0.038,
    ("brain cortex", "real", "GAN"): 0.043,
    ("brain cortex", "RNA-GAN", "GAN"): 0.305,
}
ARTICLE_ACCURACY = {"real": (1.0, 0.0), "RNA-GAN": (1.0, 0.0), "GAN": (0.7498, 0.2040)}
ARTICLE_ARTEFACTS = {"real": 0.17, "RNA-GAN": 0.56, "GAN": 0.70}


class Scale(NamedTuple):
    """The lowest and the highest quality that a reader may give."""

    lowest: float
    highest: float

    def check(self) -> "Scale":
        """Raise `ValueError` where it is none."""
        if not self.lowest < self.highest:
            raise ValueError(f"The scale must rise, and {self.lowest:g} to {self.highest:g} doesn't.")
        return self


IMPORT_SCALE = Scale(0, 5)  # the article's means reach below 1, although its form began there


def read_scores(path: Path, scale: Scale = IMPORT_SCALE) -> pd.DataFrame:
    """Answers of a CSV or TSV, one row a reader and tile, or a reader and group of tiles whose mean it is.

    Columns reader, source, tissue and quality (a number on `scale`); perhaps tile, called (the tissue that the reader
    named), artefact (yes or no), text, showing (2 where a tile was shown for the second time). Returns these columns:
    text, but quality and artefact float64 (NaN: not answered) and showing int64. Raises `FileNotFoundError`, or
    `ValueError` with file, row and column.
    """
    table = read_table(path)
    need_columns(table.columns, COLUMNS, path)
    if not len(table):
        raise ValueError(f"{path} has no rows; it needs one for each reader and tile.")
    if len(table) > MAX_ROWS:
        raise ValueError(f"{path} has {len(table):,} rows, and {MAX_ROWS:,} are read.")
    found = table[[name for name in (*COLUMNS, *OPTIONAL) if name in table]].copy()
    for name in ("reader", "source"):
        empty = found.index[found[name] == ""]
        if len(empty):
            raise ValueError(f"{path}, row {empty[0] + 2}: {name} is empty; each answer needs one.")
    found["quality"] = [_quality(value, scale, path, row) for row, value in enumerate(found["quality"], start=2)]
    if "artefact" in found:
        wrong = [(row, value) for row, value in enumerate(found["artefact"], 2) if value.lower() not in _YES_NO]
        if wrong:
            raise ValueError(f"{path}, row {wrong[0][0]}: artefact is {wrong[0][1]!r}; write yes, no or nothing.")
        found["artefact"] = found["artefact"].str.lower().map(_YES_NO)
    if "showing" in found:
        wrong = [(row, value) for row, value in enumerate(found["showing"], 2) if value not in ("", "1", "2")]
        if wrong:
            raise ValueError(f"{path}, row {wrong[0][0]}: showing is {wrong[0][1]!r}; write 1 or 2.")
        found["showing"] = found["showing"].replace("", "1").astype(np.int64)
    return complete(found, str(path))


def _quality(value: str, scale: Scale, path: Path, row: int) -> float:
    if not value:
        return np.nan
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"{path}, row {row}: quality is {value!r}; write a number.") from None
    if not scale.lowest <= number <= scale.highest:
        raise ValueError(
            f"{path}, row {row}: quality is {value}, and the scale goes from {scale.lowest:g} to {scale.highest:g} "
            "(--lowest, --highest)."
        )
    return number


def complete(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The table with all of COLUMNS and OPTIONAL. `ValueError` where a reader answered twice for one showing of a
    tile; without tiles, for one tissue and source."""
    empty: dict[str, Any] = {"tile": "", "called": "", "artefact": np.nan, "text": "", "showing": 1}
    table = table.assign(**{column: value for column, value in empty.items() if column not in table})
    keys = ["reader", "source", "tissue", "tile", "showing"]
    twice = table[table.duplicated(keys)]
    if len(twice):
        what = " / ".join(str(twice.iloc[0][key]) for key in keys[:4] if twice.iloc[0][key])
        raise ValueError(f"{name} has two answers for {first_few([what])}; leave one, or name tiles in a column tile.")
    return table[[*COLUMNS, *OPTIONAL]].reset_index(drop=True)


def article_scores() -> pd.DataFrame:
    """The means by reader that the article prints, in the form of `read_scores`."""
    rows = [
        (f"pathologist {number}", source, tissue, float(score))
        for tissue, sources in _ARTICLE_SCORES.items()
        for source, scores in sources.items()
        for number, score in enumerate(scores, start=1)
    ]
    return complete(pd.DataFrame(rows, columns=list(COLUMNS)), "The article")


def sources_in_order(table: pd.DataFrame) -> list[str]:
    """The sources, real first and the others as they come."""
    names = list(dict.fromkeys(table["source"]))
    return [name for name in names if name == REAL] + [name for name in names if name != REAL]


def by_reader(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Means of a column over the tiles of each reader, by tissue and source: one row a reader (index), columns
    (tissue, source), NaN where a reader has none. Second showings don't count, so no tile weighs double."""
    first = table[table["showing"] == 1]
    means = first.groupby(["reader", "tissue", "source"], sort=False)[column].mean()
    return means.unstack(["tissue", "source"])
