"""Records, which commit shards, and their indexes (format: shards/README.md)."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rnagan import __version__
from rnagan.data.shard_schema import IndexRow, Kind, ProfileKind, ProfileRow, SpotRow, genes_digest, kind_of
from rnagan.io.bounds import MAX_JSON_BYTES
from rnagan.io.files import sha256_of, sha256_of_file, write_json
from rnagan.io.json_values import json_problem, parse_json
from rnagan.io.parquet import read_parquet

FORMAT, RECORD_FORMAT, VERSION = "rnagan-shards", "rnagan-shard", 1
TAR, INDEX, RECORD = ".tar", ".index.parquet", ".record.json"
SLIDES = "slides.parquet"
GENES, SAMPLES = "genes.parquet", "samples.parquet"  # of a set of profiles
TILE_PROFILES = "profiles.parquet"  # of a set of tiles with profiles of their own
INDEX_SUM = "index_sha256"  # in a record and in slides.parquet; earlier versions wrote none
_TYPES = {int: pa.int64(), str: pa.string()}


class Record(TypedDict):
    """The record of a slide: `tiles` in its tar of so many `bytes`, and how many places were left out by reason."""

    format: str
    version: int
    slide: str
    status: str
    tiles: int
    counts: dict[str, int]
    sha256: str | None
    bytes: int
    source: dict[str, Any]
    options: dict[str, Any]
    options_digest: str
    versions: dict[str, Any]
    index_sha256: NotRequired[str | None]
    sum: NotRequired[str]


def write_index(path: Path, rows: Sequence[IndexRow] | Sequence[SpotRow] | Sequence[ProfileRow]) -> None:
    """Write an index of at least one row, not by rename."""
    kinds = type(rows[0]).__annotations__
    schema = pa.schema([(name, pa.uint32() if name == "crc32" else _TYPES[kind]) for name, kind in kinds.items()])
    pq.write_table(pa.table(list(map(list, zip(*rows, strict=True))), schema=schema), path)


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
    index_sha256: str | None = None,
) -> dict[str, Any]:
    """The record of a slide; `sha256` and `size` (bytes) are its tar's, `index_sha256` that of its index."""
    return {
        "format": RECORD_FORMAT,
        "version": VERSION,
        "slide": slide,
        "status": status,
        "tiles": tiles,
        "counts": counts,
        "sha256": sha256,
        "bytes": size,
        INDEX_SUM: index_sha256,
        "source": source,
        "options": options,
        "options_digest": sha256_of(options),
        "versions": {"rnagan": __version__, **versions},
    }


def write_record(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Put a slide's record in place, by rename, with the sum of what it says; returns it as it is written."""
    record = sealed(record)
    write_json(folder / (record["slide"] + RECORD), record)
    return record


def sealed(said: dict[str, Any]) -> dict[str, Any]:
    """A record, or `dataset.json`, with a `sum` of all else that it says."""
    said = {name: value for name, value in said.items() if name != "sum"}
    return said | {"sum": sha256_of(said)}


def read_records(folder: Path | str, damaged: dict[str, str] | None = None) -> Iterator[dict[str, Any]]:
    """The records of all committed slides of a folder, by file name.

    A file that is no whole record of its slide raises `ValueError`; where `damaged` is given it is noted there, slide →
    what is wrong, and passed over. One that goes while this reads is passed over: its slide is being committed anew.
    """
    for name in sorted(name for name in os.listdir(folder) if name.endswith(RECORD)):
        path, slide = os.path.join(folder, name), name.removesuffix(RECORD)
        try:
            with open(path, "rb") as file:
                record = parse_json(file.read(MAX_JSON_BYTES + 1))
            problem = record_problem(record, slide)
        except FileNotFoundError:
            continue
        except ValueError as error:
            record, problem = None, f"is not valid JSON ({error})"
        if problem is None:
            yield record
        elif damaged is None:
            raise ValueError(f"{path} {problem}; delete it and build its slide again.")
        else:
            damaged[slide] = problem


def record_problem(record: Any, slide: str) -> str | None:
    """What keeps the content of SLIDE.record.json from being a record of that slide, a phrase, or None."""
    if not isinstance(record, dict) or (record.get("format"), record.get("version")) != (RECORD_FORMAT, VERSION):
        return f"is no record of version {VERSION}"
    if problem := json_problem(record, Record):
        return problem
    if record["slide"] != slide:
        return f"says that it is of slide {record['slide']!r}"
    try:
        kind_of(record["options"])
    except ValueError as error:
        return str(error)
    if record["options_digest"] != sha256_of(record["options"]):
        return "has options that their digest doesn't match"
    parts = {record["status"] == "done", record["tiles"] > 0, bool(record["sha256"]), record["bytes"] > 0}
    if len(parts) > 1 or record["tiles"] < 0:
        return f"says {record['status']} and {record['tiles']} tiles, which can't both be"
    if min(record["counts"].values(), default=0) < 0:
        return "has counts below 0"
    if (INDEX_SUM in record or "sum" in record) and sealed(record) != record:
        return "was changed after it was written (its sum differs)"
    return None


def shard_problem(folder: Path, record: dict[str, Any]) -> str | None:
    """What a look that reads no tar finds wrong with the files that a record vouches for; None where all is well.

    The tar must have its size, and the index its sum. Where the record has none, as earlier versions wrote it, the
    index must have rows of the slide, as many as there are tiles, that lie within the tar.
    """
    if not record["tiles"]:
        return None
    tar, index = folder / (record["slide"] + TAR), folder / (record["slide"] + INDEX)
    if not tar.is_file():
        return f"{tar.name} is missing"
    if (size := tar.stat().st_size) != record["bytes"]:
        return f"{tar.name} has {size:,} bytes, and its record says {record['bytes']:,}"
    if not index.is_file():
        return f"{index.name} is missing"
    if expected := record.get(INDEX_SUM):
        same = sha256_of_file(index) == expected
        return None if same else f"{index.name} is not the file that its record vouches for (sha256 differs)"
    problem = _unsummed_index_problem(index, record)
    return problem and f"{index.name} {problem}"


def lost_records(folder: Path, records: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Slides that the folder's digest counts and that none of `records` is of, each with a phrase."""
    try:
        counted = read_parquet(folder / SLIDES, ["slide"])["slide"].tolist()
    except (pa.ArrowException, OSError, ValueError, KeyError):
        return {}
    lost = set(counted) - {record["slide"] for record in records}
    return dict.fromkeys(sorted(lost), "is missing, and dataset.json counts it")


def _unsummed_index_problem(path: Path, record: dict[str, Any]) -> str | None:
    try:
        index = read_parquet(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        return f"is damaged ({(str(error).splitlines() or ['empty'])[0]})"
    if list(index) != list(kind_of(record["options"]).row_type._fields) or len(index) != record["tiles"]:
        return "does not belong to its tar"
    ours = record["source"].get("adopted") or index["key"].str.startswith(f"{record['slide']}_").all()
    within = index["offset"].min() >= 0 and (index["offset"] + index["size"]).max() <= record["bytes"]
    return None if ours and within else "is of another slide, or damaged"


def kind_of_record(folder: Path, record: dict[str, Any]) -> Kind:
    """What a record of this folder says that its shard holds."""
    try:
        return kind_of(record["options"])
    except ValueError as error:
        raise ValueError(f"{folder}/{record['slide']}{RECORD} {error}; delete it and build its shard again.") from None


def read_genes(folder: Path, kind: ProfileKind) -> pd.DataFrame | None:
    """`genes.parquet` of a folder; None where it is missing, damaged or of another set of profiles."""
    try:
        genes = read_parquet(folder / GENES)
        return genes if genes_digest(genes, kind.units) == kind.genes_sha256 else None
    except (pa.ArrowException, OSError, ValueError, KeyError):
        return None
