"""Tables of plain text by Arrow, ten times as fast as line by line: printable ASCII without quotes, no spaces around
cells, every row as wide as the header. What is otherwise is read by `rnagan.io.tables`, with all its care.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from rnagan.io.bounds import MAX_LINE_BYTES

_BLOCK_BYTES = 1 << 23
_PLAIN = set(range(0x20, 0x7F)) - set(b"\"'") | set(b"\n")
_COMES_AGAIN = 4  # rows for each different value, at least, of a column that is held by codes


class NotPlain(ValueError):  # noqa: N818
    """A table that must be read line by line."""


@dataclasses.dataclass
class PlainColumn:
    """A column of strings, block by block: codes of values that come again, or Arrow's strings."""

    values: dict[str, int] | None = None
    codes: list[NDArray[np.int32]] = dataclasses.field(default_factory=list)
    text: list[pa.Array] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self.codes or self.text))

    def add(self, cells: pa.Array) -> None:
        """Take a block's cells. Whether the column is held by codes, the first block decides."""
        if self.text:
            self.text.append(cells)
            return
        coded = cells.dictionary_encode()
        if self.values is None and len(coded.dictionary) * _COMES_AGAIN > len(cells):
            self.text.append(cells)
            return
        values = self.values = {} if self.values is None else self.values
        number = np.array([values.setdefault(value, len(values)) for value in coded.dictionary.to_pylist()], np.int32)
        self.codes.append(number[coded.indices.to_numpy()])

    def strings(self) -> NDArray[np.object_]:
        """Python's strings, of which those that come again are kept once, (rows,)."""
        if self.values is None:
            return pa.chunked_array(self.text).to_numpy()
        return np.array([*self.values, None], object)[np.concatenate(self.codes)]

    def lean(self) -> pd.Series:
        """Categories, in rising order, of values that come again; Arrow's strings of others."""
        if self.values is None:
            text = pa.chunked_array(self.text).cast(pa.large_string())
            return pd.Series(_text_dtype().__from_arrow__(text))
        values = sorted(self.values)
        place = np.empty(len(values), np.int32)
        place[[self.values[value] for value in values]] = np.arange(len(values))
        codes = place[np.concatenate(self.codes)]
        return pd.Series(pd.Categorical.from_codes(codes, pd.Index(values, dtype=object)))


def read_plain(handle: BinaryIO, separator: str, skip: int, width: int, taken: Sequence[int]) -> list[PlainColumn]:
    """The columns numbered in `taken` of a table of so many columns, below `skip` lines.

    Raises `NotPlain` where anything is unusual, also where the table is wrong, and `OSError` as reading does.
    """
    columns = [PlainColumn() for _ in taken]
    names = [str(n) for n in range(width)]
    for block in _blocks(handle, separator, skip):
        try:
            table = pyarrow.csv.read_csv(
                pa.BufferReader(block),
                pyarrow.csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names),
                pyarrow.csv.ParseOptions(delimiter=separator, quote_char=False, double_quote=False),
                pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()),
                    strings_can_be_null=False,
                    include_columns=[names[n] for n in taken],
                ),
            )
        except pa.ArrowInvalid as error:
            raise NotPlain(str(error)) from None
        for column, cells in zip(columns, table.columns, strict=True):
            column.add(cells.combine_chunks())
    if not columns or not len(columns[0]):
        raise NotPlain("no rows")
    return columns


def _blocks(handle: BinaryIO, separator: str, skip: int) -> Iterator[bytes]:
    """Whole lines, many at a time, each block checked."""
    plain, sign = bytes(_PLAIN | set(separator.encode())), separator.encode()
    odd = [b" " + sign, sign + b" ", b" \n", b"\n "] if separator != " " else [b"  ", b" \n", b"\n "]
    for _ in range(skip):
        handle.readline(MAX_LINE_BYTES + 1)
    left = b""
    while True:
        read = handle.read(_BLOCK_BYTES)
        block = left + read
        end = block.rfind(b"\n") + 1 if read else len(block)
        block, left = block[:end], block[end:]
        ends = b" " in (block[:1], block[-1:])
        if ends or block.translate(None, plain) or any(pair in block for pair in odd):
            raise NotPlain("a sign that isn't plain")
        if len(left) > MAX_LINE_BYTES:
            raise NotPlain("a long line")
        if block.strip(b"\n"):
            yield block
        if not read:
            return


def _text_dtype() -> pd.StringDtype:
    try:
        return pd.StringDtype("pyarrow", na_value=np.nan)
    except TypeError:  # pandas 2.2
        return pd.StringDtype("pyarrow_numpy")
