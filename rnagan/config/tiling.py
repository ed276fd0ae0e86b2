"""Settings of tiling: slides to tiles."""

import dataclasses

from rnagan.config.base import Config, setting
from rnagan.io.bounds import MAX_SEED


@dataclasses.dataclass(frozen=True)
class TilingConfig(Config):
    """Slides to tiles (paper: STAR Methods, WSI data preprocessing)."""

    tile_px: int = setting(256, "width and height of a stored tile, px (article: 256)", low=16, high=4096)
    mpp: float = setting(0.5, "resolution of a stored tile, µm per px (article: 0.5, 20×)", low=0.05, high=32.0)
    max_tiles: int = setting(4000, "tiles kept of a slide at most (article: 4000)", low=1)
    max_background: float = setting(
        0.6, "a tile with a larger share of background is dropped (article: 0.6)", low=0.0, high=1.0
    )
    min_contrast: float = setting(
        0.05,
        "a tile whose 1st to 99th grey percentile spans less of the range is dropped (article: 'low contrast')",
        low=0.0,
        high=1.0,
    )
    min_sharpness: float = setting(
        20.0,
        "a tile whose steepest hundredth bends less within 2 px is out of focus and dropped, grey levels",
        low=0.0,
        high=255.0,
    )
    thumbnail_mpp: float = setting(8.0, "resolution at which tissue is found, µm per px", low=0.25, high=64.0)
    otsu_low: float = setting(
        12.0,
        "lowest Otsu threshold of chroma (largest less smallest colour channel, 0 to 255); glass lies below",
        low=0.0,
        high=255.0,
    )
    otsu_high: float = setting(
        20.0, "highest Otsu threshold of chroma (0 to 255); pale tissue lies above", low=0.0, high=255.0
    )
    glass_level: float = setting(
        160.0, "colours are balanced by the glass where it is at least this bright, grey level", low=0.0, high=255.0
    )
    ink: bool = setting(True, "pen marks, glue, dirt and black areas are no tissue")
    max_ink: float = setting(0.1, "a tile with a larger share of ink is dropped", low=0.0, high=1.0)
    ink_width_um: float = setting(100.0, "width that ink has at least, µm; narrower marks are left", low=1.0)
    ink_density: float = setting(0.1, "optical density that ink has at least", low=0.0, high=3.0)
    ink_red_ratio: float = setting(
        1.1, "ink is what absorbs more of red than this share of green (blue, green pen; H&E: to 0.95)", low=0.0
    )
    ink_blue_ratio: float = setting(
        0.6, "ink is what absorbs more of blue, less of red, than this share of green (red pen, brown, yellow)", low=0.0
    )
    black_level: float = setting(
        80.0, "what is darker in all colours over ink_width_um is black pen or border, grey level", low=0.0, high=255.0
    )
    jpeg_quality: int = setting(90, "JPEG quality of a stored tile", low=50, high=100)
    keep_jpeg: bool = setting(
        True, "a tile that is exactly one of the slide's own JPEG tiles is stored as it is, without a second loss"
    )
    seed: int = setting(0, "seed of the order of tiles within a shard", low=0, high=MAX_SEED)
    missing_mpp: str = setting(
        "error", "a slide that says no resolution: 'error', 'skip', or its µm per px as a number"
    )
    mpp_tolerance: float = setting(
        0.02, "share by which a level may differ from a whole fraction of mpp and be read as it is", low=0.0, high=0.2
    )
    max_upsampling: float = setting(
        0.05, "share by which a slide may be coarser than mpp and is enlarged; coarser ones fail", low=0.0, high=4.0
    )

    def check(self) -> None:
        if self.otsu_low > self.otsu_high:
            raise ValueError(f"otsu_low ({self.otsu_low:g}) can't be more than otsu_high ({self.otsu_high:g}).")
        if self.missing_mpp not in ("error", "skip"):
            try:
                usable = 0 < float(self.missing_mpp) < 1000
            except ValueError:
                usable = False
            if not usable:
                raise ValueError(f"missing_mpp must be error, skip or a positive number, not {self.missing_mpp!r}.")

    @property
    def fallback_mpp(self) -> float | None:
        """The resolution to assume where a slide says none, if any."""
        return None if self.missing_mpp in ("error", "skip") else float(self.missing_mpp)
