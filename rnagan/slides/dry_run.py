"""What a build would do, slide by slide, without reading a tile: `rnagan build-tiles --dry-run`."""

import functools
from typing import Any

import pandas as pd

from rnagan.config.tiling import TilingConfig
from rnagan.runtime import progress
from rnagan.runtime.workers import Workers, run_each
from rnagan.slides.grid import find_candidates
from rnagan.slides.sources import SlideSource
from rnagan.slides.tiling import open_slide

COLUMNS = (
    "slide",
    "width_px",
    "height_px",
    "mpp",
    "source",
    "level",
    "reduced_by",
    "stored_mpp",
    "tiles",
    "warning",
    "problem",
)


def survey(sources: list[SlideSource], config: TilingConfig, workers: Workers) -> pd.DataFrame:
    """One row a slide, by name, with `COLUMNS`: its mpp and who says so, the level read and the factor by which it is
    reduced, the tiles to expect, before the tests of single tiles, and what is doubtful; or what is wrong with it.
    """
    rows = []
    with progress.bar(len(sources), "slide", "survey") as bar:
        for source, outcome in run_each(functools.partial(look_at, config), sources, workers):
            problem = {"slide": source.slide, "problem": str(outcome)} if isinstance(outcome, Exception) else None
            rows.append(problem or outcome)
            bar.update()
    return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("slide", ignore_index=True)


def look_at(config: TilingConfig, source: SlideSource) -> dict[str, Any]:
    """The row of one slide."""
    with open_slide(source, config) as slide:
        level, factor = slide.plan(config.mpp)
        candidates = find_candidates(slide, source, config)
        return {
            "slide": source.slide,
            "width_px": slide.width_px,
            "height_px": slide.height_px,
            "mpp": slide.mpp,
            "source": slide.mpp_source,
            "level": level,
            "reduced_by": factor,
            "stored_mpp": slide.footprint_px(config.mpp) * slide.mpp,
            "tiles": min(len(candidates.usable), config.max_tiles),
            "warning": "; ".join(candidates.warnings) or None,
        }


def as_text(table: pd.DataFrame) -> str:
    """The table for a terminal, problems last, and a line that sums it up."""
    good = table[table["problem"].isna()].drop(columns=["warning", "problem"])
    good = good.astype({name: int for name in ("width_px", "height_px", "level", "tiles")})
    lines = [good.to_string(index=False, float_format="{:.4g}".format)] if len(good) else []
    doubtful, bad = table[table["warning"].notna()], table[table["problem"].notna()]
    lines += [f"Warning: {slide}: {w}." for slide, w in zip(doubtful["slide"], doubtful["warning"], strict=True)]
    lines += [f"{slide}: {problem}" for slide, problem in zip(bad["slide"], bad["problem"], strict=True)]
    sources = ", ".join(f"{count:,} from {name}" for name, count in good["source"].value_counts().items())
    lines.append(
        f"{len(good):,} slides would give up to {good['tiles'].sum():,} tiles (mpp: {sources or 'none'}); "
        f"{len(bad):,} can't be made."
    )
    return "\n".join(lines)
