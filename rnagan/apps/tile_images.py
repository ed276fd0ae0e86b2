"""Tiles as they are served: equal PNG settings, sides and lengths in bytes, no metadata, so that only pixels differ."""

import hashlib
import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Tile = NDArray[np.uint8]

MAX_SIDE_PX = 1024
_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_CHUNK = 12  # bytes of a chunk around its data
_PADDING = b"zpAd"  # ancillary, private: every reader of PNG passes over it


def encode_alike(tiles: list[Tile]) -> list[bytes]:
    """PNGs of tiles (H, W, 3) uint8 of one size, all of one length in bytes, with nothing but pixels in them.

    How well a picture packs would say whether it is generated, so each is filled up to the longest.
    """
    sizes = {tile.shape for tile in tiles}
    assert len(sizes) == 1, f"tiles of different sizes: {sizes}"
    plain = [_encode(tile) for tile in tiles]
    length = max(map(len, plain)) + _CHUNK
    return [_filled(data, length) for data in plain]


def _encode(tile: Tile) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(tile)).save(buffer, format="PNG", compress_level=6, optimize=False)
    data = buffer.getvalue()
    assert data.endswith(_END)
    return data


def _filled(data: bytes, length: int) -> bytes:
    """`data` with a chunk of zeros before its end that makes it `length` bytes long."""
    zeros = bytes(length - len(data) - _CHUNK)
    crc = zlib.crc32(_PADDING + zeros)
    return data[: -len(_END)] + struct.pack(">I", len(zeros)) + _PADDING + zeros + struct.pack(">I", crc) + _END


def digest(data: bytes) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(data).hexdigest()
