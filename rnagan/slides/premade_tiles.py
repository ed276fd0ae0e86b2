"""A folder of ready-made tiles and its table to shards: one shard a donor."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from rnagan.cohort.slide_ids import shard_name
from rnagan.config.tiling import TilingConfig
from rnagan.data.build_jobs import BuildOptions, Summary, build_shards
from rnagan.data.image_codec import encode_jpeg, rgb_pixels
from rnagan.data.writer import ShardWriter
from rnagan.io.files import sha256_of
from rnagan.io.images import open_image
from rnagan.io.tables import first_few, need_columns, read_table
from rnagan.runtime import rng


@dataclasses.dataclass(frozen=True)
class DonorImages:
    """The images of one donor, name in the table → file, which become the shard `slide`."""

    slide: str
    images: dict[str, Path]

    @functools.cached_property
    def stamp(self) -> dict[str, Any]:
        """What changes when an image is added, taken out or written anew (`data.build_jobs.Source`)."""
        states = [(name, path.stat() if path.is_file() else None) for name, path in self.images.items()]
        digest = sha256_of([(name, status and (status.st_size, status.st_mtime_ns)) for name, status in states])
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
) -> Summary:
    """Make a shard of each donor's images; donors that are done and unchanged are skipped.

    `table` names the images, relative to its own folder, with tissue and donor. Of `config`, tile_px, jpeg_quality,
    max_tiles and seed apply. `mpp` is the resolution of a stored tile, None where it isn't known.
    """
    table, out_folder = Path(table).resolve(), Path(out_folder).resolve()
    rows = read_table(table)
    need_columns(list(rows), [path_column, tissue_column, donor_column], table)
    if rows.empty:
        raise ValueError(f"{table} names no image.")
    paths = [_inside(table.parent, name, table, line) for line, name in enumerate(rows[path_column], start=2)]
    repeated = rows.loc[rows[path_column].duplicated(), path_column]
    if len(repeated):
        raise ValueError(f"{table} names images twice ({first_few(repeated)}).")
    tissues = rows.groupby(donor_column)[tissue_column].nunique()
    if (tissues > 1).any():
        raise ValueError(
            f"{table} has donors with tiles of several tissues ({first_few(tissues.index[tissues > 1])}); "
            "a shard holds one tissue, so give each tissue a table of its own and other donor names."
        )
    options = {
        "tile_px": config.tile_px,
        "mpp": mpp,
        "jpeg_quality": config.jpeg_quality,
        "max_tiles": config.max_tiles,
        "seed": config.seed,
    }
    donors: dict[str, str] = {}
    sources = []
    for donor, of_donor in rows.assign(image=paths).groupby(donor_column):
        slide = shard_name(str(donor))
        if donors.setdefault(slide, str(donor)) != donor:
            raise ValueError(f"{table}: {donors[slide]} and {donor} would both become shard {slide}; rename one.")
        images = dict(sorted(zip(of_donor[path_column], of_donor["image"], strict=True)))
        sources.append(DonorImages(slide, images))
    make = functools.partial(pack_donor, out_folder=out_folder, options=options)
    return build_shards(sources, make, out_folder, options, how)


def pack_donor(source: DonorImages, out_folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Make one donor's shard from its images and return its record.

    Images that can't be read, or are smaller than tile_px, are named in one `ValueError`; the shard is then not made.
    """
    slide, stamp, names = source.slide, source.stamp, list(source.images)
    order = rng.generator(options["seed"], f"tiles/{slide}").permutation(len(names))
    unreadable = []
    with ShardWriter(out_folder, slide) as shard:
        for n in order[: options["max_tiles"]].tolist():
            try:
                tile = load_tile(source.images[names[n]], options["tile_px"])
            except ValueError as error:
                unreadable.append(str(error))
                continue
            kind = {"tile_px": options["tile_px"], "mpp": options["mpp"]}
            about = {"slide": slide, "x": None, "y": None, **kind, "source": names[n]}
            shard.add(f"{slide}_n{n}", encode_jpeg(tile, options["jpeg_quality"]), about)
        if unreadable:
            named = first_few(sorted(unreadable))
            raise ValueError(
                f"{len(unreadable)} of {len(names)} images can't be used: {named}; "
                "mend them or take them out of the table."
            )
        over_limit = {"over_limit": len(names) - shard.tiles}
        return shard.commit("done", over_limit, stamp, options, {"pillow": PIL.__version__})


def load_tile(path: Path, tile_px: int) -> NDArray[np.uint8]:
    """The largest centred square of an image, reduced with antialiasing to (tile_px, tile_px, 3) uint8 RGB.

    `image_codec.rgb_pixels` says what becomes of transparency, 16 bits and orientation. `ValueError` names the file.
    """
    try:
        with open_image(path) as image:
            pixels = Image.fromarray(rgb_pixels(image))
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None
    side = min(pixels.size)
    if side < tile_px:
        raise ValueError(f"{path} is {pixels.width}×{pixels.height} px, smaller than the {tile_px} px asked for")
    left, top = (pixels.width - side) // 2, (pixels.height - side) // 2
    if side != tile_px or pixels.width != pixels.height:
        pixels = pixels.resize((tile_px, tile_px), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
    return np.ascontiguousarray(pixels)


def _inside(folder: Path, name: str, table: Path, line: int) -> Path:
    path = folder / name
    if not name or not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{table}, line {line}: path {name!r} leads out of the table's folder, and must stay inside.")
    return path
