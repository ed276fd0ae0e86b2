"""Ours on one slide: the most resident memory that it took above what imports take, as the kernel counted it."""

from pathlib import Path
from typing import Any

from serving import Request, serve

from rnagan.config.tiling import TilingConfig
from rnagan.slides.tiling import tile_slide

_KIB_PER_GIB = 2**20


def _resident_kib(field: str) -> int:
    """`VmRSS` (now) or `VmHWM` (the most so far) of this process."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(f"{field}:")))


def run(request: Request) -> dict[str, Any]:
    before = _resident_kib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the most so far starts again from here
    record = tile_slide(Path(request["slide"]), Path(request["out"]), TilingConfig(**request["option"]))
    gib = (_resident_kib("VmHWM") - before) / _KIB_PER_GIB
    return {"tiles": record["tiles"], "peak_memory_gb": gib, "imports_gb": before / _KIB_PER_GIB}


if __name__ == "__main__":
    serve(run)
