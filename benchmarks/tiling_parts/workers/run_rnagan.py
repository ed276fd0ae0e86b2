"""Ours: the whole job of a slide, from finding tissue to the committed record."""

from pathlib import Path
from typing import Any

import pandas as pd
from serving import Request, serve

from rnagan.config.tiling import TilingConfig
from rnagan.slides.tiling import tile_slide


def run(request: Request) -> dict[str, Any]:
    record = tile_slide(Path(request["slide"]), Path(request["out"]), TilingConfig(**request["option"]))
    return {"tiles": record["tiles"], "counts": record["counts"]}


def kept(request: Request) -> dict[str, Any]:
    """Ours once more, to tell the others which tiles were kept: `corners`, row by row."""
    answer = run(request)
    (index,) = Path(request["out"]).glob("*.index.parquet")
    corners = pd.read_parquet(index, columns=["y", "x"]).sort_values(["y", "x"])
    return answer | {"corners": corners[["x", "y"]].to_numpy().tolist()}


if __name__ == "__main__":
    serve(lambda request: kept(request) if request.get("tell") else run(request))
