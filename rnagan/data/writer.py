"""Writes shards: one tar a slide with its index, committed by its record, and the digest of a folder of them.

The format is specified in shards/README.md.
"""

import io
import json
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rnagan import __version__
from rnagan.cohort import check_shard_name
from rnagan.files import atomic_path, read_json, sha256_of, sha256_of_file, write_json

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


class ShardWriter:
    """Collects the tiles of one slide; nothing of them is visible before `commit`, whose last act is the record.

    The slide's earlier shard stays as it is until then, also where its tiles can't all be made again.
    """

    def __init__(self, folder: Path | str, slide: str) -> None:
        self.folder, self.slide = Path(folder), check_shard_name(slide)
        self._rows: list[tuple[str, int, int, int, int, int]] = []

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._scratch = tempfile.TemporaryDirectory(prefix=".tmp-", dir=self.folder)
        self._tar = tarfile.open(self._temporary(TAR), "w", format=tarfile.USTAR_FORMAT, encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()
        self._scratch.cleanup()

    @property
    def tiles(self) -> int:
        """Tiles added so far."""
        return len(self._rows)

    def add(self, key: str, jpeg: bytes, description: dict[str, Any], x: int = -1, y: int = -1) -> None:
        """Append one sample: `KEY.jpg` and `KEY.json`. x and y are level-0 pixels for the index, -1 where unknown."""
        assert "." not in key
        offset = self._append(f"{key}.jpg", jpeg)
        self._append(f"{key}.json", json.dumps(description, allow_nan=False).encode())
        self._rows.append((key, offset, len(jpeg), zlib.crc32(jpeg), x, y))

    def commit(
        self,
        status: str,
        counts: dict[str, int],
        source: dict[str, Any],
        options: dict[str, Any],
        versions: dict[str, str],
    ) -> dict[str, Any]:
        """Put tar, index and record in place, in this order, and return the record. Without tiles: the record alone.

        `counts`: candidates left out, by reason. `source`: what identifies the slide. `options`: all settings that
        decide the shard's bytes, among them tile_px and mpp.
        """
        self._tar.close()
        record = {
            "format": RECORD_FORMAT,
            "version": VERSION,
            "slide": self.slide,
            "status": status,
            "tiles": self.tiles,
            "counts": counts,
            "sha256": None,
            "bytes": 0,
            "source": source,
            "options": options,
            "options_digest": sha256_of(options),
            "versions": {"rnagan": __version__, **versions},
        }
        if self.tiles:
            tar = self._temporary(TAR)
            record |= {"sha256": sha256_of_file(tar), "bytes": tar.stat().st_size}
            index = pa.table(list(map(list, zip(*self._rows, strict=True))), schema=_INDEX_SCHEMA)
            pq.write_table(index, self._temporary(INDEX))
        self._path(RECORD).unlink(missing_ok=True)  # killed from here on, the slide is not taken for finished
        for suffix in (TAR, INDEX):
            if self.tiles:
                os.replace(self._temporary(suffix), self._path(suffix))
            else:
                self._path(suffix).unlink(missing_ok=True)
        write_json(self._path(RECORD), record)
        return record

    def _append(self, name: str, data: bytes) -> int:
        member = tarfile.TarInfo(name)  # time, owner and mode are fixed by TarInfo's defaults: 0, root, 0644
        member.size = len(data)
        offset = self._tar.offset + tarfile.BLOCKSIZE
        self._tar.addfile(member, io.BytesIO(data))
        return offset

    def _path(self, suffix: str) -> Path:
        return self.folder / (self.slide + suffix)

    def _temporary(self, suffix: str) -> Path:
        return Path(self._scratch.name) / (self.slide + suffix)


def read_records(folder: Path | str) -> Iterator[dict[str, Any]]:
    """The records of all committed slides of a folder, by name. A file that is no record raises `ValueError`."""
    for path in sorted(Path(folder).glob("*" + RECORD)):
        record = read_json(path)
        if not isinstance(record, dict) or (record.get("format"), record.get("version")) != (RECORD_FORMAT, VERSION):
            raise ValueError(f"{path} is no record of version {VERSION}; delete it and build its slide again.")
        yield record


def write_digest(folder: Path | str) -> dict[str, Any]:
    """Write `slides.parquet` and `dataset.json` from the records of a folder, and return the latter.

    Refuses records that differ in tile_px or mpp: they can't be read as one set.
    """
    folder, records = Path(folder), list(read_records(folder))
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
    with atomic_path(folder / "slides.parquet") as temporary:
        pd.DataFrame(rows).to_parquet(temporary, index=False)
    write_json(folder / "dataset.json", dataset)
    return dataset


def name_kind(tile_px: int, mpp: float | None) -> str:
    """`256 px at 0.5 µm`, for messages."""
    return f"{tile_px} px at {mpp or 'unknown'} µm"
