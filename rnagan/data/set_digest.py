"""The digest of a folder of shards: `dataset.json`, and the tables beside it, made from the records and indexes."""

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rnagan.data.manifest import (
    FORMAT,
    INDEX,
    INDEX_SUM,
    RECORD,
    SAMPLES,
    SLIDES,
    TILE_PROFILES,
    VERSION,
    kind_of_record,
    read_records,
    sealed,
)
from rnagan.data.shard_schema import Kind, ProfileKind, TileKind, kind_of, name_kind
from rnagan.data.tile_profiles import TileProfiles
from rnagan.io.files import atomic_path, read_json, sha256_of, write_json
from rnagan.io.parquet import read_arrow, read_parquet


class Dataset(TypedDict):
    """The dataset.json of a set, without what it says of the kind."""

    slides: int
    tiles: int
    digest: str
    sums: NotRequired[dict[str, str]]
    sum: NotRequired[str]


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
