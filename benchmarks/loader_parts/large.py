"""Sets of millions of tiles that take no space: one slide's tar under many names, by hard links."""

import os
from pathlib import Path

from rnagan.data.manifest import INDEX, TAR, write_record
from rnagan.data.set_digest import write_digest, write_table
from rnagan.io.files import atomic_path, sha256_of_file
from rnagan.io.parquet import read_parquet

from .tiles import Tiles, write_shard

TILES_OF_EACH = 4000


def make(tiles: Tiles, slides: int, copy_indexes: bool) -> Path:
    """A set of so many slides of TILES_OF_EACH tiles each; ext4 allows a file 65,000 names.

    `copy_indexes`: they are files of their own, that can be cold.
    """
    folder = tiles.folder / f"{slides}-slides"
    if not folder.is_dir():
        with atomic_path(folder) as temporary:
            _write(temporary, tiles, slides, copy_indexes)
        os.sync()  # the kernel forgets only what is on the disk
    return folder


def make_spots(tiles: Tiles, slides: int) -> Path:
    """As `make`, each tile with a profile of its own, and a row for each in `cohort.csv`, in the order of
    `build-cohort`."""
    folder = tiles.folder / f"{slides}-slides-of-spots"
    if not folder.is_dir():
        with atomic_path(folder) as temporary:
            _write_spots(temporary, tiles, slides)
    return folder


def _write_spots(folder: Path, tiles: Tiles, slides: int) -> None:
    count, first = min(TILES_OF_EACH, tiles.count), "slide-00000"
    record = write_shard(folder, first, tiles.jpegs(range(count)), own_profiles=True)
    index = read_parquet(folder / (first + INDEX))
    with open(folder / "cohort.csv", "w") as cohort:
        cohort.write("sample,donor,tissue,split,slide,site\n")
        for number in range(slides):
            name = f"slide-{number:05d}"
            own = index.assign(profile=index["profile"].str.replace(first, name))
            cohort.writelines(f"{profile},D{number},lung,train,{name},\n" for profile in sorted(own["profile"]))
            if number:
                os.link(folder / (first + TAR), folder / (name + TAR))
                write_table(folder / (name + INDEX), own)
                write_record(folder, record | {"slide": name, "index_sha256": sha256_of_file(folder / (name + INDEX))})
    assert write_digest(folder)["tiles"] == slides * count


def _write(folder: Path, tiles: Tiles, slides: int, copy_indexes: bool) -> None:
    count = min(TILES_OF_EACH, tiles.count)
    only = write_shard(folder, "only", tiles.jpegs(range(count)))
    index = (folder / f"only{INDEX}").read_bytes()
    names = [f"slide-{number:05d}" for number in range(slides)]
    for name in names:
        os.link(folder / f"only{TAR}", folder / (name + TAR))
        if copy_indexes:
            (folder / (name + INDEX)).write_bytes(index)
        else:
            os.link(folder / f"only{INDEX}", folder / (name + INDEX))
    for left in folder.glob("only.*"):
        left.unlink()
    for name in names:
        write_record(folder, only | {"slide": name})
    assert write_digest(folder)["tiles"] == slides * count
