"""Opens a folder of shards: which slides it holds, how many tiles each has, and where each tile lies in its tar.

In a set of profiles (rnagan/data/profile_shards.py) a slide is a shard, and its tiles are profiles.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from rnagan.cohort.slide_ids import check_shard_name
from rnagan.data.manifest import FORMAT, INDEX, INDEX_SUM, RECORD, SLIDES, TAR, TILE_PROFILES, VERSION, sealed
from rnagan.data.set_digest import Dataset, slides_digest, table_sum
from rnagan.data.shard_schema import Kind, TileKind, kind_of
from rnagan.data.storage import Storage, open_storage
from rnagan.data.tile_profiles import TileProfiles, places_among
from rnagan.io.json_values import check_json, parse_json
from rnagan.io.parquet import read_arrow

MAX_IMAGE_BYTES = 1 << 26
T = TypeVar("T")
_REPAIR = "mend it with rnagan check-shards --repair"


class DamagedShard(ValueError):  # noqa: N818
    """A tar or its index isn't there, or isn't what its record says."""


class Locations(NamedTuple):
    """Where the images of a slide lie in its tar, in stored order."""

    offset: NDArray[np.int64]  # bytes
    size: NDArray[np.int32]  # bytes
    crc32: NDArray[np.uint32]


@dataclasses.dataclass(frozen=True)
class Shards:
    """A folder of shards of any kind.

    `slides`: one row a slide, with slide, status, tiles, sha256, bytes, index_sha256 (but in sets of earlier versions)
    and a count for each reason why tiles were left out. `digest` changes with any tile. `sums`: of tables by file name.
    """

    storage: Storage
    slides: pd.DataFrame
    digest: str
    sums: Mapping[str, str] = dataclasses.field(default_factory=dict, kw_only=True)

    script: ClassVar[str] = "rnagan build-tiles"  # what makes such shards

    @property
    def address(self) -> str:
        """Where it lies, for messages: a path or a URL."""
        return self.storage.address

    def tar_address(self, slide: str) -> str:
        """Where the tar of a slide lies, for messages."""
        return f"{self.address}/{tar_name(slide)}"

    def tiles_of(self, slide: str) -> int:
        """Number of tiles of a slide."""
        return self._rows[slide][0]

    def index(self, slide: str) -> pd.DataFrame:
        """Tiles of a slide in stored order: key, offset and size (bytes) of the JPEG in the tar, crc32, x, y;
        of profiles: key, offset and size of the .npy, crc32, sample.

        A tar or an index that is missing or damaged raises `DamagedShard`.
        """
        return _frame(self._read_index_table(slide, None))

    def locations(self, slide: str, count: int | None = None) -> Locations:
        """Where the first `count` tiles of a slide (all of them: None) lie, with the errors of `index`."""
        return self._located(slide, self._read_index_table(slide, list(Locations._fields)), count)

    def _located(self, slide: str, index: pa.Table, count: int | None = None) -> Locations:
        """Where the first `count` tiles of a slide's index lie, checked."""
        offset, size, crc32 = (np.array(index[name].slice(0, count)) for name in Locations._fields)
        ends = offset + size
        if len(offset) and (offset.min() < 0 or not 0 < size.min() <= size.max() <= MAX_IMAGE_BYTES):
            raise DamagedShard(f"{self.address}/{_index_name(slide)} holds impossible offsets; {_REPAIR}.")
        if len(offset) and ends.max() > self._rows[slide][1]:
            raise DamagedShard(f"{self.address}/{_index_name(slide)} points beyond the end of its tar; {_REPAIR}.")
        return Locations(offset, size.astype(np.int32), crc32)

    def _read_index_table(self, slide: str, columns: list[str] | None) -> pa.Table:
        tar, name = tar_name(slide), _index_name(slide)
        if slide not in self._rows:
            raise ValueError(f"{self.address} has no slide {slide}.")
        tiles, expected, index_sum = self._rows[slide]
        try:
            complete = self.storage.size(tar) == expected
            if not complete:  # a remote folder keeps sizes, and one may have come wrong
                self.storage.read_again(tar, 0, 0)
                complete = self.storage.size(tar) == expected
        except FileNotFoundError:
            complete = False
        if not complete:
            raise DamagedShard(
                f"{self.address}/{tar} is missing or truncated ({expected:,} bytes expected); "
                f"{_build_again(self.script)}."
            )
        index = _read_table(self.storage, name, columns, self.script, index_sum)
        if len(index) != tiles:
            raise DamagedShard(f"{self.address}/{name} does not belong to its tar; {_build_again(self.script)}.")
        return index

    def _read_table(self, name: str) -> pd.DataFrame:
        return _frame(_read_table(self.storage, name, None, self.script))

    @functools.cached_property
    def _rows(self) -> dict[str, tuple[int, int, str | None]]:
        """Tiles and bytes of each slide, and the sum of its index."""
        index_sums = self.slides[INDEX_SUM].tolist() if INDEX_SUM in self.slides else [None] * len(self.slides)
        columns = (self.slides[name].tolist() for name in ("slide", "tiles", "bytes"))
        rows = zip(*columns, index_sums, strict=True)
        return {slide: (tiles, size, index_sum) for slide, tiles, size, index_sum in rows}


@dataclasses.dataclass(frozen=True)
class ShardSet(Shards):
    """A folder of tiles, one shard a slide. `mpp` is None where the resolution of the tiles isn't known. `margin_px`:
    of the stored images, beyond the tile on each side.

    `profiles`: which the tiles have, where they have profiles of their own; None where a slide has one profile, which
    the cohort table says.
    """

    tile_px: int
    mpp: float | None
    profiles: TileProfiles | None = None
    margin_px: int = 0

    def mpp_at(self, resolution: int) -> float | None:
        """Resolution of a tile, µm per px, when it is shrunk to `resolution` px."""
        return None if self.mpp is None else self.mpp * self.tile_px / resolution

    def stored(self, rows: pd.DataFrame) -> NDArray[np.int64]:
        """Tiles of each row's slide, or of its slide and sample where tiles have profiles of their own; 0 where there
        are none, (rows,). `rows`: slide, and sample, of a cohort table."""
        if self.profiles is None:
            return rows["slide"].map(self.slides.set_index("slide")["tiles"]).fillna(0).to_numpy(np.int64)
        at = self.profiles.rows(rows["slide"], rows["sample"])
        return np.where(at < 0, 0, np.append(self.profiles.tiles, 0)[at]).astype(np.int64)

    def profiles_of_tiles(self, slide: str) -> tuple[NDArray[np.int32], Locations]:
        """Of the tiles of a slide, in stored order, the number of each one's profile among those that `profiles` lists
        of the slide, (tiles,), -1 where it lists it not, and where they lie; with the errors of `index`."""
        assert self.profiles is not None
        index = self._read_index_table(slide, [*Locations._fields, "profile"])
        return places_among(index["profile"], self.profiles.of_slide(slide)[1]), self._located(slide, index)


def tar_name(slide: str) -> str:
    """File name of a slide's tar; a name that could lead out of the folder is refused."""
    return check_shard_name(slide) + TAR


def _index_name(slide: str) -> str:
    return check_shard_name(slide) + INDEX


def open_dataset(address: Path | str) -> ShardSet:
    """Open a folder of shards made by rnagan build-tiles; `ValueError` or `FileNotFoundError` where it isn't one."""
    shards, kind = open_shards(address, ShardSet.script)
    if not isinstance(kind, TileKind):
        raise ValueError(f"{shards.address} holds {kind}; a folder of tiles is wanted.")
    opened = ShardSet(
        shards.storage,
        shards.slides,
        shards.digest,
        kind.tile_px,
        kind.mpp,
        margin_px=kind.margin_px,
        sums=shards.sums,
    )
    return dataclasses.replace(opened, profiles=_read_profiles(opened)) if kind.own_profiles else opened


def _read_profiles(shards: ShardSet) -> TileProfiles:
    """`profiles.parquet` of a set of tiles with profiles of their own, found as it was written."""
    most = int(shards.slides["tiles"].sum())
    profiles = _read(
        shards.storage,
        TILE_PROFILES,
        shards.script,
        lambda data: TileProfiles.read(pa.BufferReader(data), len(data), most),
    )
    _check_sum(shards.address, TILE_PROFILES, profiles, shards.sums, _REPAIR)
    return profiles


def open_shards(address: Path | str, script: str) -> tuple[Shards, Kind]:
    """Open a folder of shards of any kind; `script`, which makes such as are wanted, is named in errors."""
    storage = open_storage(address)
    dataset, again = _read_dataset(storage, script), _build_again(script)
    if not isinstance(dataset, dict) or dataset.get("format") != FORMAT:
        raise ValueError(f"{storage.address}/dataset.json does not describe shards of this project.")
    if dataset.get("version") != VERSION:
        version = dataset.get("version")
        raise ValueError(
            f"{storage.address} has shards of version {version}, and this program reads version {VERSION}."
        )
    check_json(dataset, Dataset, f"{storage.address}/dataset.json")
    slides = _frame(_read_table(storage, SLIDES, None, script))
    if not {"slide", "status", "tiles", "sha256", "bytes"} <= set(slides) or slides["tiles"].dtype.kind not in "iu":
        raise DamagedShard(f"{storage.address}/{SLIDES} isn't the table of a set of shards; {again}.")
    if len(slides) != dataset["slides"] or int(slides["tiles"].sum()) != dataset["tiles"]:
        raise ValueError(f"{storage.address}: dataset.json and slides.parquet disagree; {again}.")
    for slide in slides["slide"]:
        check_shard_name(slide)
    try:
        kind = kind_of(dataset)
    except ValueError:
        raise ValueError(f"{storage.address}/dataset.json doesn't say what its shards hold; {again}.") from None
    sums = _check_sums(storage, dataset, slides, kind, script)
    _check_records(storage, slides["slide"].tolist(), kind, summed=bool(sums), script=script)
    storage.use_generation(dataset["digest"])
    return Shards(storage, slides, dataset["digest"], sums=sums), kind


def _check_sums(
    storage: Storage, dataset: dict[str, Any], slides: pd.DataFrame, kind: Kind, script: str
) -> dict[str, str]:
    """The sums of the set's tables, after `dataset.json` and `slides.parquet` were found as they were written.

    Sets of earlier versions have no sums, {}: there only the digest can be compared.
    """
    again = _build_again(script)
    if INDEX_SUM not in slides and "sum" not in dataset:
        if dataset.get("digest") != slides_digest(slides, kind):
            raise ValueError(f"{storage.address}: dataset.json and slides.parquet disagree; {again}.")
        return {}
    if sealed(dataset) != dataset:
        raise ValueError(f"{storage.address}/dataset.json was changed after it was written (its sum differs); {again}.")
    sums = dataset.get("sums", {})
    _check_sum(storage.address, SLIDES, slides, sums, again)
    return sums


def _check_sum(
    address: str, name: str, table: pd.DataFrame | TileProfiles, sums: Mapping[str, str], remedy: str
) -> None:
    """Refuse a table of a set, of this name, that is another than its sum in `dataset.json` says."""
    if sums.get(name) != table_sum(table):
        raise DamagedShard(
            f"{address}/{name} is not the table that dataset.json was written with (sha256 differs); {remedy}."
        )


def _check_records(storage: Storage, slides: list[str], kind: Kind, summed: bool, script: str) -> None:
    """Whether the folder holds the records of its slides and of no others; and, where sums don't say it, of this kind.

    A folder that can't be listed isn't looked into.
    """
    names = storage.names()
    if names is None:
        return
    there, again = {name.removesuffix(RECORD) for name in names if name.endswith(RECORD)}, _build_again(script)
    for slide in sorted(set(slides) - there):
        raise DamagedShard(
            f"{storage.address}/{slide}{RECORD} is missing, and dataset.json counts its {kind.shard}; {again}."
        )
    for slide in sorted(there - set(slides)):
        raise DamagedShard(
            f"{storage.address}/dataset.json doesn't count {slide}{RECORD}: a build goes on or was stopped; when none "
            f"runs, {again}."
        )
    if not summed and slides and not _is_of_kind(storage.read_file(slides[0] + RECORD), kind):
        raise ValueError(f"{storage.address}/dataset.json and {slides[0]}{RECORD} disagree; {again}.")


def _is_of_kind(record: bytes, kind: Kind) -> bool:
    try:
        return kind_of(parse_json(record)["options"]) == kind
    except (ValueError, KeyError, TypeError):
        return False


def _build_again(script: str) -> str:
    return f"run {script} again, it makes what is missing"


def _read_dataset(storage: Storage, script: str) -> Any:
    try:
        return parse_json(storage.read_file("dataset.json"))
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"{storage.address} is no finished folder of shards (no dataset.json); make one with {script}."
        ) from None
    except ValueError as error:
        raise ValueError(
            f"{storage.address}/dataset.json is not valid JSON ({error}); {_build_again(script)}."
        ) from None


def _read_table(
    storage: Storage, name: str, columns: list[str] | None, script: str, sum_of_file: str | None = None
) -> pa.Table:
    """A table of the folder; `sum_of_file`: its hex SHA-256, where a record vouches for it."""
    return _read(storage, name, script, lambda data: read_arrow(pa.BufferReader(data), columns), sum_of_file)


def _frame(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas(use_threads=False, ignore_metadata=True)


def _read(storage: Storage, name: str, script: str, parse: Callable[[bytes], T], sum_of_file: str | None = None) -> T:
    """What `parse` makes of a file of the folder that is a Parquet table."""
    try:
        data = storage.read_file(name)
        if sum_of_file is not None and hashlib.sha256(data).hexdigest() != sum_of_file:
            data = storage.read_file_again(name)
            if hashlib.sha256(data).hexdigest() != sum_of_file:
                raise _BrokenTable("it is not the file that its record vouches for")
        return _parsed(data, parse)
    except (FileNotFoundError, pa.ArrowException, KeyError, _BrokenTable) as error:
        reason = (str(error).splitlines() or ["empty"])[0]
        raise DamagedShard(
            f"{storage.address}/{name} is missing or damaged ({reason}); {_build_again(script)}."
        ) from None


class _BrokenTable(ValueError):  # noqa: N818
    """Bytes that are no Parquet table."""


def _parsed(data: bytes, parse: Callable[[bytes], T]) -> T:
    try:
        return parse(data)
    except OSError as error:  # not the network's: the table's own sums differ
        raise _BrokenTable(str(error)) from None
