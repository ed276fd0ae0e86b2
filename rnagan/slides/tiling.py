"""Slides to shards: tissue, grid, tiles without background, in a seeded random order (paper: STAR Methods)."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from rnagan import rng
from rnagan.cohort import SLIDE_SUFFIXES, slide_id
from rnagan.config import TilingConfig
from rnagan.data.writer import ShardWriter
from rnagan.slides.build import Job, Summary, build_shards
from rnagan.slides.grid import Grid, background_share
from rnagan.slides.reader import VERSIONS, MissingResolutionError, Slide
from rnagan.slides.tissue import tissue_mask


def find_slides(sources: list[Path]) -> list[Path]:
    """Slide files in the given folders (searched through) and files, by name. Two files with one id are refused."""
    paths = [path for source in sources for path in _slides_of(Path(source))]
    by_id: dict[str, Path] = {}
    for path in sorted(set(paths)):
        if (other := by_id.setdefault(slide_id(path), path)) != path:
            raise ValueError(f"{other} and {path} would both become slide {slide_id(path)}; rename one.")
    return list(by_id.values())


def _slides_of(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    found = [path for path in source.rglob("*") if path.suffix.lower() in SLIDE_SUFFIXES and path.is_file()]
    if not found:
        raise FileNotFoundError(f"{source} holds no slide ({', '.join(sorted(SLIDE_SUFFIXES))}).")
    return found


def tile_slides(sources: list[Path], out_folder: Path | str, config: TilingConfig, processes: int = 1) -> Summary:
    """Make a shard of every slide in `sources`; slides that are done and unchanged are skipped."""
    jobs = [
        Job(slide_id(path), _stamp(path), functools.partial(tile_slide, path, Path(out_folder), config))
        for path in find_slides(sources)
    ]
    return build_shards(jobs, out_folder, config.to_dict(), processes)


def tile_slide(path: Path, out_folder: Path | str, config: TilingConfig) -> dict[str, Any]:
    """Make the shard of one slide and return its record, of status `done`, `no_tiles` or `skipped` (no resolution).

    Raises `ValueError` or `OSError` with one sentence; the slide then has no record.
    """
    with ShardWriter(out_folder, slide_id(path)) as shard:
        options = config.to_dict()
        try:
            slide = Slide(path, config.fallback_mpp)
        except MissingResolutionError as error:
            if config.missing_mpp != "skip":
                raise
            return shard.commit("skipped", {}, {"reason": str(error), **_stamp(path)}, options, VERSIONS)
        with slide:
            identity = {
                "quickhash": slide.quickhash,
                "vendor": slide.vendor,
                "mpp": slide.mpp,
                "width_px": slide.width_px,
                "height_px": slide.height_px,
                **_stamp(path),
            }
            counts = dict.fromkeys(("background", "low_contrast", "over_limit"), 0)
            stored_mpp = round(slide.footprint_px(config.mpp) * slide.mpp, 6)
            for x, y, tile in _tiles(slide, shard.slide, config, counts):
                jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(tile), config.jpeg_quality, "RGB", "444")
                description = {"slide": shard.slide, "x": x, "y": y, "tile_px": config.tile_px, "mpp": stored_mpp}
                shard.add(f"{shard.slide}_x{x}_y{y}", jpeg, description, x, y)
        return shard.commit("done" if shard.tiles else "no_tiles", counts, identity, options, VERSIONS)


def _stamp(path: Path) -> dict[str, Any]:
    if not Path(path).is_file():
        return {"file": Path(path).name}  # the job itself says that it is missing
    status = Path(path).stat()
    return {"file": Path(path).name, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def _tiles(
    slide: Slide, name: str, config: TilingConfig, counts: dict[str, int]
) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
    """Tiles to keep, in stored order, as x, y (level 0) and pixels; what is left out is counted in `counts`."""
    grid = Grid.cover(slide.width_px, slide.height_px, config.tile_px * slide.footprint_px(config.mpp))
    thumbnail, pixel_px = slide.thumbnail(config.thumbnail_mpp)
    on_tissue = background_share(tissue_mask(thumbnail), pixel_px, grid) <= config.max_background
    candidates = grid.positions()[on_tissue]
    counts["background"] = int((~on_tissue).sum())
    order = rng.generator(config.seed, f"tiles/{name}").permutation(len(candidates))
    kept = 0
    for done, (x, y) in enumerate(candidates[order].tolist()):
        if kept == config.max_tiles:
            counts["over_limit"] = len(candidates) - done
            return
        tile = slide.read(x, y, config.tile_px, config.mpp)
        if contrast(tile) < config.min_contrast:
            counts["low_contrast"] += 1
            continue
        kept += 1
        yield x, y, tile


def contrast(tile: NDArray[np.uint8]) -> float:
    """Span of the 1st to the 99th percentile of grey as a share of the full range; tile (h, w, 3) uint8 RGB → 0 … 1.

    Grey is the ITU-R 601 luma in 256 steps.
    """
    red, green, blue = (tile[..., channel].astype(np.uint16) for channel in range(3))
    grey = (77 * red + 150 * green + 29 * blue) >> 8
    cumulated = np.bincount(grey.ravel(), minlength=256).cumsum()
    low, high = np.searchsorted(cumulated, [0.01 * grey.size, 0.99 * grey.size])
    return float(high - low) / 255
