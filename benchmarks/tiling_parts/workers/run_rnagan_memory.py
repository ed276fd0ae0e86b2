"""Ours on one slide: the most resident memory that it took above what imports take, as the kernel counted it."""

from pathlib import Path
from typing import Any

from memory import peak_gb, start_counting
from serving import Request, serve

from rnagan.config.tiling import TilingConfig
from rnagan.slides.tiling import tile_slide


def run(request: Request) -> dict[str, Any]:
    start_counting()
    record = tile_slide(Path(request["slide"]), Path(request["out"]), TilingConfig(**request["option"]))
    return {"tiles": record["tiles"], "peak_memory_gb": peak_gb()}


if __name__ == "__main__":
    serve(run)
