"""The numbers of a table of text, in blocks of rows, as fast as two cores can read them.

Bytes are decompressed in a thread, cut at line ends into pieces of some MB, and the numbers of a piece, however they
are laid out, are parsed as one JSON array by simdjson: several times faster than any CSV reader, and the width of the
table costs nothing. What JSON doesn't know (NA, .5, 1e400) is parsed by pyarrow.
"""

import contextlib
import re
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow
import pyarrow.csv
import simdjson
from isal import isal_zlib
from numpy.typing import NDArray

from rnagan.io.matrix_rows import Block, unreadable
from rnagan.io.matrix_text import DECIMAL_COMMA, MISSING, Layout
from rnagan.io.tables import UNREADABLE, Unpacked, check_line, table_format

PIECE_BYTES = 2 << 20


def text_blocks(path: Path, layout: Layout) -> Iterator[Block]:
    """The rows of a table in order, some MB at a time; missing values are NaN.

    Raises `ValueError` with the file's name, row and column on a cell that is no number, on a row with too few or too
    many cells, on a damaged file and on a GCT with another number of rows than it declares.
    """
    rows, parser = 0, simdjson.Parser()  # its memory is used again
    try:
        for piece in _pieces(path, layout.skip_lines):
            block = _parse(piece, layout, path, parser)
            rows += len(block.labels)
            if layout.rows is not None and rows > layout.rows:
                break
            if block.labels:
                yield block
    except UNREADABLE as error:
        raise error if str(path) in str(error) else unreadable(path, error) from None
    if layout.rows is not None and rows != layout.rows:
        held = f"{rows:,}" if rows < layout.rows else "more"
        raise ValueError(
            f"{path} declares {layout.rows:,} rows on line 2 and holds {held}; it is cut or was changed: "
            "download it again or repair line 2."
        )


def _pieces(path: Path, skip_lines: int) -> Iterator[bytes]:
    """Whole lines, about PIECE_BYTES at a time; the next piece is decompressed while this one is used."""
    chunks = _chunks(path)
    with contextlib.closing(chunks), ThreadPoolExecutor(1) as reader:  # the thread ends first
        coming = reader.submit(next, chunks, b"")
        begun: list[bytes] = []
        while data := coming.result():
            coming = reader.submit(next, chunks, b"")
            end = data.rfind(b"\n") + 1
            if end == 0:
                begun.append(data)
                check_line(len(begun) * PIECE_BYTES)
                continue
            piece, begun = b"".join([*begun, memoryview(data)[:end]]), [data[end:]]
            start = 0
            while skip_lines and start < len(piece):
                start, skip_lines = piece.find(b"\n", start) + 1, skip_lines - 1
            yield piece[start:]
        coming.result()
        rest = b"".join(begun)
        if rest and not skip_lines:
            yield rest


def _chunks(path: Path) -> Generator[bytes, None, None]:
    """The decompressed bytes. Each piece is one call that lets other threads run, which a file object's read isn't."""
    with open(path, "rb") as handle:
        if not table_format(path).gzipped:
            while data := handle.read(PIECE_BYTES):
                yield data
            return
        member, unpacked = None, Unpacked(path)
        while raw := handle.read(PIECE_BYTES // 4):
            while raw := raw if member else raw.lstrip(b"\0"):  # zeros may pad the file
                member = member or isal_zlib.decompressobj(wbits=31)
                if data := member.decompress(raw, PIECE_BYTES):
                    unpacked.add(len(data))
                    yield data
                raw = member.unconsumed_tail
                if member.eof:
                    raw, member = member.unused_data, None
        if member is not None:
            raise EOFError("it ended before the end-of-stream marker was reached")


def _parse(piece: bytes, layout: Layout, path: Path, parser: simdjson.Parser) -> Block:
    if b"\r" in piece:
        piece = piece.replace(b"\r\n", b"\n")
    lines = [line for line in piece.split(b"\n") if line and not line.isspace()]
    separator, k = layout.separator.encode(), layout.text_columns
    if b'"' in piece:
        rows = [_split_quoted(line, separator, k) for line in lines]
    else:
        rows = [line.split(separator, k) for line in lines]
    if min(map(len, rows), default=k + 1) <= k:
        short = next(row for row in rows if len(row) <= k)
        label = short[min(layout.label, len(short) - 1)].decode().strip()
        raise unreadable(path, f"row {label} has {len(short)} cells, the header {k + len(layout.names):,}")
    labels = [row[layout.label].decode().strip() for row in rows]
    symbols = [""] * len(rows) if layout.symbol is None else [row[layout.symbol].decode().strip() for row in rows]
    numbers = [row[k].removesuffix(separator) for row in rows] if layout.open_end else [row[k] for row in rows]
    if not lines:
        return Block([], [], np.empty((0, len(layout.names)), np.float32))
    joined = bytearray(b",").join([b"[" + numbers[0], *numbers[1:]])
    joined += b"]"  # in place: it holds some MB
    text = np.frombuffer(joined, np.uint8)
    is_separator = text == ord(layout.separator)
    _refuse_uneven(numbers, labels, is_separator, layout, path)
    if layout.separator != ",":
        text += is_separator.view(np.uint8) * np.uint8((ord(",") - ord(layout.separator)) % 256)
    shape = len(rows), len(layout.names)
    values = _by_simdjson(text, shape, parser)
    if values is None:
        values = _by_pyarrow(numbers, labels, layout, path).reshape(shape)
    return Block(labels, symbols, values)


def _split_quoted(line: bytes, separator: bytes, k: int) -> list[bytes]:
    """The first k cells and the rest of a line, all without quotes."""
    cells: list[bytes] = []
    sign, place = re.escape(separator), 0
    for _ in range(k):
        match = re.compile(rb'(?:"((?:[^"]|"")*)"|([^' + sign + rb"]*))(?:" + sign + rb"|$)").match(line, place)
        if match is None or match.end() == place:
            return cells or [line]
        cells.append(match[2] if match[1] is None else match[1].replace(b'""', b'"'))
        place = match.end()
    return [*cells, line[place:].replace(b'"', b"")]


def _refuse_uneven(
    numbers: list[bytes], labels: list[str], is_separator: NDArray[np.bool_], layout: Layout, path: Path
) -> None:
    place, wanted = 1, len(layout.names) - 1
    for n, row in enumerate(numbers):
        end = place + len(row)
        found = np.count_nonzero(is_separator[place:end])
        if found != wanted:
            cells, head = layout.text_columns + found + 1, layout.text_columns + wanted + 1
            raise unreadable(path, f"row {labels[n]} has {cells:,} cells, the header {head:,}")
        place = end + 1


def _by_simdjson(
    text: NDArray[np.uint8], shape: tuple[int, int], parser: simdjson.Parser
) -> NDArray[np.float32] | None:
    """The numbers, or None where JSON doesn't know one of them."""
    if np.count_nonzero(text == ord("[")) > 1:  # as_buffer would take the numbers out of lists
        return None
    try:
        array = cast(simdjson.Array, parser.parse(text.data))
        values = np.frombuffer(array.as_buffer(of_type="d"), np.float64)
    except (ValueError, TypeError):
        return None
    return values.astype(np.float32).reshape(shape) if len(values) == shape[0] * shape[1] else None


def _by_pyarrow(numbers: list[bytes], labels: list[str], layout: Layout, path: Path) -> NDArray[np.float32]:
    text = b"\n".join(numbers).translate(bytes.maketrans(layout.separator.encode(), b"\n")) + b"\n"
    try:
        column = pyarrow.csv.read_csv(
            pyarrow.BufferReader(text),
            read_options=pyarrow.csv.ReadOptions(column_names=["x"]),
            parse_options=pyarrow.csv.ParseOptions(delimiter="\x01", quote_char=False, ignore_empty_lines=False),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={"x": pyarrow.float32()}, null_values=list(MISSING), strings_can_be_null=True
            ),
        )["x"]
    except pyarrow.ArrowInvalid:
        raise unreadable(path, _bad_cell(numbers, labels, layout)) from None
    return column.to_numpy()


def _advice(cell: str, layout: Layout) -> str:
    if DECIMAL_COMMA.fullmatch(cell.strip()):
        return ": a decimal comma, write a point"
    return ": put columns of text before the numbers, or leave them out" if layout.rows_are == "samples" else ""


def _bad_cell(numbers: list[bytes], labels: list[str], layout: Layout) -> str:
    for row, label in zip(numbers, labels, strict=True):
        for cell, name in zip(row.decode().split(layout.separator), layout.names, strict=True):
            try:
                float("nan" if cell.strip() in MISSING else cell)
            except ValueError:
                return f"row {label}, column {name} holds {cell!r}, which is no number{_advice(cell, layout)}"
    return f"rows {labels[0]} to {labels[-1]} hold what is no number"
