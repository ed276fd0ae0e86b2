"""The layout of an expression table in text: where its numbers begin, and whether its rows are samples or genes."""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from rnagan.io.gene_names import parse_gene
from rnagan.io.matrix_rows import SYMBOL_WORDS, is_ensembl, orientation, unreadable
from rnagan.io.tables import (
    UNREADABLE,
    byte_lines,
    has_row_names,
    open_bytes,
    read_header,
    split_cells,
    table_format,
    text_lines,
    without_empty_end,
)

# Columns after the first that annotate, though they may hold numbers; others count as such where they hold text.
_NOTES = ("tissue", "donor", "split", "chr", "start", "end", "strand", "length", "entrez", "entrezid", *SYMBOL_WORDS)
MISSING = ("", "NA", "NaN", "nan", "null", "NULL")
DECIMAL_COMMA = re.compile(r"-?\d+,\d+")
_LOOK = 20  # rows that decide where the numbers begin


@dataclasses.dataclass(frozen=True)
class Layout:
    """`names` across (samples where `rows_are` genes, and the other way round), and why it is taken to be so.

    The numbers begin after `skip_lines` lines and `text_columns` columns. Columns `label` and perhaps `symbol` name the
    row. `ignored`: other text columns. `rows`: as a GCT declares them, else None. `open_end`: rows end in a separator.
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
    open_end: bool = False


def read_layout(path: Path, rows: str | None = None, sample_column: str = "sample") -> Layout:
    """Layout of a GCT, CSV, TSV or TXT from its first lines; raises `ValueError` with the file's name."""
    form = table_format(path)
    try:
        with open_bytes(path) as handle:
            lines = text_lines(handle)
            first = next(lines, "")
            if form.kind == "gct" or first.startswith("#1."):
                return _gct_layout(path, first, lines)
            head, separator, skip, ahead = read_header(itertools.chain([first], lines), form.separator, "\t,; ")
            if not head:
                raise ValueError(f"{path} is empty; it needs a header line and a row for each sample or gene.")
            head = without_empty_end(head)
            seen = [
                split_cells(line, separator) for line in itertools.islice(itertools.chain(ahead, lines), _LOOK) if line
            ]
    except UNREADABLE as error:
        raise error if str(path) in str(error) else unreadable(path, error) from None
    if seen and has_row_names(head, seen[0]):
        head = ["", *head]
    open_end = bool(seen) and all(len(row) == len(head) + 1 and not row[-1] for row in seen)
    text = _text_columns(head, seen)
    if text == len(head) and seen:
        _refuse_no_numbers(path, head, seen)
    rows_are, why = orientation(path, head[0], head[text:], [row[0] for row in seen], rows, sample_column)
    marks = [name.casefold() for name in head[:text]]
    symbol = next((i for i in range(1, text) if marks[i] in SYMBOL_WORDS), None) if rows_are == "genes" else None
    ignored = tuple(head[i] for i in range(1, text) if i != symbol)
    return Layout(rows_are, why, head[text:], separator, skip, text, 0, symbol, ignored, None, open_end)


def text_labels(path: Path, layout: Layout) -> list[str]:
    """The first cell of each row of a table of text; only the beginning of each line is parsed."""
    try:
        with open_bytes(path) as handle:
            lines = list(_starts(handle, layout.skip_lines))
    except UNREADABLE as error:
        raise unreadable(path, error) from None
    sign = re.escape(layout.separator)
    quoted = re.compile(rf'"((?:[^"]|"")*)"(?:{sign}|$)')
    return [_first_cell(line, layout.separator, quoted) for line in lines if line.strip()]


def _first_cell(line: str, separator: str, quoted: re.Pattern[str]) -> str:
    match = quoted.match(line)
    return (line.split(separator, 1)[0] if match is None else match[1].replace('""', '"')).strip()


def _starts(handle: BinaryIO, skip: int) -> Iterator[str]:
    for n, line in enumerate(byte_lines(handle)):
        if n >= skip:
            start = line[:1000]  # a line may hold half a million bytes
            yield start.decode("utf-8", "strict" if len(start) < 1000 else "ignore").rstrip("\r\n")


def _text_columns(head: Sequence[str], seen: Sequence[Sequence[str]]) -> int:
    """The first column, and those after it that annotate, hold no number, or stand before a table's Ensembl ids."""
    ids = [is_ensembl(name) for name in head]
    before_ids = ids.index(True) if sum(ids[1:]) * 2 > len(ids[1:]) else 0
    columns = max(1, before_ids)
    while columns < len(head):
        cells = [row[columns] for row in seen if columns < len(row)]
        text = any(cell not in MISSING for cell in cells) and not any(map(_is_number, cells))
        name = head[columns]
        if not text and name.casefold() not in _NOTES and parse_gene(name).kind != "other":
            break
        columns += 1
    return columns


def _refuse_no_numbers(path: Path, head: Sequence[str], seen: Sequence[Sequence[str]]) -> None:
    for row in seen:
        for name, cell in zip(head[1:], row[1:], strict=False):
            if DECIMAL_COMMA.fullmatch(cell):
                raise ValueError(
                    f"{path} has decimal commas (row {row[0]}, column {name}: {cell}); write points instead."
                )
    raise ValueError(f"{path} has no column of numbers; its columns are {', '.join(head[:5])}.")


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
