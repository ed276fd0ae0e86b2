"""Settings of tiles centred on spots of spatial transcriptomics."""

import dataclasses

from rnagan.config.base import setting
from rnagan.config.tiling import TilingConfig


@dataclasses.dataclass(frozen=True)
class SpotTilingConfig(TilingConfig):
    """Spots of sections to tiles. Of `TilingConfig`, all but max_tiles means the same."""

    max_tiles: int = setting(1_000_000, "tiles kept of a section at most, a random draw of its spots", low=1)
    margin_px: int = setting(
        16,
        "by how much a stored image is wider than its tile on each side: training shifts within it",
        low=0,
        high=1024,
    )
    min_counts: int = setting(100, "a spot with fewer counts over all genes is dropped", low=1)
