"""Records, which commit shards, their indexes, and the digest of a folder of them (format: shards/README.md)."""

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rnagan import __version__
from rnagan.data.shard_schema import (
    IndexRow,
    Kind,
    ProfileKind,
    ProfileRow,
    SpotRow,
    TileKind,
    genes_digest,
    kind_of,
    name_kind,
)
from rnagan.data.tile_profiles import TileProfiles
from rnagan.io.bounds import MAX_JSON_BYTES, MAX_PARQUET_ROWS
from rnagan.io.files import atomic_path, read_json, sha256_of, sha256_of_file, write_json
from rnagan.io.json_values import json_problem, parse_json

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


class Dataset(TypedDict):
    """The dataset.json of a set, without what it says of the kind."""

    slides: int
    tiles: int
    digest: str
    sums: NotRequired[dict[str, str]]
    sum: NotRequired[str]


def write_index(path: Path, rows: Sequence[IndexRow] | Sequence[SpotRow] | Sequence[ProfileRow]) -> None:
    """Write an index of at least one row, not by rename."""
    kinds = type(rows[0]).__annotations__
    schema = pa.schema([(name, pa.uint32() if name == "crc32" else _TYPES[kind]) for name, kind in kinds.items()])
    pq.write_table(pa.table(list(map(list, zip(*rows, strict=True))), schema=schema), path)


def read_parquet(source: Path | pa.NativeFile, columns: list[str] | None = None) -> pd.DataFrame:
    """A small Parquet table, read without Arrow's threads: with them one process in a hundred aborted at its end.

    Raises `OSError` or `pyarrow.ArrowException` where it is missing, damaged or claims more than MAX_PARQUET_ROWS.
    """
    # what pandas adds to say of its own types isn't guarded by Parquet, and isn't needed
    return read_arrow(source, columns).to_pandas(use_threads=False, ignore_metadata=True)


def read_arrow(source: Path | pa.NativeFile, columns: list[str] | None = None) -> pa.Table:
    """As `read_parquet`, in Arrow's memory."""
    with pq.ParquetFile(source, pre_buffer=False, page_checksum_verification=True) as file:
        if file.metadata.num_rows > MAX_PARQUET_ROWS:
            raise pa.ArrowInvalid(f"it claims {file.metadata.num_rows:,} rows, and {MAX_PARQUET_ROWS:,} are read")
        return file.read(columns, use_threads=False)


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


def write_digest(folder: Path | str, being_made: Collection[str] = ()) -> dict[str, Any]:
    """Write `slides.parquet` and `dataset.json` from the records of a folder, and return the latter; from the indexes
    `samples.parquet` of a set of profiles, and `profiles.parquet` of tiles with profiles of their own.

    Refuses records of several kinds: they can't be read as one set; and damaged ones, but for those of slides in
    `being_made`, which another part of this build makes again. Several processes may do this at the same time
    without a lock, as parts of a build that end together: each looks again after it has written, so the one that
    writes last has seen every record.
    """
    folder = Path(folder)
    while True:
        seen, damaged = _states_of_records(folder), dict[str, str]()
        records = list(read_records(folder, damaged))
        for slide in damaged.keys() - set(being_made):
            raise ValueError(f"{folder}/{slide}{RECORD} {damaged[slide]}; delete it and build its slide again.")
        dataset, slides = make_digest(folder, records)
        tables = {SLIDES: slides} | read_joins(folder, kind_of(dataset), records)
        for name, table in tables.items():
            if not holds(folder / name, table):  # what is up to date may lie on a disk that can't be written
                write_table(folder / name, table)
        dataset = seal_digest(dataset, tables)
        if not _says(folder / "dataset.json", dataset):
            write_json(folder / "dataset.json", dataset)
        if _states_of_records(folder) == seen:
            return dataset


def write_table(path: Path, table: pd.DataFrame | TileProfiles) -> None:
    """Write a Parquet table by rename, with checksums that are verified when it is read."""
    with atomic_path(path) as temporary:
        if isinstance(table, TileProfiles):
            table.write(temporary)
        else:
            table.to_parquet(temporary, index=False, write_page_checksum=True)


def holds(path: Path, table: pd.DataFrame | TileProfiles) -> bool:
    """Whether a Parquet file is whole and holds this table."""
    try:
        if isinstance(table, TileProfiles):
            return TileProfiles.read(path, path.stat().st_size, len(table)).same_as(table)
        with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
            return file.read(use_threads=False).equals(pa.Table.from_pandas(table, preserve_index=False, nthreads=1))
    except (pa.ArrowException, OSError):
        return False


def _says(path: Path, value: dict[str, Any]) -> bool:
    """Whether a JSON file is whole and says this."""
    try:
        return read_json(path) == value
    except (OSError, ValueError):
        return False


def _states_of_records(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each record."""
    states = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(RECORD):
                with contextlib.suppress(FileNotFoundError):
                    states[entry.name] = entry.stat().st_size, entry.stat().st_mtime_ns
    return states


def seal_digest(dataset: dict[str, Any], tables: dict[str, Any]) -> dict[str, Any]:
    """`dataset.json` with the sums of its tables, by file name, and of itself; as it is where no record has sums."""
    if INDEX_SUM not in tables[SLIDES]:
        return dataset
    return sealed(dataset | {"sums": {name: table_sum(table) for name, table in tables.items()}})


def table_sum(table: pd.DataFrame | TileProfiles) -> str:
    """Hex SHA-256 of what a table says, whatever version of Parquet's library wrote it."""
    if isinstance(table, TileProfiles):
        return table.digest()
    return sha256_of([[name, table[name].tolist()] for name in table])


def slides_digest(slides: pd.DataFrame, kind: Kind) -> str:
    """The digest of a set, of its `slides.parquet`: it changes with any tile."""
    shards = list(zip(slides["slide"].tolist(), slides["sha256"].tolist(), strict=True))
    return sha256_of(shards + ([kind.genes_sha256] if isinstance(kind, ProfileKind) else []))


def make_digest(folder: Path, records: list[dict[str, Any]]) -> tuple[dict[str, Any], pd.DataFrame]:
    """What `dataset.json`, before it is sealed, and `slides.parquet` must say of these records, in whatever order they
    come."""
    if not records:
        raise ValueError(f"{folder} holds no finished slide.")
    records = sorted(records, key=lambda record: record["slide"] + RECORD)  # as `read_records` has them
    kind = _the_one_kind(folder, [kind_of_record(folder, record) for record in records])
    reasons = sorted({reason for record in records for reason in record["counts"]})
    columns = ["slide", "status", "tiles", "sha256", "bytes"]
    columns += [INDEX_SUM] if any(INDEX_SUM in record for record in records) else []
    rows = [
        {name: record.get(name) for name in columns} | {reason: record["counts"].get(reason, 0) for reason in reasons}
        for record in records
    ]
    slides = pd.DataFrame(rows)
    dataset = {
        "format": FORMAT,
        "version": VERSION,
        **kind.facts,
        "slides": len(rows),
        "tiles": sum(row["tiles"] for row in rows),
        "digest": slides_digest(slides, kind),
    }
    return dataset, slides


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


def read_joins(
    folder: Path, kind: Kind, records: list[dict[str, Any]]
) -> dict[str, pd.DataFrame] | dict[str, TileProfiles]:
    """What the further tables of a set must say, by file name: those that join its items with profiles.

    Raises as `read_samples` and `read_tile_profiles` do.
    """
    if isinstance(kind, ProfileKind):
        return {SAMPLES: read_samples(folder, records)}
    return {TILE_PROFILES: read_tile_profiles(folder, records)} if kind.own_profiles else {}


def read_tile_profiles(folder: Path, records: list[dict[str, Any]]) -> TileProfiles:
    """What `profiles.parquet` must say of these records of tiles with profiles of their own.

    Raises what `read_parquet` does where an index is damaged, and `ValueError` where it names no profiles.
    """

    def of_slides() -> Iterator[tuple[str, pa.ChunkedArray]]:
        for slide in sorted(record["slide"] for record in records if record["tiles"]):
            index = read_arrow(folder / (slide + INDEX), ["profile"])
            if index.column_names != ["profile"]:
                raise ValueError(f"{folder}/{slide}{INDEX} names no profiles; build into an empty folder.")
            yield slide, index["profile"]

    return TileProfiles.of(of_slides())


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
    tiles = [one for one in (kind, *others) if isinstance(one, TileKind)]
    if len(tiles) > len(others):
        named = "tiles of " + " and ".join(map(name_kind, tiles))
    else:
        named = " and ".join(map(str, (kind, *others)))
    raise ValueError(f"{folder} mixes {named}; build each kind into a folder of its own.")
