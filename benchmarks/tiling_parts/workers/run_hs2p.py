"""hs2p: reads the given tiles in blocks of up to 8 × 8 and writes a tar of JPEGs, as `extract_tiles_to_tar` does.

Its own search for tissue and its filters are left out, in its favour. JPEG of quality 90 by libturbojpeg; it always
halves chroma, which is a third less work: `option.same_jpeg` makes it encode 4:4:4 as the others do, by changing the
constant that it passes on. `option.backend`: openslide, tifffile or vips.
"""

from pathlib import Path
from typing import Any

import numpy as np
import turbojpeg
from hs2p.api import extract_tiles_to_tar
from hs2p.tiling.result import TileGeometry, TilingResult
from hs2p.wsi.backend import open_slide
from serving import Request, serve

HALVED = turbojpeg.TJSAMP_420


def run(request: Request) -> dict[str, Any]:
    turbojpeg.TJSAMP_420 = turbojpeg.TJSAMP_444 if request["option"].get("same_jpeg") else HALVED
    backend = request["option"]["backend"]
    path = Path(request["slide"])
    if backend == "tifffile":  # it goes by the file's name
        path = Path(request["out"]) / f"{path.stem}.tif"
        path.symlink_to(request["slide"])
    corners = np.asarray(request["tiles"], np.int64)
    with open_slide(path, backend, spacing_override=request["mpp"]) as slide:
        dimensions, downsamples = list(slide.dimensions), [float(x) for x, _ in slide.level_downsamples]
    result = TilingResult(
        tiles=TileGeometry(
            x=corners[:, 0],
            y=corners[:, 1],
            tissue_fractions=np.ones(len(corners)),
            requested_tile_size_px=request["tile_px"],
            requested_spacing_um=0.5,
            read_level=0,
            read_tile_size_px=request["span_px"],
            read_spacing_um=request["mpp"],
            tile_size_lv0=request["span_px"],
            is_within_tolerance=request["span_px"] == request["tile_px"],
            base_spacing_um=request["mpp"],
            slide_dimensions=dimensions,
            level_downsamples=downsamples,
            overlap=0.0,
            min_tissue_fraction=0.4,
        ),
        sample_id=path.stem,
        image_path=path,
        backend=backend,
        requested_backend=backend,
        tolerance=0.05,
        step_px_lv0=request["span_px"],
        tissue_method="given",
        requested_seg_downsample=16,
        seg_downsample=16,
        seg_level=0,
        seg_spacing_um=8.0,
        seg_sthresh=None,
        seg_sthresh_up=None,
        seg_mthresh=None,
        seg_close=None,
        ref_tile_size_px=request["tile_px"],
        a_t=0.0,
        a_h=0.0,
        filter_white=False,
        filter_black=False,
        white_threshold=255,
        black_threshold=0,
        fraction_threshold=1.0,
    )
    _, result = extract_tiles_to_tar(
        result, Path(request["out"]), jpeg_quality=90, jpeg_backend="turbojpeg", num_workers=1
    )
    return {"tiles": result.num_tiles}


if __name__ == "__main__":
    serve(run)
