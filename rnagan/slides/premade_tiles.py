"""A folder of ready-made tiles and its table to shards: one shard a donor, or a section whose tiles are spots."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL
from numpy.typing import NDArray
from PIL import Image

from rnagan.cohort.slide_ids import shard_name
from rnagan.config.tiling import TilingConfig
from rnagan.data.build_jobs import BuildOptions, Summary, build_shards
from rnagan.data.image_codec import encode_jpeg, rgb_pixels
from rnagan.data.shard_schema import OF_TILE
from rnagan.data.writer import ShardWriter
from rnagan.io.files import sha256_of
from rnagan.io.images import open_image
from rnagan.io.tables import first_few, need_columns, read_table
from rnagan.runtime import rng


@dataclasses.dataclass(frozen=True)
class DonorImages:
    """The images of one donor or section, name in the table → file, which become the shard `slide`. `profiles`: of each
    image, where they have profiles of their own."""

    slide: str
    images: dict[str, Path]
    profiles: dict[str, str] | None = None

    @functools.cached_property
    def stamp(self) -> dict[str, Any]:
        """What changes when an image is added, taken out or written anew (`data.build_jobs.Source`)."""
        states = [(name, path.stat() if path.is_file() else None) for name, path in self.images.items()]
        seen: list[Any] = [(name, status and (status.st_size, status.st_mtime_ns)) for name, status in states]
        digest = sha256_of(seen if self.profiles is None else [*seen, self.profiles])
        return {"images": len(self.images), "stamp": digest}

    @property
    def size(self) -> int:
        """Number of images."""
        return len(self.images)


def pack_tiles(
    table: Path | str,
    out_folder: Path | str,
    config: TilingConfig,
    how: BuildOptions | None = None,
    *,
    mpp: float | None = None,
    path_column: str = "path",
    tissue_column: str = "tissue",
    donor_column: str = "donor",
    section_column: str | None = None,
    profile_column: str | None = None,
    crop_px: int | None = None,
    margin_px: int = 0,
) -> Summary:
    """Make a shard of each donor's images, or of each section's; those that are done and unchanged are skipped.

    `table` names the images, relative to its own folder, with tissue and donor, and perhaps the section and the
    image's own profile. Of `config`, tile_px, jpeg_quality, max_tiles and seed apply. `mpp` is the resolution of a
    stored tile, None where it isn't known. `crop_px`: as `load_tile` takes it. `margin_px`: by how much stored images
    are wider than their tiles on each side, of what lies around `crop_px` in the given ones; training shifts within it.
    """
    table, out_folder = Path(table).resolve(), Path(out_folder).resolve()
    rows = read_table(table)
    shard_column, further = section_column or donor_column, [profile_column] if profile_column else []
    need_columns(list(rows), list(dict.fromkeys([path_column, tissue_column, shard_column, *further])), table)
    if rows.empty:
        raise ValueError(f"{table} names no image.")
    paths = [_inside(table.parent, name, table, line) for line, name in enumerate(rows[path_column], start=2)]
    repeated = rows.loc[rows[path_column].duplicated(), path_column]
    if len(repeated):
        raise ValueError(f"{table} names images twice ({first_few(repeated)}).")
    if crop_px is not None and crop_px < config.tile_px:
        raise ValueError(f"--crop-px {crop_px} is smaller than tile_px {config.tile_px}: tiles would be enlarged.")
    if margin_px and crop_px is None:
        raise ValueError(
            "--margin-px needs --crop-px, the part of each image that is the tile, with the margin around it."
        )
    if profile_column:
        _check_profiles(rows, shard_column, profile_column, table)
    what = "sections" if section_column else "donors"
    tissues = rows.groupby(shard_column)[tissue_column].nunique()
    if (tissues > 1).any():
        raise ValueError(
            f"{table} has {what} with tiles of several tissues ({first_few(tissues.index[tissues > 1])}); "
            "a shard holds one tissue, so give each tissue a table of its own and other names."
        )
    options: dict[str, Any] = {
        "tile_px": config.tile_px,
        "mpp": mpp,
        "jpeg_quality": config.jpeg_quality,
        "max_tiles": config.max_tiles,
        "seed": config.seed,
    }
    options |= ({"profile": OF_TILE} if profile_column else {}) | ({} if crop_px is None else {"crop_px": crop_px})
    options |= {"margin_px": margin_px} if margin_px else {}
    donors: dict[str, str] = {}
    sources = []
    for donor, of_donor in rows.assign(image=paths).groupby(shard_column):
        slide = shard_name(str(donor))
        if donors.setdefault(slide, str(donor)) != donor:
            raise ValueError(f"{table}: {donors[slide]} and {donor} would both become shard {slide}; rename one.")
        images = dict(sorted(zip(of_donor[path_column], of_donor["image"], strict=True)))
        own = None
        if profile_column:
            own = dict(sorted(zip(of_donor[path_column], of_donor[profile_column], strict=True)))
        sources.append(DonorImages(slide, images, own))
    make = functools.partial(pack_donor, out_folder=out_folder, options=options)
    return build_shards(sources, make, out_folder, options, how)


def pack_donor(source: DonorImages, out_folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Make one donor's shard from its images and return its record.

    Images that can't be read, or are smaller than tile_px, are named in one `ValueError`; the shard is then not made.
    """
    slide, stamp, names = source.slide, source.stamp, list(source.images)
    order = rng.generator(options["seed"], f"tiles/{slide}").permutation(len(names))
    unreadable = []
    margin_px, crop_px, side = options.get("margin_px", 0), options.get("crop_px"), options["tile_px"]
    if margin_px:
        crop_px = round(crop_px * (side + 2 * margin_px) / side)
    with ShardWriter(out_folder, slide) as shard:
        for n in order[: options["max_tiles"]].tolist():
            try:
                tile = load_tile(source.images[names[n]], side + 2 * margin_px, crop_px)
            except ValueError as error:
                unreadable.append(str(error))
                continue
            kind = {"tile_px": side, "mpp": options["mpp"]} | ({"margin_px": margin_px} if margin_px else {})
            about = {"slide": slide, "x": None, "y": None, **kind, "source": names[n]}
            profile = None if source.profiles is None else source.profiles[names[n]]
            shard.add(f"{slide}_n{n}", encode_jpeg(tile, options["jpeg_quality"]), about, profile=profile)
        if unreadable:
            named = first_few(sorted(unreadable))
            raise ValueError(
                f"{len(unreadable)} of {len(names)} images can't be used: {named}; "
                "mend them or take them out of the table."
            )
        over_limit = {"over_limit": len(names) - shard.tiles}
        return shard.commit("done", over_limit, stamp, options, {"pillow": PIL.__version__})


def _check_profiles(rows: pd.DataFrame, shard_column: str, profile_column: str, table: Path) -> None:
    """Refuse tiles without a profile, and a profile whose tiles would lie in several shards: names such as barcodes
    come again in each section, and would be joined with another's expression."""
    empty = rows[profile_column] == ""
    if empty.any():
        raise ValueError(f"{table}, line {int(empty.argmax()) + 2}: the column {profile_column} names no profile.")
    several = rows.groupby(profile_column)[shard_column].unique()
    several = several[several.map(len) > 1]
    if len(several):
        raise ValueError(
            f"{table}: {len(several):,} profiles are in several shards ({several.index[0]} in "
            f"{first_few(several.iloc[0])}); give each a name of its own in {profile_column}, such as SECTION_SPOT, "
            "and the same in the expression table."
        )


def load_tile(path: Path, tile_px: int, crop_px: int | None = None) -> NDArray[np.uint8]:
    """The largest centred square of an image, or that of `crop_px`, reduced with antialiasing to (tile_px, tile_px, 3)
    uint8 RGB.

    `image_codec.rgb_pixels` says what becomes of transparency, 16 bits and orientation. `ValueError` names the file.
    """
    try:
        with open_image(path) as image:
            pixels = Image.fromarray(rgb_pixels(image))
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None
    asked = tile_px if crop_px is None else crop_px
    if min(pixels.size) < asked:
        raise ValueError(f"{path} is {pixels.width}×{pixels.height} px, smaller than the {asked} px asked for")
    if crop_px is not None:
        left, top = (pixels.width - crop_px) // 2, (pixels.height - crop_px) // 2
        pixels = pixels.crop((left, top, left + crop_px, top + crop_px))
    side = min(pixels.size)
    left, top = (pixels.width - side) // 2, (pixels.height - side) // 2
    if side != tile_px or pixels.width != pixels.height:
        pixels = pixels.resize((tile_px, tile_px), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
    return np.ascontiguousarray(pixels)


def _inside(folder: Path, name: str, table: Path, line: int) -> Path:
    path = folder / name
    if not name or not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{table}, line {line}: path {name!r} leads out of the table's folder, and must stay inside.")
    return path
