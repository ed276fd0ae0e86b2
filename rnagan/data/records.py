"""Records, which commit shards, their indexes, and the digest of a folder of them (format: shards/README.md)."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rnagan.files import atomic_path, read_json, sha256_of, write_json

FORMAT, RECORD_FORMAT, VERSION = "rnagan-shards", "rnagan-shard", 1
TAR, INDEX, RECORD = ".tar", ".index.parquet", ".record.json"
_INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("crc32", pa.uint32()),
        ("x", pa.int64()),
        ("y", pa.int64()),
    ]
)


class IndexRow(NamedTuple):
    """A tile in its tar: `offset` and `size` of the image in bytes, x and y in level-0 px, -1 where unknown."""

    key: str
    offset: int
    size: int
    crc32: int
    x: int
    y: int


def write_index(path: Path, rows: Iterable[IndexRow]) -> None:
    """Write an index, not by rename."""
    pq.write_table(pa.table(list(map(list, zip(*rows, strict=True))), schema=_INDEX_SCHEMA), path)


def read_parquet(path: Path) -> pd.DataFrame:
    """A small Parquet table, read without Arrow's threads: with them one process in a hundred aborted at its end.

    Raises `OSError` or `pyarrow.ArrowException` where it is missing or damaged.
    """
    with pq.ParquetFile(path, pre_buffer=False) as file:
        return file.read(use_threads=False).to_pandas(use_threads=False)


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Put a slide's record in place, by rename."""
    write_json(folder / (record["slide"] + RECORD), record)


def read_records(folder: Path | str) -> Iterator[dict[str, Any]]:
    """The records of all committed slides of a folder, by name. A file that is no record raises `ValueError`."""
    for path in sorted(Path(folder).glob("*" + RECORD)):
        record = read_json(path)
        if not isinstance(record, dict) or (record.get("format"), record.get("version")) != (RECORD_FORMAT, VERSION):
            raise ValueError(f"{path} is no record of version {VERSION}; delete it and build its slide again.")
        yield record


def write_digest(folder: Path | str) -> dict[str, Any]:
    """Write `slides.parquet` and `dataset.json` from the records of a folder, and return the latter.

    Refuses records that differ in tile_px or mpp: they can't be read as one set. Several processes may do this at the
    same time without a lock, as parts of a build that end together: each looks again after it has written, so the one
    that writes last has seen every record.
    """
    folder = Path(folder)
    while True:
        seen = _states_of_records(folder)
        dataset, slides = make_digest(folder, list(read_records(folder)))
        with atomic_path(folder / "slides.parquet") as temporary:
            slides.to_parquet(temporary, index=False)
        write_json(folder / "dataset.json", dataset)
        if _states_of_records(folder) == seen:
            return dataset


def _states_of_records(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each record."""
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if entry.name.endswith(RECORD)]
        return {entry.name: (entry.stat().st_size, entry.stat().st_mtime_ns) for entry in found}


def make_digest(folder: Path, records: list[dict[str, Any]]) -> tuple[dict[str, Any], pd.DataFrame]:
    """What `dataset.json` and `slides.parquet` must say of these records."""
    if not records:
        raise ValueError(f"{folder} holds no finished slide.")
    sizes = {(record["options"]["tile_px"], record["options"]["mpp"]) for record in records}
    if len(sizes) > 1:
        kinds = " and ".join(name_kind(*size) for size in sorted(sizes, key=str))
        raise ValueError(f"{folder} mixes tiles of {kinds}; build each kind into a folder of its own.")
    ((tile_px, mpp),) = sizes
    reasons = sorted({reason for record in records for reason in record["counts"]})
    rows = [
        {name: record[name] for name in ("slide", "status", "tiles", "sha256", "bytes")}
        | {reason: record["counts"].get(reason, 0) for reason in reasons}
        for record in records
    ]
    dataset = {
        "format": FORMAT,
        "version": VERSION,
        "tile_px": tile_px,
        "mpp": mpp,
        "slides": len(rows),
        "tiles": sum(row["tiles"] for row in rows),
        "digest": sha256_of([(row["slide"], row["sha256"]) for row in rows]),
    }
    return dataset, pd.DataFrame(rows)


def name_kind(tile_px: int, mpp: float | None) -> str:
    """`256 px at 0.5 µm`, for messages."""
    return f"{tile_px} px at {mpp or 'unknown'} µm"
