"""The codec limit: native JPEG tiles in memory, each decoded once; each output tile encoded once; nothing else.

Tries the decoders and encoders that install from the package index and takes the fastest, on tiles of the slide at
hand; options that change pixels (fast DCT, fast upsampling) are not used. Where a slide is twice as fine as asked,
2 × 2 pixels are averaged in between, by OpenCV (exact, the fastest of those tried).
"""

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import imagecodecs
import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray
from serving import Request, serve

QUALITY = 90
TRIED_TILES, TRIED_ROUNDS = 48, 3
ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"  # says that components are RGB

Tile = NDArray[np.uint8]
DECODERS: dict[str, Callable[[bytes], Tile]] = {
    "simplejpeg": lambda data: simplejpeg.decode_jpeg(data, "RGB"),
    "imagecodecs": lambda data: imagecodecs.jpeg8_decode(data),
}
ENCODERS: dict[str, Callable[[Tile], bytes]] = {
    "simplejpeg": lambda tile: simplejpeg.encode_jpeg(tile, QUALITY, "RGB", "444"),
    "imagecodecs": lambda tile: imagecodecs.jpeg8_encode(tile, QUALITY, subsampling="444"),
}
try:
    import turbojpeg

    _turbo = turbojpeg.TurboJPEG()
    DECODERS["PyTurboJPEG"] = lambda data: _turbo.decode(data, turbojpeg.TJPF_RGB)
    ENCODERS["PyTurboJPEG"] = lambda tile: _turbo.encode(tile, QUALITY, turbojpeg.TJPF_RGB, turbojpeg.TJSAMP_444)
except RuntimeError:  # no system library, or one too old
    pass

_chosen: dict[str, tuple[list[bytes], list[Tile], str, str, int]] = {}


def prepare(request: Request) -> tuple[list[bytes], list[Tile], str, str, int]:
    """Native tiles that the given tiles need, output tiles to encode, decoder, encoder, factor of reduction."""
    corners, span, side = request["tiles"], request["span_px"], request["tile_px"]
    with tifffile.TiffFile(request["slide"]) as tiff:
        page, file = tiff.pages[0], tiff.filehandle
        pitch, columns = page.tilewidth, -(-page.imagewidth // page.tilewidth)
        needed = {
            (row, column)
            for x, y in corners
            for row, column in itertools.product(
                range(y // pitch, (y + span - 1) // pitch + 1), range(x // pitch, (x + span - 1) // pitch + 1)
            )
        }
        mark = ADOBE_RGB if page.photometric == tifffile.PHOTOMETRIC.RGB else b""
        natives = []
        for row, column in sorted(needed):
            at = row * columns + column
            file.seek(page.dataoffsets[at])
            data = file.read(page.databytecounts[at])
            natives.append(data[:2] + mark + page.jpegtables[2:-2] + data[2:])
        whole = page.asarray()
    outputs = [whole[y : y + span, x : x + span] for x, y in corners]
    if span != side:
        outputs = [cv2.resize(tile, (side, side), interpolation=cv2.INTER_AREA) for tile in outputs]
    outputs = [np.ascontiguousarray(tile) for tile in outputs]
    some = natives[:: max(1, len(natives) // TRIED_TILES)]
    decoder = min(DECODERS, key=lambda name: microseconds(DECODERS[name], some))
    encoder = min(ENCODERS, key=lambda name: microseconds(ENCODERS[name], outputs[:TRIED_TILES]))
    return natives, outputs, decoder, encoder, span // side


def microseconds(call: Callable[[Any], Any], items: list[Any]) -> float:
    """Median over rounds of the time a call takes."""
    rounds = []
    for _ in range(TRIED_ROUNDS):
        began = time.perf_counter()
        for item in items:
            call(item)
        rounds.append((time.perf_counter() - began) / len(items) * 1e6)
    return statistics.median(rounds)


def run(request: Request) -> dict[str, Any]:
    if request["slide"] not in _chosen:
        _chosen.clear()
        _chosen[request["slide"]] = prepare(request)
    natives, outputs, decoder, encoder, factor = _chosen[request["slide"]]
    decode, encode = DECODERS[decoder], ENCODERS[encoder]
    began = time.perf_counter()
    for data in natives:
        tile = decode(data)
    decoded = time.perf_counter()
    if factor > 1:
        small = (tile.shape[1] // factor, tile.shape[0] // factor)
        for _ in natives:
            cv2.resize(tile, small, interpolation=cv2.INTER_AREA)
    reduced = time.perf_counter()
    for tile in outputs:
        encode(tile)
    ended = time.perf_counter()
    count = len(outputs)
    return {
        "seconds": ended - began,
        "tiles": count,
        "native_tiles": len(natives),
        "decoder": decoder,
        "encoder": encoder,
        "decode_us_per_tile": (decoded - began) / count * 1e6,
        "reduce_us_per_tile": (reduced - decoded) / count * 1e6,
        "encode_us_per_tile": (ended - reduced) / count * 1e6,
    }


if __name__ == "__main__":
    cv2.setNumThreads(1)
    serve(run)
