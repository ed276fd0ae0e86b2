"""Records, which commit shards, their indexes, and the digest of a folder of them (format: shards/README.md)."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rnagan import __version__
from rnagan.data.shard_schema import (
    IndexRow,
    Kind,
    ProfileKind,
    ProfileRow,
    TileKind,
    genes_digest,
    kind_of,
    name_kind,
)
from rnagan.io.bounds import MAX_JSON_BYTES, MAX_PARQUET_ROWS
from rnagan.io.files import atomic_path, sha256_of, write_json
from rnagan.io.json_values import json_problem, parse_json

FORMAT, RECORD_FORMAT, VERSION = "rnagan-shards", "rnagan-shard", 1
TAR, INDEX, RECORD = ".tar", ".index.parquet", ".record.json"
GENES, SAMPLES = "genes.parquet", "samples.parquet"  # of a set of profiles
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


class Dataset(TypedDict):
    """The dataset.json of a set, without what it says of the kind."""

    slides: int
    tiles: int
    digest: str


def write_index(path: Path, rows: Sequence[IndexRow] | Sequence[ProfileRow]) -> None:
    """Write an index of at least one row, not by rename."""
    kinds = type(rows[0]).__annotations__
    schema = pa.schema([(name, pa.uint32() if name == "crc32" else _TYPES[kind]) for name, kind in kinds.items()])
    pq.write_table(pa.table(list(map(list, zip(*rows, strict=True))), schema=schema), path)


def read_parquet(source: Path | pa.NativeFile, columns: list[str] | None = None) -> pd.DataFrame:
    """A small Parquet table, read without Arrow's threads: with them one process in a hundred aborted at its end.

    Raises `OSError` or `pyarrow.ArrowException` where it is missing, damaged or claims more than MAX_PARQUET_ROWS.
    """
    with pq.ParquetFile(source, pre_buffer=False, page_checksum_verification=True) as file:
        if file.metadata.num_rows > MAX_PARQUET_ROWS:
            raise pa.ArrowInvalid(f"it claims {file.metadata.num_rows:,} rows, and {MAX_PARQUET_ROWS:,} are read")
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
                record = parse_json(file.read(MAX_JSON_BYTES + 1))
        except FileNotFoundError:
            continue
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON ({error}); delete it and build its slide again.") from None
        if problem := record_problem(record):
            raise ValueError(f"{path} {problem}; delete it and build its slide again.")
        yield record


def record_problem(record: Any) -> str | None:
    """What keeps a JSON value from being the record of a slide, a phrase; None where nothing does."""
    if not isinstance(record, dict) or (record.get("format"), record.get("version")) != (RECORD_FORMAT, VERSION):
        return f"is no record of version {VERSION}"
    return json_problem(record, Record)


def write_digest(folder: Path | str) -> dict[str, Any]:
    """Write `slides.parquet` and `dataset.json` from the records of a folder, and return the latter; `samples.parquet`
    of a set of profiles, from their indexes.

    Refuses records of several kinds: they can't be read as one set. Several processes may do this at the same time
    without a lock, as parts of a build that end together: each looks again after it has written, so the one that
    writes last has seen every record.
    """
    folder = Path(folder)
    while True:
        seen = _states_of_records(folder)
        records = list(read_records(folder))
        dataset, slides = make_digest(folder, records)
        write_table(folder / "slides.parquet", slides)
        if isinstance(kind_of(dataset), ProfileKind):
            write_table(folder / SAMPLES, read_samples(folder, records))
        write_json(folder / "dataset.json", dataset)
        if _states_of_records(folder) == seen:
            return dataset


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a Parquet table by rename, with checksums that are verified when it is read."""
    with atomic_path(path) as temporary:
        table.to_parquet(temporary, index=False, write_page_checksum=True)


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
    kind = _the_one_kind(folder, [kind_of_record(folder, record) for record in records])
    reasons = sorted({reason for record in records for reason in record["counts"]})
    rows = [
        {name: record[name] for name in ("slide", "status", "tiles", "sha256", "bytes")}
        | {reason: record["counts"].get(reason, 0) for reason in reasons}
        for record in records
    ]
    dataset = {
        "format": FORMAT,
        "version": VERSION,
        **kind.facts,
        "slides": len(rows),
        "tiles": sum(row["tiles"] for row in rows),
        "digest": sha256_of([(row["slide"], row["sha256"]) for row in rows] + _more_of_digest(kind)),
    }
    return dataset, pd.DataFrame(rows)


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


def read_samples(folder: Path, records: list[dict[str, Any]]) -> pd.DataFrame:
    """What `samples.parquet` must say of these records of profiles: sample, slide (its shard) and place in it, of all.

    Raises what `read_parquet` does where an index is damaged, and `ValueError` where it names no samples or a sample is
    there twice.
    """
    tables = []
    for record in sorted(records, key=lambda record: record["slide"] + RECORD):
        if record["tiles"]:
            samples = read_parquet(folder / (record["slide"] + INDEX), ["sample"])
            if list(samples) != ["sample"]:
                raise ValueError(f"{folder}/{record['slide']}{INDEX} names no samples; build into an empty folder.")
            tables.append(samples.assign(slide=record["slide"], place=range(len(samples))))
    table = pd.concat(tables, ignore_index=True)
    twice = table[table["sample"].duplicated()]
    if len(twice):
        raise ValueError(
            f"{folder} holds the profile of {twice['sample'].iloc[0]} twice, in {twice['slide'].iloc[0]} too; build "
            "into an empty folder."
        )
    return table


def _the_one_kind(folder: Path, kinds: list[Kind]) -> Kind:
    kind, *others = sorted(set(kinds), key=lambda kind: str(tuple(kind.facts.values())))
    if not others:
        return kind
    if all(isinstance(one, TileKind) for one in (kind, *others)):
        named = "tiles of " + " and ".join(name_kind(*one.facts.values()) for one in (kind, *others))
    else:
        named = " and ".join(map(str, (kind, *others)))
    raise ValueError(f"{folder} mixes {named}; build each kind into a folder of its own.")


def _more_of_digest(kind: Kind) -> list[str]:
    """What is no part of a tar and yet of the set."""
    return [kind.genes_sha256] if isinstance(kind, ProfileKind) else []
