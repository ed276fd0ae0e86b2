"""Records, which commit shards, their indexes, and the digest of a folder of them (format: shards/README.md)."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rnagan import __version__
from rnagan.files import atomic_path, sha256_of, write_json

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


def read_parquet(source: Path | pa.NativeFile, columns: list[str] | None = None) -> pd.DataFrame:
    """A small Parquet table, read without Arrow's threads: with them one process in a hundred aborted at its end.

    Raises `OSError` or `pyarrow.ArrowException` where it is missing or damaged.
    """
    with pq.ParquetFile(source, pre_buffer=False) as file:
        # what pandas adds to say of its own types isn't guarded by Parquet, and isn't needed
        return file.read(columns, use_threads=False).to_pandas(use_threads=False, ignore_metadata=True)


def make_record(
    slide: str,
    status: str,
    tiles: int,
    counts: dict[str, int],
    source: dict[str, Any],
    options: dict[str, Any],
    versions: dict[str, str],
    sha256: str | None = None,
    size: int = 0,
) -> dict[str, Any]:
    """The record of a slide; `sha256` and `size` (bytes) are its tar's."""
    return {
        "format": RECORD_FORMAT,
        "version": VERSION,
        "slide": slide,
        "status": status,
        "tiles": tiles,
        "counts": counts,
        "sha256": sha256,
        "bytes": size,
        "source": source,
        "options": options,
        "options_digest": sha256_of(options),
        "versions": {"rnagan": __version__, **versions},
    }


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Put a slide's record in place, by rename."""
    write_json(folder / (record["slide"] + RECORD), record)


def read_records(folder: Path | str) -> Iterator[dict[str, Any]]:
    """The records of all committed slides of a folder, by file name. A file that is no record raises `ValueError`.

    One that goes while this reads is passed over: its slide is being committed anew.
    """
    for name in sorted(name for name in os.listdir(folder) if name.endswith(RECORD)):
        path = os.path.join(folder, name)
        try:
            with open(path, "rb") as file:
                record = json.loads(file.read())
        except FileNotFoundError:
            continue
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON ({error}); delete it and build its slide again.") from None
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
    states = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(RECORD):
                with contextlib.suppress(FileNotFoundError):
                    states[entry.name] = entry.stat().st_size, entry.stat().st_mtime_ns
    return states


def make_digest(folder: Path, records: list[dict[str, Any]]) -> tuple[dict[str, Any], pd.DataFrame]:
    """What `dataset.json` and `slides.parquet` must say of these records, in whatever order they come."""
    if not records:
        raise ValueError(f"{folder} holds no finished slide.")
    records = sorted(records, key=lambda record: record["slide"] + RECORD)  # as `read_records` has them
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
