"""Writes small whole-slide images in DICOM: one series, a file for each level, uncompressed."""

import struct
from pathlib import Path

import numpy as np

_VL_WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_SIDE = 32  # px of a frame


def write_dicom_slide(
    folder: Path, series: str, files: int = 2, image: np.ndarray | None = None, mpp: float = 0.5
) -> list[Path]:
    """`files` levels of an RGB image, each half of the one before, as DCM_0, DCM_1, … without an extension."""
    image = np.full((128, 192, 3), 120, np.uint8) if image is None else image
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for n in range(files):
        paths.append(folder / f"DCM_{n}")
        paths[-1].write_bytes(_file(image, series, f"{series}.{n}", mpp * 2**n, n))
        height, width = (side // 2 * 2 for side in image.shape[:2])
        image = image[:height, :width].reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3)).round().astype(np.uint8)
    return paths


def _file(image: np.ndarray, series: str, instance: str, mpp: float, number: int) -> bytes:
    height, width = image.shape[:2]
    rows, columns = -(-height // _SIDE), -(-width // _SIDE)
    padded = np.zeros((rows * _SIDE, columns * _SIDE, 3), np.uint8)
    padded[:height, :width] = image
    frames = padded.reshape(rows, _SIDE, columns, _SIDE, 3).swapaxes(1, 2)
    meta = b"".join(
        [
            _element(0x0002, 0x0001, "OB", b"\x00\x01"),
            _element(0x0002, 0x0002, "UI", _VL_WHOLE_SLIDE),
            _element(0x0002, 0x0003, "UI", instance),
            _element(0x0002, 0x0010, "UI", _EXPLICIT_LITTLE_ENDIAN),
            _element(0x0002, 0x0012, "UI", "1.2.3"),
        ]
    )
    spacing = _element(0x0028, 0x0030, "DS", f"{mpp / 1000:.8f}\\{mpp / 1000:.8f}")
    dataset = b"".join(
        [
            _element(0x0008, 0x0008, "CS", f"{'DERIVED' if number else 'ORIGINAL'}\\PRIMARY\\VOLUME\\NONE"),
            _element(0x0008, 0x0016, "UI", _VL_WHOLE_SLIDE),
            _element(0x0008, 0x0018, "UI", instance),
            _element(0x0008, 0x0060, "CS", "SM"),
            _element(0x0020, 0x000D, "UI", "1.2.77"),
            _element(0x0020, 0x000E, "UI", series),
            _element(0x0020, 0x0013, "IS", str(number + 1)),
            _element(0x0020, 0x9311, "CS", "TILED_FULL"),
            _element(0x0028, 0x0002, "US", struct.pack("<H", 3)),
            _element(0x0028, 0x0004, "CS", "RGB"),
            _element(0x0028, 0x0006, "US", struct.pack("<H", 0)),
            _element(0x0028, 0x0008, "IS", str(rows * columns)),
            _element(0x0028, 0x0010, "US", struct.pack("<H", _SIDE)),
            _element(0x0028, 0x0011, "US", struct.pack("<H", _SIDE)),
            _element(0x0028, 0x0100, "US", struct.pack("<H", 8)),
            _element(0x0028, 0x0101, "US", struct.pack("<H", 8)),
            _element(0x0028, 0x0102, "US", struct.pack("<H", 7)),
            _element(0x0028, 0x0103, "US", struct.pack("<H", 0)),
            _element(0x0048, 0x0006, "UL", struct.pack("<L", width)),
            _element(0x0048, 0x0007, "UL", struct.pack("<L", height)),
            _element(0x5200, 0x9229, "SQ", _item(_element(0x0028, 0x9110, "SQ", _item(spacing)))),
            _element(0x7FE0, 0x0010, "OB", frames.tobytes()),
        ]
    )
    length = _element(0x0002, 0x0000, "UL", struct.pack("<L", len(meta)))
    return bytes(128) + b"DICM" + length + meta + dataset


def _element(group: int, element: int, kind: str, value: bytes | str) -> bytes:
    data = value.encode("ascii") if isinstance(value, str) else value
    data += (b"\x00" if kind in ("UI", "OB") else b" ") * (len(data) % 2)
    head = struct.pack("<HH", group, element) + kind.encode("ascii")
    long = kind in ("OB", "SQ")
    return head + (b"\x00\x00" + struct.pack("<L", len(data)) if long else struct.pack("<H", len(data))) + data


def _item(content: bytes) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content
