"""The layout of an expression table in text: where its numbers begin, and whether its rows are samples or genes."""

import csv
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from rnagan.io.matrix_rows import SYMBOL_WORDS, orientation, unreadable
from rnagan.io.tables import UNREADABLE, open_bytes, table_format

# Columns after the first that annotate, though they may hold numbers; others count as such where they hold text.
_NOTES = ("tissue", "donor", "split", "chr", "start", "end", "strand", "length", "entrez", "entrezid", *SYMBOL_WORDS)
MISSING = ("", "NA", "NaN", "nan", "null", "NULL")
_LOOK = 20  # rows that decide where the numbers begin


@dataclasses.dataclass(frozen=True)
class Layout:
    """`names` across (samples where `rows_are` genes, and the other way round), and why it is taken to be so.

    The numbers begin after `skip_lines` lines and `text_columns` columns. Columns `label` and perhaps `symbol` name the
    row. `ignored`: other text columns. `rows`: as a GCT declares them, else None.
    """

    rows_are: str
    why: str
    names: list[str]
    separator: str
    skip_lines: int
    text_columns: int
    label: int = 0
    symbol: int | None = None
    ignored: tuple[str, ...] = ()
    rows: int | None = None


def read_layout(path: Path, rows: str | None = None, sample_column: str = "sample") -> Layout:
    """Layout of a GCT, CSV, TSV or TXT from its first lines; raises `ValueError` with the file's name."""
    form = table_format(path)
    try:
        with open_bytes(path) as handle:
            lines = _text_lines(handle)
            first = next(lines, "")
            if form.kind == "gct" or first.startswith("#1."):
                return _gct_layout(path, first, lines)
            skip = 1
            while first.startswith("#") and not first.startswith("#gene"):
                first, skip = next(lines, ""), skip + 1
            if not first.strip():
                raise ValueError(f"{path} is empty; it needs a header line and a row for each sample or gene.")
            separator = _separator(first, form.separator)
            head = split_cells(first, separator)
            seen = [split_cells(line, separator) for line, _ in zip(lines, range(_LOOK), strict=False) if line]
    except UNREADABLE as error:
        raise error if str(path) in str(error) else unreadable(path, error) from None
    if seen and len(seen[0]) == len(head) + 1:  # R's write.table names no column of row names
        head = ["", *head]
    text = _text_columns(head, seen)
    rows_are, why = orientation(path, head[0], head[text:], [row[0] for row in seen], rows, sample_column)
    marks = [name.casefold() for name in head[:text]]
    symbol = next((i for i in range(1, text) if marks[i] in SYMBOL_WORDS), None) if rows_are == "genes" else None
    ignored = tuple(head[i] for i in range(1, text) if i != symbol)
    return Layout(rows_are, why, head[text:], separator, skip, text, 0, symbol, ignored)


def split_cells(line: str, separator: str) -> list[str]:
    """Cells of a line, without quotes and surrounding spaces."""
    cells = next(csv.reader([line], delimiter=separator)) if '"' in line else line.split(separator)
    return [cell.strip() for cell in cells]


def text_labels(path: Path, layout: Layout) -> list[str]:
    """The first cell of each row of a table of text; only the beginning of each line is parsed."""
    try:
        with open_bytes(path) as handle:
            lines = list(_starts(handle, layout.skip_lines))
    except UNREADABLE as error:
        raise unreadable(path, error) from None
    return [split_cells(line, layout.separator)[0] for line in lines if line.strip()]


def _starts(handle: BinaryIO, skip: int) -> Iterator[str]:
    for n, line in enumerate(handle):
        if n >= skip:
            start = line[:1000]  # a line may hold half a million bytes
            yield start.decode("utf-8", "strict" if len(start) < 1000 else "ignore").rstrip("\r\n").rstrip('"')


def _text_lines(handle: BinaryIO) -> Iterator[str]:
    for n, line in enumerate(handle):
        yield line.decode("utf-8-sig" if n == 0 else "utf-8").rstrip("\r\n")


def _separator(header: str, usual: str) -> str:
    return next((sign for sign in (usual, "\t", ",", " ") if sign in header), usual)


def _text_columns(head: Sequence[str], seen: Sequence[Sequence[str]]) -> int:
    """The first column, and those after it that annotate or hold no number."""
    columns = 1
    while columns < len(head):
        cells = [row[columns] for row in seen if columns < len(row)]
        text = any(cell not in MISSING for cell in cells) and not any(map(_is_number, cells))
        if not text and head[columns].casefold() not in _NOTES:
            break
        columns += 1
    return columns


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell not in MISSING


def _gct_layout(path: Path, version: str, lines: Iterator[str]) -> Layout:
    sizes = next(lines, "").split("\t")
    head = split_cells(next(lines, ""), "\t")
    marks = [name.casefold() for name in head]
    wrong = ValueError(
        f"{path} is no GCT 1.2 or 1.3: line 1 must be #1.2 or #1.3, line 2 give the numbers of rows and columns, and "
        "line 3 start with Name and Description, or in 1.3 with id."
    )
    if not all(size.strip().isdigit() for size in sizes):
        raise wrong
    n_rows, n_columns, row_notes, column_notes = ([int(size) for size in sizes] + [0, 0])[:4]
    if version.strip() == "#1.2" and marks[:2] == ["name", "description"]:
        text, label, symbol, column_notes = 2, 0, 1, 0
    elif version.strip() == "#1.2" and marks[:3] == ["id", "name", "description"]:  # GTEx's GCTs of one tissue
        text, label, symbol, column_notes = 3, 1, 2, 0
    elif version.strip() == "#1.3" and len(sizes) == 4 and marks[:1] == ["id"]:
        text, label = 1 + row_notes, 0
        symbol = next((i for i in range(1, text) if marks[i] in (*SYMBOL_WORDS, "name")), -1)
    else:
        raise wrong
    names = head[text:]
    if len(names) != n_columns:
        raise ValueError(f"{path} declares {n_columns:,} columns on line 2 and names {len(names):,} on line 3.")
    ignored = tuple(head[i] for i in range(text) if i not in (label, symbol))
    why = f"it is GCT {version.strip()[1:]}"
    found = symbol if symbol >= 0 else None
    return Layout("genes", why, names, "\t", 3 + column_notes, text, label, found, ignored, n_rows)
