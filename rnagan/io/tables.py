"""Reads CSV and TSV tables of text."""

import csv
import gzip
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

# What reading a broken table raises; EOFError and zlib.error come from a gzip that was cut or damaged.
UNREADABLE = (ValueError, OSError, EOFError, zlib.error, csv.Error)


def read_table(path: Path | str, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a .csv or a tab-separated .tsv or .txt, perhaps with .gz, as stripped strings; empty stays ''.

    `columns`: read only these. Raises `FileNotFoundError` or `ValueError` with the file's name.
    """
    table = _read_csv(path, usecols=columns)
    return table.apply(lambda column: column.str.strip())


def column_names(path: Path | str) -> list[str]:
    """The header of a table, however wide: pandas takes half a minute for one of expression."""
    path, separator, kind = _checked(path)
    opened = gzip.open if path.name.endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as handle:
            names = next((row for row in csv.reader(handle, delimiter=separator) if row), None)
        if names is None:
            raise ValueError("No columns to parse from file")
    except UNREADABLE as error:
        raise ValueError(f"{path} is no readable {kind} table ({error}).".replace("\n", " ")) from None
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


def _read_csv(path: Path | str, **options: Any) -> pd.DataFrame:
    path, separator, kind = _checked(path)
    try:
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig", **options)
    except UNREADABLE as error:
        raise ValueError(f"{path} is no readable {kind} table ({error}).".replace("\n", " ")) from None


def _checked(path: Path | str) -> tuple[Path, str, str]:
    """The path of a table that is there, its separator, and what to call it."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The table {path} does not exist.")
    tabs = path.name.removesuffix(".gz").endswith((".tsv", ".txt"))
    return path, "\t" if tabs else ",", "tab-separated" if tabs else "comma-separated"
