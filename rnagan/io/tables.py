"""Tables: the format that a file's name says, its bytes or text, and CSV and TSV tables as strings."""

import csv
import io
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO, cast

import pandas as pd
from isal import igzip, isal_zlib

# What reading a broken table raises; EOFError and the errors of zlib come from a gzip that was cut or damaged.
UNREADABLE = (ValueError, OSError, EOFError, zlib.error, csv.Error, cast(type[Exception], isal_zlib.error))
_TABS = ("tsv", "txt", "gct")


class TableFormat(NamedTuple):
    """`kind`: the ending, without .gz, in small letters. `separator`: what usually separates its cells."""

    kind: str
    separator: str
    gzipped: bool


def table_format(path: Path | str) -> TableFormat:
    """The format that a file's name states; the file needn't exist."""
    name = Path(path).name.lower()
    kind = name.removesuffix(".gz").rpartition(".")[2]
    return TableFormat(kind, "\t" if kind in _TABS else ",", name.endswith(".gz"))


def open_bytes(path: Path | str) -> BinaryIO:
    """The bytes of a file, decompressed where its name ends in .gz."""
    return cast(BinaryIO, igzip.open(path, "rb") if table_format(path).gzipped else open(path, "rb"))


def open_text(path: Path | str) -> TextIO:
    """The text of a UTF-8 file, decompressed where its name ends in .gz, without a byte order mark."""
    return io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline="")


def read_table(path: Path | str, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a .csv or a tab-separated .tsv or .txt, perhaps with .gz, as stripped strings; empty stays ''.

    `columns`: read only these. Raises `FileNotFoundError` or `ValueError` with the file's name.
    """
    path, format_ = _checked(path)
    try:
        with open_bytes(path) as handle:
            table = pd.read_csv(
                handle,
                sep=format_.separator,
                usecols=columns,
                dtype=str,
                keep_default_na=False,
                encoding="utf-8-sig",
            )
    except UNREADABLE as error:
        raise _unreadable(path, format_, error) from None
    return table.apply(lambda column: column.str.strip())


def column_names(path: Path | str) -> list[str]:
    """The header of a table, however wide: pandas takes half a minute for one of expression."""
    path, format_ = _checked(path)
    try:
        with open_text(path) as handle:
            names = next((row for row in csv.reader(handle, delimiter=format_.separator) if row), None)
        if names is None:
            raise ValueError("No columns to parse from file")
    except UNREADABLE as error:
        raise _unreadable(path, format_, error) from None
    return names


def need_columns(present: Sequence[str], wanted: Iterable[str], path: Path | str) -> None:
    """Refuse a table that lacks a column, and say which it has."""
    missing = [column for column in wanted if column not in present]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}; it has {first_few(present, 8)}.")


def first_few(names: Iterable[str], count: int = 3) -> str:
    """The first names and how many more there are."""
    names = list(names)
    more = f" and {len(names) - count:,} more" if len(names) > count else ""
    return ", ".join(map(str, names[:count])) + more


def _checked(path: Path | str) -> tuple[Path, TableFormat]:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The table {path} does not exist.")
    return path, table_format(path)


def _unreadable(path: Path, format_: TableFormat, error: Exception) -> ValueError:
    kind = "tab-separated" if format_.separator == "\t" else "comma-separated"
    return ValueError(f"{path} is no readable {kind} table ({error}).".replace("\n", " "))
