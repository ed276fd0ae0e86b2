"""Expression tables as they come: GCT 1.2, or CSV/TSV with a row a sample; plain or gzipped."""

import contextlib
import csv
import dataclasses
import gzip
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.expression.genes import clean_genes, count_and_names
from rnagan.tables import UNREADABLE

UNITS = ("tpm", "counts", "log2")
_LOG2_REACHES = 25.0  # the highest TPM of a gene is about 2**20, the highest count about 2**24
_LOG2_NEVER = 40.0


@dataclasses.dataclass(frozen=True)
class ExpressionTable:
    """Samples × genes float32 in `units`, with unique ids. `symbols` are empty strings where the file has none."""

    values: NDArray[np.float32]
    samples: list[str]
    genes: list[str]
    symbols: list[str]
    units: str
    units_from: str
    par_y_dropped: int


def read_table(path: Path | str, units: str | None = None, sample_column: str = "sample") -> ExpressionTable:
    """Read an expression table by its ending: .gct, .csv, .tsv or .txt, each also with .gz.

    GCT 1.2 has a row a gene (Name, Description, then samples); CSV and TSV a row a sample (`sample_column`, perhaps
    tissue, then genes). `units` says what the values are; without it `detect_units` does. Raises with the file's name
    on a missing or damaged file, an unknown ending, missing columns, values that are no numbers, NaN, or values the
    units can't have.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The expression table {path} does not exist.")
    kind = path.name.lower().removesuffix(".gz").rsplit(".", 1)[-1]
    if kind == "gct":
        values, samples, names, symbols = _read_gct(path)
    elif kind in ("csv", "tsv", "txt"):
        values, samples, names, symbols = _read_rows_of_samples(path, "," if kind == "csv" else "\t", sample_column)
    else:
        raise ValueError(f"{path} ends in none of .gct, .csv, .tsv, .txt (or these with .gz); rename or convert it.")
    _refuse_repeated_samples(samples, path)
    clean = clean_genes(names, str(path))
    if not samples or not clean.ids:
        raise ValueError(f"{path} holds {len(samples)} samples and {len(clean.ids)} genes; it needs some of both.")
    values = np.ascontiguousarray(values[:, clean.kept])
    _refuse_not_finite(values, samples, clean.ids, path)
    chosen, source = (units, "as declared") if units else detect_units(values)
    _refuse_impossible(values, chosen, path)
    return ExpressionTable(
        values, samples, clean.ids, [symbols[i] for i in clean.kept], chosen, source, clean.par_y_dropped
    )


def detect_units(values: NDArray[np.float32]) -> tuple[str, str]:
    """Units and the reason: negative → log2; whole numbers → counts; nothing above 25 → log2; else tpm."""
    if values.min() < 0:
        return "log2", "it holds negative values"
    if np.array_equal(values, np.floor(values)):
        return "counts", "all values are whole numbers"
    if values.max() < _LOG2_REACHES:
        return "log2", f"no value reaches {_LOG2_REACHES:g}"
    return "tpm", f"values are fractions and reach {values.max():,.0f}"


def _read_gct(path: Path) -> tuple[NDArray[np.float32], list[str], list[str], list[str]]:
    with _open_text(path) as handle:
        version = handle.readline().strip()
        handle.readline()
        header = handle.readline().rstrip("\r\n").split("\t")
    if version != "#1.2" or header[:2] != ["Name", "Description"]:
        raise ValueError(f"{path} is not GCT 1.2: line 1 must be #1.2 and line 3 start with Name and Description.")
    frame = _read_cells(path, "\t", skip=3, width=len(header), text_columns=2)
    values = frame.iloc[:, 2:].to_numpy(np.float32).T
    return values, header[2:], frame[0].tolist(), frame[1].tolist()


def _read_rows_of_samples(
    path: Path, separator: str, sample_column: str
) -> tuple[NDArray[np.float32], list[str], list[str], list[str]]:
    with _open_text(path) as handle:
        header = next(csv.reader(handle, delimiter=separator), [])
    if header[:1] != [sample_column]:
        raise ValueError(
            f"{path} must start with a column named {sample_column} (--sample-column names another), then perhaps "
            "tissue, then one column a gene."
        )
    first_gene = 2 if header[1:2] == ["tissue"] else 1
    frame = _read_cells(path, separator, skip=1, width=len(header), text_columns=first_gene)
    names = header[first_gene:]
    return frame.iloc[:, first_gene:].to_numpy(np.float32), frame[0].tolist(), names, [""] * len(names)


def _read_cells(path: Path, separator: str, *, skip: int, width: int, text_columns: int) -> pd.DataFrame:
    # Without pandas' own header, which would rename repeated columns (X, X.1) and so hide them.
    types = {i: str if i < text_columns else np.float32 for i in range(width)}
    with _one_sentence(path):
        return pd.read_csv(
            path,
            sep=separator,
            header=None,
            skiprows=skip,
            names=range(width),
            dtype=types,
            index_col=False,
            keep_default_na=False,
            na_values={i: ["", "NA", "NaN", "nan"] for i in range(text_columns, width)},
        )


@contextlib.contextmanager
def _open_text(path: Path) -> Iterator[TextIO]:
    """The table as text without the byte order mark that Excel writes."""
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with _one_sentence(path), opened(path, "rt", encoding="utf-8-sig", newline="") as handle:
        yield handle


@contextlib.contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        raise ValueError(f"{path} can't be read as a table of numbers ({error}).".replace("\n", " ")) from None


def _refuse_repeated_samples(samples: Sequence[str], path: Path) -> None:
    twice = [sample for sample, count in Counter(samples).items() if count > 1]
    if twice:
        raise ValueError(f"{path} holds {count_and_names(twice, 'sample')} more than once; keep one profile a sample.")


def _refuse_not_finite(values: NDArray[np.float32], samples: list[str], genes: list[str], path: Path) -> None:
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        row, column = wrong[0]
        raise ValueError(
            f"{path} holds {len(wrong):,} values that are missing or not finite, the first for sample {samples[row]} "
            f"and gene {genes[column]}; fill them in or leave the gene out."
        )


def _refuse_impossible(values: NDArray[np.float32], units: str, path: Path) -> None:
    if units not in UNITS:
        raise ValueError(f"units must be one of {', '.join(UNITS)}, not {units!r}.")
    if units == "log2" and values.max() > _LOG2_NEVER:
        raise ValueError(f"{path} reaches {values.max():,.0f}, which no log2 expression does; declare tpm or counts.")
    if units != "log2" and values.min() < 0:
        raise ValueError(f"{path} holds negative values, which no {units} has; declare log2 or repair the table.")
    if units == "counts" and not np.array_equal(values, np.floor(values)):
        raise ValueError(f"{path} holds fractions, which no counts have; declare tpm or log2.")
