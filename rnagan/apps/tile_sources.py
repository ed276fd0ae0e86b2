"""Where the tiles of a quiz or a study come from: folders of images, shards, trained models; drawn by a stated rule."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rnagan.io.files import sha256_of, sha256_of_file
from rnagan.io.tables import first_few, need_columns, read_table
from rnagan.runtime import rng
from rnagan.slides.premade_tiles import load_tile

RULE = "a uniform draw of the tiles of each source and tissue, with seed {seed}"
CURATED = "a curated choice: those of {table}"
MAX_NAME = 60  # characters of a source or tissue
MAX_FILES = 1_000_000
ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".jp2")
_NO_TILES = ("grid",)  # pictures beside the tiles of rnagan generate-tiles

Tile = NDArray[np.uint8]


class ChosenTile(NamedTuple):
    """A tile (H, W, 3) uint8, and what readers must not see: its source, tissue ("" unknown) and where it is from."""

    source: str
    tissue: str
    origin: str
    pixels: Tile


@dataclasses.dataclass(frozen=True)
class Wanted:
    """`each`: tiles of a source and tissue. `tile_px`: side that all are brought to. `cohort`, `profiles` and `split`
    choose real tiles of shards, and profiles for models."""

    each: int
    tile_px: int
    seed: int = 0
    cohort: Path | None = None
    profiles: Path | None = None
    split: str = "test"
    device: str = "auto"


def parse_source(given: str) -> tuple[str, str]:
    """NAME and PATH of `NAME=PATH`, which may be the URL of shards; `ValueError` on anything else."""
    name, sign, path = given.partition("=")
    name = name.strip()
    if not sign or not name or not path:
        raise ValueError(f"The source {given!r} must be NAME=PATH, such as real=tiles/real.")
    if len(name) > MAX_NAME:
        raise ValueError(f"The source {name[:20]}… has a name of {len(name)} characters, and {MAX_NAME} are shown.")
    if "://" not in path and not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist; the source {name} needs a folder, shards or a run.")
    return name, path


def choose_tiles(sources: list[tuple[str, str]], wanted: Wanted) -> list[ChosenTile]:
    """`wanted.each` tiles of every source and tissue, source by source, by RULE.

    A path is a folder of images (of folders named for tissues, or flat: no tissue), a folder of shards with its
    `cohort`, or a run of rnagan train-rnagan with `profiles` (none in the modes without). Raises `ValueError` or
    `FileNotFoundError` where a source isn't any of these, or has too few tiles.
    """
    names = [name for name, _ in sources]
    if len(set(names)) < len(names):
        raise ValueError(f"Two sources have the name {max(names, key=names.count)}; give each its own.")
    chosen: list[ChosenTile] = []
    for name, path in sources:
        of = {"shards": _of_shards, "model": _of_model, "folder": _of_folder}[_kind(path)]
        chosen += of(name, path, wanted)
    return chosen


def _kind(path: str) -> str:
    """What a source is: shards, a model, or a folder of images."""
    if "://" in path or (Path(path) / "dataset.json").is_file():
        return "shards"
    places = (Path(path), Path(path) / "model")
    return "model" if any((place / "model.json").is_file() for place in places) else "folder"


def what_it_holds(path: str) -> str:
    """A digest that changes with the shards, the model, or the names and sizes of the images of a source."""
    kind = _kind(path)
    if kind == "shards":
        from rnagan.data.index import open_dataset

        return open_dataset(path).digest
    if kind == "model":
        from rnagan.api import model_folder

        return sha256_of_file(model_folder(path) / "model.json")
    return sha256_of([[str(image.relative_to(path)), image.stat().st_size] for image in _images(Path(path))])


def curated_tiles(table: Path, tile_px: int) -> list[ChosenTile]:
    """The tiles that a CSV with columns path, source and tissue lists; paths stay inside the table's folder."""
    rows = read_table(table)
    need_columns(rows.columns, ("path", "source", "tissue"), table)
    found = []
    for line, row in enumerate(rows.itertuples(index=False), start=2):
        path = (table.parent / row.path).resolve()
        if not row.path or not path.is_relative_to(table.parent.resolve()):
            raise ValueError(f"{table}, line {line}: path {row.path!r} leads out of the table's folder.")
        if not row.source or max(len(row.source), len(row.tissue)) > MAX_NAME:
            raise ValueError(f"{table}, line {line}: source needs a name, of at most {MAX_NAME} characters.")
        found.append(ChosenTile(row.source, row.tissue, row.path, load_tile(path, tile_px)))
    if not found:
        raise ValueError(f"{table} lists no tile.")
    return found


def _of_folder(source: str, place: str, wanted: Wanted) -> Iterator[ChosenTile]:
    folder = Path(place)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; the source {source} needs one of images, shards, or a run.")
    record = folder / "generated.json"
    by_tissue: dict[str, list[Path]] = {}
    for path in _images(folder):
        parts = path.relative_to(folder).parts
        tissue = parts[0] if len(parts) > 1 and not record.is_file() else ""
        by_tissue.setdefault(tissue, []).append(path)
    if not by_tissue:
        raise ValueError(f"{folder} holds no image; the source {source} needs some ({', '.join(ENDINGS)}).")
    for tissue, paths in sorted(by_tissue.items()):
        if len(tissue) > MAX_NAME:
            raise ValueError(f"{folder} has a tissue of {len(tissue)} characters, and {MAX_NAME} are shown.")
        for row in _draw(len(paths), source, tissue, wanted):
            yield ChosenTile(source, tissue, str(paths[row]), load_tile(paths[row], wanted.tile_px))


def _images(folder: Path) -> list[Path]:
    """Images below a folder, in order. Links aren't followed: they would lead out of it."""
    found: list[Path] = []
    for place, _, names in os.walk(folder, followlinks=False):
        for name in names:
            path = Path(place) / name
            if path.suffix.lower() in ENDINGS and path.stem not in _NO_TILES and not path.is_symlink():
                found.append(path)
        if len(found) > MAX_FILES:
            raise ValueError(f"{folder} holds more than {MAX_FILES:,} images; give a folder of fewer.")
    return sorted(found)


def _draw(count: int, source: str, tissue: str, wanted: Wanted) -> list[int]:
    """Numbers of `wanted.each` among `count` tiles."""
    if count < wanted.each:
        of = f" of {tissue}" if tissue else ""
        raise ValueError(f"The source {source} has {count:,} tiles{of}, and {wanted.each:,} are asked for (--each).")
    draw = rng.generator(wanted.seed, f"served tiles/{source}/{tissue}")
    return draw.choice(count, wanted.each, replace=False).tolist()


def _of_shards(source: str, folder: str, wanted: Wanted) -> Iterator[ChosenTile]:
    from rnagan.cohort.table import read_cohort
    from rnagan.data.index import open_dataset
    from rnagan.data.selection import select

    if wanted.cohort is None:
        raise ValueError(f"{folder} holds shards; give --cohort, the table that says their tissues.")
    shards = open_dataset(folder)
    chosen = select(shards, read_cohort(wanted.cohort), wanted.split, 1_000_000)
    reader = chosen.reader(shards)
    for tissue, rows in chosen.table.groupby("tissue", sort=True):
        places = [(row, k) for row in rows.index for k in range(int(chosen.tiles[row]))]
        for number in _draw(len(places), source, str(tissue), wanted):
            row, k = places[number]
            tile = np.empty(reader.shape, np.uint8)
            reader.decode(row, k, tile)
            origin = f"{chosen.table['slide'][row]}, tile {k}"
            yield ChosenTile(source, str(tissue), origin, at_side(tile, wanted.tile_px, source))


def _of_model(source: str, folder: str, wanted: Wanted) -> Iterator[ChosenTile]:
    """One tile for each of as many profiles of a tissue as are asked for; with fewer profiles, several of each."""
    from rnagan.generation import open_model
    from rnagan.latent.profiles import Choice, choose_profiles
    from rnagan.runtime.devices import choose_device, set_arithmetic

    device = choose_device(wanted.device)
    set_arithmetic(device)
    model = open_model(Path(folder), device, None)
    if model.encoder is None:
        tissue = model.tissues[0] if len(model.tissues) == 1 else ""
        for k, tile in enumerate(model.generate_tiles(None, wanted.each, wanted.seed, "noise")):
            yield ChosenTile(source, tissue, f"{folder}, noise {k}", at_side(tile, wanted.tile_px, source))
        return
    if wanted.profiles is None:
        raise ValueError(f"{folder} generates from profiles; give --profiles.")
    profiles, _ = choose_profiles(Choice(wanted.profiles, wanted.split), model.units, model.tissues)
    for tissue in sorted(set(profiles.obs["tissue"].astype(str))):
        own = profiles[(profiles.obs["tissue"].astype(str) == tissue).to_numpy()]
        draw = rng.generator(wanted.seed, f"served tiles/{source}/{tissue}")
        order = draw.permutation(own.n_obs)[: wanted.each]
        each = -(-wanted.each // len(order))
        made = model.generate(own[order].copy(), each, wanted.seed)
        names = own.obs_names[order]
        for number in range(wanted.each):
            k, row = divmod(number, len(order))
            yield ChosenTile(source, tissue, f"{names[row]}, tile {k}", at_side(made[row, k], wanted.tile_px, source))


def at_side(tile: Tile, side_px: int, source: str) -> Tile:
    """A square tile reduced to a side, with antialiasing. `ValueError` where it is smaller: enlarged, it would show."""
    if len(tile) < side_px:
        raise ValueError(f"The tiles of {source} have {len(tile)} px, fewer than the {side_px} asked for (--tile-px).")
    if len(tile) == side_px:
        return tile
    return np.asarray(Image.fromarray(tile).resize((side_px, side_px), Image.Resampling.LANCZOS))


def rule_of(wanted: Wanted, curated: Path | None) -> str:
    """How the tiles were chosen, as a sentence for the report."""
    if curated is not None:
        return f"Tiles: {CURATED.format(table=curated.name)}."
    return f"Tiles: {RULE.format(seed=wanted.seed)}, {wanted.each} of each."


def check_fair(tiles: list[ChosenTile]) -> None:
    """`ValueError` where fewer than two sources are there: there would be nothing to compare."""
    sources = sorted({tile.source for tile in tiles})
    if len(sources) < 2:
        raise ValueError(f"The tiles are of one source ({first_few(sources)}); give at least two (--source NAME=PATH).")
