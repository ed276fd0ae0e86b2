"""Zarr stores of strangers: their metadata name the codecs that decode arrays, and not every codec is harmless."""

import os
from pathlib import Path
from typing import Any

from rnagan.io.files import read_json
from rnagan.io.tables import first_few

METADATA = ("zarr.json", ".zarray", ".zgroup", ".zmetadata")
# Whatever else a store names could run code, as the codec pickle does.
_CODECS = frozenset(
    {
        *("blosc", "zstd", "gzip", "zlib", "lz4", "lzma", "bz2", "bytes", "transpose", "crc32c", "crc32"),
        *("sharding_indexed", "endian", "shuffle", "bitround", "delta", "fixedscaleoffset", "packbits"),
        *("vlen-utf8", "vlen-bytes", "vlen-array", "string"),
        *("numcodecs.blosc", "numcodecs.zstd", "numcodecs.lz4", "numcodecs.zlib", "numcodecs.gzip"),
    }
)


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr group or array, of version 2 or 3."""
    return path.is_dir() and any((path / name).is_file() for name in METADATA)


def check_codecs(path: Path) -> None:
    """Refuse a store whose arrays name a codec that isn't known, with `ValueError`; and one with a link to a folder,
    which Zarr would follow out of what is checked."""
    for folder, folders, names in os.walk(path):
        for name in folders:
            if (linked := Path(folder, name)).is_symlink():
                raise ValueError(f"{linked} is a link; put the folder itself into the store.")
        for file in (Path(folder, name) for name in METADATA if name in names):
            strange = sorted(set(_codecs_in(read_json(file, dict[str, Any]))) - _CODECS)
            if strange:
                raise ValueError(
                    f"{file} names the codec {first_few(strange)}, which isn't among those that are read; write the "
                    "store anew with a common one, such as zstd."
                )


def _codecs_in(metadata: Any) -> list[str]:
    """All codecs that a piece of Zarr's metadata, of version 2 or 3, names."""
    found: list[str] = []
    if isinstance(metadata, dict):
        for key, value in metadata.items():
            if key in ("codecs", "index_codecs", "filters", "compressor", "compressors"):
                each = value if isinstance(value, list) else [value]
                found += [str(one.get("name", one.get("id"))) for one in each if isinstance(one, dict)]
            found += _codecs_in(value)
    elif isinstance(metadata, list):
        for value in metadata:
            found += _codecs_in(value)
    return found
