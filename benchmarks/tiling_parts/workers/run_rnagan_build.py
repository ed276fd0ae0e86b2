"""Ours over several slides: `tile_slides` with the asked number of processes on this machine."""

from pathlib import Path
from typing import Any

from serving import Request, serve

from rnagan.config.tiling import TilingConfig
from rnagan.data.build_jobs import BuildOptions
from rnagan.runtime.workers import Workers
from rnagan.slides.sources import SlideSource
from rnagan.slides.tiling import tile_slides


def run(request: Request) -> dict[str, Any]:
    sources = [SlideSource(Path(slide)) for slide in request["slides"]]
    how = BuildOptions(workers=Workers(processes=request["processes"]))
    summary = tile_slides(sources, Path(request["out"]), TilingConfig(), how, qc=False)
    if summary.failures:
        raise ValueError(str(summary.failures))
    return {"tiles": summary.tiles}


if __name__ == "__main__":
    serve(run)
