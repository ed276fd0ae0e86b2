"""histolab: `Slide.extract_tile` of each given tile at level 0; JPEG of quality 90, 4:4:4, by Pillow into a tar.

Its grid tiler, with its own mask, score and PNG files, is several times slower: left out, in its favour.
"""

import io
import tarfile
from typing import Any

import openslide_bin  # noqa: F401  (loads the library that histolab's older binding looks for)
from histolab.slide import Slide
from histolab.types import CoordinatePair
from PIL import Image
from serving import Request, serve
from tile_tar import add_jpeg


def run(request: Request) -> dict[str, Any]:
    side, span = request["tile_px"], request["span_px"]
    slide = Slide(request["slide"], processed_path=request["out"])
    with tarfile.open(f"{request['out']}/tiles.tar", "w") as tar:
        for x, y in request["tiles"]:
            image = slide.extract_tile(CoordinatePair(x, y, x + span, y + span), (span, span), level=0).image
            image = image.convert("RGB")
            if span != side:
                image = image.resize((side, side), Image.Resampling.BOX)
            jpeg = io.BytesIO()
            image.save(jpeg, "JPEG", quality=90, subsampling=0)
            add_jpeg(tar, x, y, jpeg.getvalue())
    return {"tiles": len(request["tiles"])}


if __name__ == "__main__":
    serve(run)
