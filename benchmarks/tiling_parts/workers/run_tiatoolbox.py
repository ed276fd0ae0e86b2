"""tiatoolbox: `read_rect` of each given tile; JPEG of quality 90, 4:4:4, by Pillow into a tar.

`option.reader`: OpenSlideWSIReader or TIFFWSIReader. Its tissue mask is left out, in its favour. A slide of the asked
resolution is read by level, which is faster than by mpp.
"""

import io
import tarfile
from typing import Any

from PIL import Image
from serving import Request, serve
from tiatoolbox.wsicore import wsireader
from tile_tar import add_jpeg


def run(request: Request) -> dict[str, Any]:
    side = request["tile_px"]
    where = {"resolution": 0, "units": "level"} if request["span_px"] == side else {"resolution": 0.5, "units": "mpp"}
    reader = getattr(wsireader, request["option"]["reader"])(request["slide"])
    with tarfile.open(f"{request['out']}/tiles.tar", "w") as tar:
        for x, y in request["tiles"]:
            tile = reader.read_rect((x, y), (side, side), **where)
            assert tile.shape == (side, side, 3)
            jpeg = io.BytesIO()
            Image.fromarray(tile).save(jpeg, "JPEG", quality=90, subsampling=0)
            add_jpeg(tar, x, y, jpeg.getvalue())
    return {"tiles": len(request["tiles"])}


if __name__ == "__main__":
    serve(run)
