"""What workers of the tiling benchmark share; it runs in the environments of the peers, so it needs nothing but Python.

A request has `slide` (path), `tiles` (level-0 corners), `tile_px`, `span_px` (level-0 pixels that a tile spans), `mpp`
(of the slide) and `option` (what else the contender takes). The answer has `tiles`. A `core_share` well below 1 says
that somebody else had the core.
"""

import tarfile
from io import BytesIO


def add_jpeg(tar: tarfile.TarFile, x: int, y: int, jpeg: bytes) -> None:
    """Append one tile."""
    member = tarfile.TarInfo(f"{x}_{y}.jpg")
    member.size = len(jpeg)
    tar.addfile(member, BytesIO(jpeg))
