"""Which profiles the tiles of each slide have, where tiles have profiles of their own: names in Arrow's memory.

A set may have 100 million of them, so names are never Python's strings, and pairs are looked up slide by slide.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rnagan.io.bounds import MAX_PARQUET_ROWS
from rnagan.io.codes import coded, text_of

_COLUMNS = ("slide", "profile", "tiles")
_PIECE = 1 << 16  # rows that are turned into text at a time
_ROW_GROUP = 1 << 20
_PLAIN = bytes(set(range(0x20, 0x7F)) - set(b'"\\'))  # what JSON writes as it is


@dataclasses.dataclass(frozen=True, eq=False)
class TileProfiles:
    """A row for each profile of each slide, by both. Rows first[n] … first[n + 1] − 1 are those of `slides[n]`."""

    slides: pd.Index  # in rising order
    first: NDArray[np.int64]  # (slides + 1,)
    names: pa.ChunkedArray  # (rows,) of the profiles, rising in each slide
    tiles: NDArray[np.int32]  # (rows,) of each profile in its slide

    def __len__(self) -> int:
        return len(self.tiles)

    @classmethod
    def of(cls, slides: Iterable[tuple[str, pa.Array | pa.ChunkedArray]]) -> "TileProfiles":
        """Of the profile of each tile, slide by slide, in rising order of slides."""
        names, tiles, ids = [], [], []
        for slide, profiles in slides:
            counts = pc.value_counts(profiles)
            order = pc.array_sort_indices(counts.field("values"))
            ids.append(slide)
            names.append(counts.field("values").take(order))
            tiles.append(counts.field("counts").take(order).to_numpy().astype(np.int32))
        first = np.cumsum([0, *map(len, tiles)])
        held = pa.chunked_array(names, pa.string())
        return cls(pd.Index(ids, dtype=object), first, held, np.concatenate([np.empty(0, np.int32), *tiles]))

    @classmethod
    def read(cls, source: Path | pa.NativeFile, size: int, most: int) -> "TileProfiles":
        """From a Parquet file of `size` bytes, which may hold `most` rows.

        Raises `OSError` or `pyarrow.ArrowException` where it is damaged, holds anything else, or claims more rows than
        `most`, or than it has bytes, beyond MAX_PARQUET_ROWS.
        """
        with pq.ParquetFile(
            source, pre_buffer=False, page_checksum_verification=True, read_dictionary=["slide"]
        ) as file:
            claimed = file.metadata.num_rows
            if claimed > most or claimed > max(MAX_PARQUET_ROWS, size):
                raise pa.ArrowInvalid(f"it claims {claimed:,} rows in {size:,} bytes, for {most:,} tiles")
            if tuple(file.schema_arrow.names) != _COLUMNS:
                raise pa.ArrowInvalid(f"it has columns {', '.join(file.schema_arrow.names)}")
            runs: list[tuple[str, int]] = []
            names, tiles = [], [np.empty(0, np.int32)]
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, list(_COLUMNS), use_threads=False)
                runs += _runs(table["slide"])
                names += table["profile"].chunks
                tiles.append(table["tiles"].to_numpy().astype(np.int32))
            text = file.schema_arrow.field("profile").type
        if not (pa.types.is_string(text) or pa.types.is_large_string(text)):
            raise pa.ArrowInvalid(f"its profiles are {text}")
        slides, lengths = _joined(runs)
        held = pa.chunked_array(names, text)
        if len(set(slides)) < len(slides) or held.null_count:
            raise pa.ArrowInvalid("its rows aren't by slide, or lack a profile")
        return cls(pd.Index(slides, dtype=object), np.cumsum([0, *lengths]), held, np.concatenate(tiles))

    def of_slide(self, slide: str) -> tuple[int, pa.ChunkedArray]:
        """The first row of a slide and the names of its profiles; none of a slide that isn't here."""
        if slide not in self.slides:
            return 0, self.names.slice(0, 0)
        n = self.slides.get_loc(slide)
        return int(self.first[n]), self.names.slice(self.first[n], self.first[n + 1] - self.first[n])

    def rows(self, slides: pd.Series, profiles: pd.Series) -> NDArray[np.int32]:
        """The row here of each pair of a slide and a profile, -1 where it has none, (pairs,)."""
        codes, names = coded(slides)
        by_slide = None if (codes[1:] >= codes[:-1]).all() else np.argsort(codes, kind="stable")
        codes, text = codes if by_slide is None else codes[by_slide], text_of(profiles)
        if by_slide is not None:
            text = text.combine_chunks().take(pa.array(by_slide))
        starts = np.flatnonzero(codes[1:] != codes[:-1]) + 1
        found = np.full(len(codes), -1, np.int32)
        for start, end in itertools.pairwise([*([0] if len(codes) else []), *starts.tolist(), len(codes)]):
            first, own = self.of_slide(names[codes[start]])
            if len(own):
                places = places_among(text.slice(start, end - start), own)
                found[start:end] = np.where(places < 0, -1, first + places)
        if by_slide is None:
            return found
        back = np.empty_like(found)
        back[by_slide] = found
        return back

    def digest(self) -> str:
        """Hex SHA-256 of what the table says: `sha256_of` a list of [column, values], without having it in memory."""
        found = hashlib.sha256()
        for name, values in zip(
            _COLUMNS, (self._slides_as_json(), self._names_as_json(), self._tiles_as_json()), strict=True
        ):
            found.update(f'{"[" if name == _COLUMNS[0] else ","}["{name}",['.encode())
            comma = b""
            for piece in values:
                found.update(comma + piece)
                comma = b","
            found.update(b"]]")
        found.update(b"]")
        return found.hexdigest()

    def tables(self) -> Iterator[pa.Table]:
        """The table in pieces of whole row groups: slide, profile, tiles."""
        for start in range(0, max(1, len(self)), _ROW_GROUP):
            rows = slice(start, start + _ROW_GROUP)
            numbers = np.arange(start, min(start + _ROW_GROUP, len(self)))
            slides = np.searchsorted(self.first, numbers, side="right") - 1
            names = self.names.slice(start, _ROW_GROUP).cast(pa.string())
            columns = [
                pa.array(self.slides, pa.string()).take(pa.array(slides)),
                names,
                self.tiles[rows].astype(np.int64),
            ]
            yield pa.table(columns, _SCHEMA)

    def write(self, path: Path) -> None:
        """Write it as Parquet, with checksums that are verified when it is read, not by rename."""
        with pq.ParquetWriter(path, _SCHEMA, write_page_checksum=True) as file:
            for table in self.tables():
                file.write_table(table, row_group_size=_ROW_GROUP)

    def frame(self) -> pd.DataFrame:
        """The table, with Python's strings: of a set that isn't large."""
        return pa.concat_tables(self.tables()).to_pandas(use_threads=False)

    def same_as(self, other: "TileProfiles") -> bool:
        """Whether both say the same."""
        return (
            self.slides.equals(other.slides)
            and np.array_equal(self.first, other.first)
            and np.array_equal(self.tiles, other.tiles)
            and self.names.cast(pa.large_string()).equals(other.names.cast(pa.large_string()))
        )

    def _slides_as_json(self) -> Iterator[bytes]:
        for slide, count in zip(self.slides, np.diff(self.first).tolist(), strict=True):
            if count:
                yield b",".join([json.dumps(slide).encode()] * count)

    def _names_as_json(self) -> Iterator[bytes]:
        for chunk in self.names.chunks:
            for start in range(0, len(chunk), _PIECE):
                yield _as_json(chunk.slice(start, _PIECE))

    def _tiles_as_json(self) -> Iterator[bytes]:
        for start in range(0, len(self), _PIECE):
            yield ",".join(map(str, self.tiles[start : start + _PIECE].tolist())).encode()


_SCHEMA = pa.schema([("slide", pa.string()), ("profile", pa.string()), ("tiles", pa.int64())])


def _runs(column: pa.ChunkedArray) -> Iterator[tuple[str, int]]:
    """Each value of a column of dictionaries that isn't the one before, and how often it comes there."""
    for chunk in column.chunks:
        codes = chunk.indices.to_numpy(zero_copy_only=False)
        starts = np.flatnonzero(np.diff(codes, prepend=-1))
        values = chunk.dictionary.take(pa.array(codes[starts])).to_pylist()
        yield from zip(values, np.diff(starts, append=len(codes)).tolist(), strict=True)


def _joined(runs: list[tuple[str, int]]) -> tuple[list[str], list[int]]:
    """Runs of equal values put together where one follows the other."""
    values: list[str] = []
    lengths: list[int] = []
    for value, length in runs:
        if values and values[-1] == value:
            lengths[-1] += length
        else:
            values.append(value)
            lengths.append(length)
    return values, lengths


def places_among(names: pa.Array | pa.ChunkedArray, own: pa.ChunkedArray) -> NDArray[np.int32]:
    """Where each name is among `own`, of which none comes twice; -1 where it isn't there, (names,)."""
    here = own.combine_chunks().cast(pa.large_string())
    found = pc.index_in(names.cast(pa.large_string()), value_set=here)
    return found.fill_null(-1).to_numpy().astype(np.int32, copy=False)


def _as_json(names: pa.Array) -> bytes:
    """Strings as they stand in a JSON list, without its brackets."""
    data = names.buffers()[2]
    offsets = np.frombuffer(names.buffers()[1], np.int64 if pa.types.is_large_string(names.type) else np.int32)
    start, end = offsets[names.offset].item(), offsets[names.offset + len(names)].item()
    if data is not None and not data[start:end].to_pybytes().translate(None, _PLAIN):
        (text,) = pc.binary_join(pa.ListArray.from_arrays([0, len(names)], names), '","')
        return b'"' + text.as_py().encode() + b'"'
    return json.dumps(names.to_pylist(), separators=(",", ":"))[1:-1].encode()
