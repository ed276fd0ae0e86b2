"""The slides of the benchmark, made once into a cache folder."""

import dataclasses
from pathlib import Path

import numpy as np
from shared import texture

from . import aperio

GLASS_SHARE = 0.25
HUGE_GLASS_SHARE = 0.5
REAL = Path("slides") / "CMU-1-Small-Region.svs"


@dataclasses.dataclass(frozen=True)
class Slides:
    """Paths; `real` is None where the real slide is absent. `texture` is `real tiles` or `simulated`."""

    synthetic: Path
    synthetic_40x: Path
    real: Path | None
    texture: str


def make(cache: Path, data: Path, width_px: int, height_px: int) -> Slides:
    """The same content at 0.5 and at 0.25 µm, and the real slide of `data`. Width and height are at 0.5 µm."""
    kind = "real" if texture.has_real(data) else "simulated"
    at_20x, at_40x = (cache / f"synthetic-{kind}-{width_px}x{height_px}-{power}.svs" for power in ("20x", "40x"))
    if not (at_20x.is_file() and at_40x.is_file()):
        pixels = texture.generate(width_px, height_px, GLASS_SHARE, data, np.random.default_rng(0))
        aperio.write_pixels(at_20x, pixels, 0.5)
        aperio.write_pixels(at_40x, pixels, 0.25, enlarge=2)
    real = data / REAL
    return Slides(at_20x, at_40x, real if real.is_file() else None, f"{kind} tiles")


def make_huge(cache: Path, data: Path, times: int) -> Path:
    """A slide of 1,000 × 800 px times so much, at 0.25 µm, of tiles that repeat."""
    path = cache / f"huge-{times}-40x.svs"
    if not path.is_file():
        size = (1000 * times, 800 * times)
        aperio.write_repeated(path, size, 0.25, HUGE_GLASS_SHARE, data, np.random.default_rng(0))
    return path
