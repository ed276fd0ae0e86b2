"""Writes shards: one tar with its index, committed by its record (format: shards/README.md)."""

import errno
import json
import os
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import Any, Self

from rnagan.cohort.slide_ids import check_shard_name
from rnagan.data.manifest import INDEX, INDEX_SUM, RECORD, TAR, make_record, write_index, write_record
from rnagan.data.shard_schema import IndexRow, ProfileRow, SpotRow
from rnagan.io.disk_errors import CONCERNS_ALL
from rnagan.io.files import name_file, scratch_prefix, sha256_of_file


class ShardWriter:
    """Collects the tiles of one slide, or some profiles of a shard called `slide`.

    Nothing of them is visible before `commit`, whose last act is the record. An earlier shard of that name stays as it
    is until then, even if its tiles can't all be made again.
    """

    def __init__(self, folder: Path | str, slide: str) -> None:
        self.folder, self.slide = Path(folder), check_shard_name(slide)
        self._rows: list[Any] = []  # of one type

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._scratch = tempfile.TemporaryDirectory(prefix=scratch_prefix(), dir=self.folder)
        self._tar = tarfile.open(self._temporary(TAR), "w", format=tarfile.USTAR_FORMAT, encoding="utf-8")
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError) and error.errno in (*CONCERNS_ALL, errno.EFBIG):
            name_file(error, self._path(TAR))
        try:
            self._tar.close()
        except OSError as late:  # what waited didn't fit either
            name_file(late, self._path(TAR))
            raise error or late from None
        finally:
            self._scratch.cleanup()

    @property
    def tiles(self) -> int:
        """Tiles, or profiles, added so far."""
        return len(self._rows)

    def add(
        self, key: str, jpeg: bytes, description: dict[str, Any], x: int = -1, y: int = -1, profile: str | None = None
    ) -> None:
        """Append one sample: `KEY.jpg` and `KEY.json`. x and y are level-0 pixels for the index, -1 where unknown.
        `profile`: the tile's own, where tiles have such; then each must."""
        if profile is not None:
            description = description | {"profile": profile}
        offset = self._append_sample(key, "jpg", jpeg, description)
        row = key, offset, len(jpeg), zlib.crc32(jpeg), x, y
        self._rows.append(IndexRow(*row) if profile is None else SpotRow(*row, profile))

    def add_profile(self, key: str, profile: bytes, sample: str, units: str) -> None:
        """Append one sample: `KEY.npy` (rnagan/data/npy_codec.py) and `KEY.json` with the sample's id."""
        offset = self._append_sample(key, "npy", profile, {"sample": sample, "units": units})
        self._rows.append(ProfileRow(key, offset, len(profile), zlib.crc32(profile), sample))

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
        decide the shard's bytes, among them its kind (rnagan/data/shard_schema.py): tile_px and mpp.
        """
        self._tar.close()
        record = make_record(self.slide, status, self.tiles, counts, source, options, versions)
        if self.tiles:
            tar = self._temporary(TAR)
            write_index(self._temporary(INDEX), self._rows)
            record |= {"sha256": sha256_of_file(tar), "bytes": tar.stat().st_size}
            record[INDEX_SUM] = sha256_of_file(self._temporary(INDEX))
        self._path(RECORD).unlink(missing_ok=True)  # killed from here on, the slide is not taken for finished
        for suffix in (TAR, INDEX):
            if self.tiles:
                os.replace(self._temporary(suffix), self._path(suffix))
            else:
                self._path(suffix).unlink(missing_ok=True)
        return write_record(self.folder, record)

    def _append_sample(self, key: str, extension: str, data: bytes, description: dict[str, Any]) -> int:
        """Where the bytes lie in the tar."""
        assert "." not in key
        offset = self._append(f"{key}.{extension}", data)
        self._append(f"{key}.json", json.dumps(description, allow_nan=False).encode())
        return offset

    def _append(self, name: str, data: bytes) -> int:
        header = tar_header(name, len(data))
        offset = self._tar.offset + len(header)
        padding = bytes(-len(data) % tarfile.BLOCKSIZE)
        self._tar.fileobj.write(b"".join((header, data, padding)))
        self._tar.offset = offset + len(data) + len(padding)
        return offset

    def _path(self, suffix: str) -> Path:
        return self.folder / (self.slide + suffix)

    def _temporary(self, suffix: str) -> Path:
        return Path(self._scratch.name) / (self.slide + suffix)


_HEADER = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)  # time, owner and mode of its defaults: 0, root, 0644
_SIZE, _CHECKSUM = slice(124, 135), slice(148, 156)


def tar_header(name: str, size: int) -> bytes:
    """The header of a plain file of at most 100 bytes of name and 8 GiB: what `TarInfo.tobuf` makes, in a fifth of its
    time, which is a twentieth of a tile's.
    """
    header, encoded = bytearray(_HEADER), name.encode()
    assert len(encoded) <= 100 and size < 8**11
    header[: len(encoded)] = encoded
    header[_SIZE] = b"%011o" % size
    header[_CHECKSUM] = b" " * 8
    header[_CHECKSUM] = b"%06o\0 " % sum(header)
    return bytes(header)
