"""Tables: the format that a file's name says, its bytes or text, its lines, and CSV and TSV tables as strings.

A row is a line, which ends at a line feed. Quotes never take in the next line, but where a line alone has too few cells
and those up to the closing quote make just one row.
"""

import contextlib
import csv
import io
import itertools
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TextIO, cast

import pandas as pd
from isal import igzip, isal_zlib

from rnagan.io.bounds import MAX_GZIP_BYTES, MAX_GZIP_RATIO, MAX_LINE_BYTES
from rnagan.io.cells import as_written
from rnagan.io.plain_tables import NotPlain, read_plain

# What reading a broken table raises; EOFError and the errors of zlib come from a gzip that was cut or damaged.
_SHARED = 65_536  # different words of a column of which each is kept once
UNREADABLE = (ValueError, OSError, EOFError, zlib.error, csv.Error, cast(type[Exception], isal_zlib.error))
_TABS = ("tsv", "txt", "gct")
_NAMES = {"\t": "tab-separated", ",": "comma-separated", ";": "semicolon-separated", " ": "space-separated"}
_LONGEST_CELL = 100  # lines
_PIECE_BYTES = 1 << 20
_NO_TEXT = {b"PK\x03\x04": "an Excel or ZIP file", b"\xd0\xcf\x11\xe0": "an old Excel file", b"\x1f\x8b": "gzipped"}
_NO_TEXT |= {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"BZh": "packed by bzip2", b"\xfd7zXZ": "packed by xz"}


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
    """The bytes of a file, decompressed where its name ends in .gz, up to the bound of `Unpacked`."""
    if not table_format(path).gzipped:
        return open(path, "rb")
    return cast(BinaryIO, io.BufferedReader(_BoundedGzip(path), _PIECE_BYTES))


class Unpacked:
    """Counts the bytes that a gzip unpacks to: `add` raises `ValueError`, a phrase, beyond MAX_GZIP_RATIO times its
    own size, where that is more than MAX_GZIP_BYTES."""

    def __init__(self, path: Path | str) -> None:
        self._packed, self._bytes = os.path.getsize(path), 0
        self._most = max(MAX_GZIP_BYTES, MAX_GZIP_RATIO * self._packed)

    def add(self, count: int) -> None:
        self._bytes += count
        if self._bytes > self._most:
            raise ValueError(
                f"its {self._packed:,} bytes unpack to more than {self._most:,}: unpack it, if it is right"
            )


class _BoundedGzip(io.RawIOBase):
    """What a gzip unpacks to, within the bound of `Unpacked`."""

    def __init__(self, path: Path | str) -> None:
        self._file, self._unpacked = igzip.open(path, "rb"), Unpacked(path)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer)
        self._unpacked.add(count)
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def byte_lines(handle: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, with their ends. Raises `ValueError` where one is longer than MAX_LINE_BYTES."""
    while line := handle.readline(MAX_LINE_BYTES + 1):
        check_line(len(line))
        yield line


def check_line(length: int) -> None:
    """Refuse a line of more than MAX_LINE_BYTES with `ValueError`, a phrase."""
    if length > MAX_LINE_BYTES:
        raise ValueError(f"it has a line of more than {MAX_LINE_BYTES:,} bytes")


def open_text(path: Path | str) -> TextIO:
    """The text of a UTF-8 file, decompressed where its name ends in .gz, without a byte order mark; lines end at line
    feeds alone."""
    return io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline="\n")


def text_lines(handle: BinaryIO) -> Iterator[str]:
    """The lines of a table of text, without their ends. Raises `ValueError` where it is no text, and where its lines
    end in carriage returns alone, which would make it one line."""
    for n, line in enumerate(byte_lines(handle)):
        if n == 0:
            what = next((what for start, what in _NO_TEXT.items() if line.startswith(start)), None)
            if what is not None:
                raise ValueError(f"it is {what}: save it as plain text in UTF-8, gzipped only if its name ends in .gz")
            if line.rstrip(b"\r\n").count(b"\r") and b"\n" not in line:
                raise ValueError("its lines end in carriage returns alone; end them with line feeds (tr '\\r' '\\n')")
        yield line.decode("utf-8-sig" if n == 0 else "utf-8").rstrip("\r\n")


class Header(NamedTuple):
    """A table's header: its cells, what separates them, how many lines it took, and the next line, if there is one."""

    cells: list[str]
    separator: str
    lines: int
    ahead: list[str]


def read_header(lines: Iterator[str], usual: str, signs: str = "\t,;") -> Header:
    """Read up to the header and the line after it: empty lines and comments (#) may come first.

    `usual`: the separator of the file's ending. Others (`signs`) stand in for it where the header has none, or where
    the next line has another number of cells. No cells where the file has no header.
    """
    for n, line in enumerate(lines, start=1):
        if line.strip() and not (line.startswith("#") and not line.startswith(("#gene", "#sample"))):
            ahead = list(itertools.islice(lines, 1))
            there = [sign for sign in (usual, *signs) if sign in line] or [usual]
            fit = [sign for sign in there if any(_same_width(line, row, sign) for row in ahead)]
            separator = (fit or there)[0]
            return Header(split_cells(line, separator), separator, n, ahead)
    return Header([], usual, 0, [])


def _same_width(header: str, row: str, separator: str) -> bool:
    """Whether a row has the header's number of cells, up to row names without a column and a separator at the end."""
    return abs(len(split_cells(header, separator)) - len(split_cells(row, separator))) <= 1 and separator in row


def split_cells(line: str, separator: str, count: int | None = None) -> list[str]:
    """Cells of a line, without the quotes and spaces around them. A quote that nothing closes is a sign like others,
    and so are those that would leave another number of cells than `count`."""
    if '"' in line:
        quoted = _unquoted(line, separator)
        cells = [cell.strip() for cell in quoted or ()]
        if quoted is not None and (count is None or len(_of_width(cells, count)) == count):
            return cells
    cells = [cell.strip() for cell in line.split(separator)]
    if '"' not in line:
        return cells
    return [cell[1:-1].replace('""', '"').strip() if _is_quoted(cell) else cell for cell in cells]


def read_table(path: Path | str, columns: list[str] | None = None, lean_from: int | None = None) -> pd.DataFrame:
    """Read a .csv or a tab-separated .tsv or .txt, perhaps with .gz, as stripped strings; empty stays ''. Names that
    rnagan/io/cells.py made safe for spreadsheets are read as they were.

    `columns`: read only these. `lean_from`: with so many rows or more, columns whose values come again are categories,
    and others Arrow's strings, as 100 million of Python's take 6 GB a column. Every line is a row, and has the header's
    number of cells; separators at the end of a line are no cells. Raises `FileNotFoundError` or `ValueError` with the
    file's name and the line.
    """
    path, format_ = _checked(path)
    separator = format_.separator
    try:
        with open_bytes(path) as handle:
            lines = text_lines(handle)
            head, separator, first, ahead = read_header(lines, separator)
            names = [as_written(name) for name in without_empty_end(head)]
            if not names:
                raise ValueError("No columns to parse from file")
            need_columns(names, columns or (), path)
            taken = [names.index(name) for name in columns] if columns is not None else list(range(len(names)))
            titles = _apart(names) if columns is None else columns
            if len(names) == len(head):
                with contextlib.suppress(NotPlain), open_bytes(path) as again:
                    plain = read_plain(again, separator, first, len(names), taken)
                    lean = lean_from is not None and len(plain[0]) >= lean_from
                    table = {n: column.lean() if lean else column.strings() for n, column in enumerate(plain)}
                    return pd.DataFrame(table, dtype=None if lean else str).set_axis(titles, axis=1)
            of_rows = int(any(has_row_names(names, split_cells(line, separator, len(names))) for line in ahead))
            found: list[list[str]] = [[] for _ in taken]
            shared: list[dict[str, str]] = [{} for _ in taken]  # words that come again are kept once
            for cells in _rows(itertools.chain(ahead, lines), separator, len(names) + of_rows, first):
                for column, words, place in zip(found, shared, taken, strict=True):
                    cell = cells[place + of_rows]
                    word = words.get(cell)
                    if word is None:
                        word = as_written(cell)
                        if len(words) < _SHARED:
                            words[cell] = word
                    column.append(word)
    except UNREADABLE as error:
        raise _unreadable(path, separator, error) from None
    return pd.DataFrame(dict(enumerate(found)), dtype=str).set_axis(titles, axis=1)


def has_row_names(names: Sequence[str], cells: Sequence[str]) -> bool:
    """Whether a row has one cell more than the header, as R's write.table names no column of row names."""
    return len(cells) == len(names) + 1 and cells[-1] != ""


def column_names(path: Path | str) -> list[str]:
    """The header of a table, however wide."""
    path, format_ = _checked(path)
    try:
        with open_bytes(path) as handle:
            names = read_header(text_lines(handle), format_.separator).cells
        if not names:
            raise ValueError("No columns to parse from file")
    except UNREADABLE as error:
        raise _unreadable(path, format_.separator, error) from None
    return [as_written(name) for name in without_empty_end(names)]


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


def _rows(lines: Iterator[str], separator: str, width: int, before: int) -> Iterator[list[str]]:
    """The rows below the header, each of `width` cells; `before`: lines that came before them."""
    held: tuple[list[str], str, int] | None = None  # a row with an open quote: a stray one, if the next line is a row
    begun, begun_at = "", 0  # lines of a row that has too few cells until its quote is closed
    for number, line in enumerate(lines, start=before + 1):
        if not line.strip() and not begun:
            continue
        cells = _of_width(split_cells(line, separator, width), width)
        if held is not None:
            if len(cells) == width:
                yield held[0]
            else:
                begun, begun_at = held[1:]
            held = None
        if not begun and len(cells) == width:
            if '"' in line and _unquoted(line, separator) is None:
                held = cells, line, number
            else:
                yield cells
            continue
        begun, begun_at = f"{begun}\n{line}" if begun else line, begun_at or number
        whole = _unquoted(begun, separator)
        if whole is not None and len(whole) == width:
            yield [cell.strip() for cell in whole]
            begun, begun_at = "", 0
        elif whole is not None or number - begun_at > _LONGEST_CELL:
            break
    if begun:
        found = len(split_cells(begun.split("\n")[0], separator, width))
        raise ValueError(f"line {begun_at} has {found:,} cells, the header {width:,}")
    if held is not None:
        yield held[0]


def _of_width(cells: list[str], width: int) -> list[str]:
    """Cells without the empty ones that separators at the end of a line make beyond `width`."""
    while len(cells) > width and not cells[-1]:
        cells = cells[:-1]
    return cells


def _unquoted(text: str, separator: str) -> list[str] | None:
    """The cells of a row by the rules of CSV; None where its last quote is open."""
    inside = False
    for part in text.split(separator):
        if not inside and not part.lstrip(" ").startswith('"'):
            continue
        inside ^= part.count('"') % 2 == 1
    if inside:
        return None
    try:
        reader = csv.reader([text], delimiter=separator, skipinitialspace=separator != " ", strict=True)
        return next(reader, [])
    except csv.Error:  # a quote within a cell, or a carriage return outside quotes
        return None


def _is_quoted(cell: str) -> bool:
    return len(cell) > 1 and cell[0] == cell[-1] == '"'


def without_empty_end(names: list[str]) -> list[str]:
    """The columns' names without those after the last separator of a line that ends in some."""
    return _of_width(names, 1)


def _apart(names: list[str]) -> list[str]:
    """Names of which none comes twice: later ones get a number, as in pandas."""
    seen: dict[str, int] = {}
    apart = []
    for n, name in enumerate(names):
        own = name or f"Unnamed: {n}"
        seen[own] = seen.get(own, -1) + 1
        apart.append(own if not seen[own] else f"{own}.{seen[own]}")
    return apart


def _checked(path: Path | str) -> tuple[Path, TableFormat]:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The table {path} does not exist.")
    return path, table_format(path)


def _unreadable(path: Path, separator: str, error: Exception) -> ValueError:
    if str(path) in str(error):
        return ValueError(str(error))
    return ValueError(f"{path} is no readable {_NAMES[separator]} table ({error}).".replace("\n", " "))


def positive_number(text: str, must_be: str, table: Path, line: int) -> float | None:
    """A cell's number above 0 and below 1000, None where the cell is empty. Else `ValueError`, which names the line and
    what it `must_be`."""
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1000:
        raise ValueError(f"{table}, line {line}: {must_be}, not {text!r}.")
    return number
