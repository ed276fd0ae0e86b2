"""Opens a folder of shards: which slides it holds, how many tiles each has, and where each tile lies in its tar."""

import dataclasses
from pathlib import Path

import pandas as pd
import pyarrow as pa

from rnagan.cohort.names import check_shard_name
from rnagan.data.records import FORMAT, INDEX, TAR, VERSION, read_parquet
from rnagan.files import read_json

_BUILD_AGAIN = "run shards/build_tiles.py again, it makes what is missing"


@dataclasses.dataclass(frozen=True)
class ShardSet:
    """A folder of shards.

    `slides`: one row a slide, with slide, status, tiles, sha256, bytes and a count for each reason why tiles were
    left out. `mpp` is None where the resolution of the tiles isn't known. `digest` changes with any tile.
    """

    folder: Path
    tile_px: int
    mpp: float | None
    slides: pd.DataFrame
    digest: str

    def mpp_at(self, resolution: int) -> float | None:
        """Resolution of a tile, µm per px, when it is shrunk to `resolution` px."""
        return None if self.mpp is None else self.mpp * self.tile_px / resolution

    def tar_path(self, slide: str) -> Path:
        """The tar of a slide; a name that could lead out of the folder is refused."""
        return self.folder / (check_shard_name(slide) + TAR)

    def index(self, slide: str) -> pd.DataFrame:
        """Tiles of a slide in stored order: key, offset and size (bytes) of the JPEG in the tar, crc32, x, y."""
        path, tar = self.folder / (check_shard_name(slide) + INDEX), self.tar_path(slide)
        rows = self.slides[self.slides["slide"] == slide]
        if rows.empty:
            raise ValueError(f"{self.folder} has no slide {slide}.")
        expected = int(rows["bytes"].iloc[0])
        if not tar.is_file() or tar.stat().st_size != expected:
            raise ValueError(
                f"{tar} is missing or truncated ({expected:,} bytes expected); delete its record and {_BUILD_AGAIN}."
            )
        index = _read_table(path)
        if len(index) != int(rows["tiles"].iloc[0]):
            raise ValueError(f"{path} does not belong to its tar; delete the slide's record and {_BUILD_AGAIN}.")
        return index


def open_dataset(folder: Path | str) -> ShardSet:
    """Open a folder of shards made by shards/build_tiles.py; `ValueError` or `FileNotFoundError` where it isn't one."""
    folder = Path(folder)
    if not (folder / "dataset.json").is_file():
        raise FileNotFoundError(
            f"{folder} is no finished folder of shards (no dataset.json); make one with shards/build_tiles.py."
        )
    dataset = read_json(folder / "dataset.json")
    if not isinstance(dataset, dict) or dataset.get("format") != FORMAT:
        raise ValueError(f"{folder / 'dataset.json'} does not describe shards of this project.")
    if dataset.get("version") != VERSION:
        version = dataset.get("version")
        raise ValueError(f"{folder} has shards of version {version}, and this program reads version {VERSION}.")
    slides = _read_table(folder / "slides.parquet")
    if len(slides) != dataset["slides"] or int(slides["tiles"].sum()) != dataset["tiles"]:
        raise ValueError(f"{folder}: dataset.json and slides.parquet disagree; {_BUILD_AGAIN}.")
    for slide in slides["slide"]:
        check_shard_name(slide)
    return ShardSet(folder, dataset["tile_px"], dataset["mpp"], slides, dataset["digest"])


def _read_table(path: Path) -> pd.DataFrame:
    try:
        return read_parquet(path)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path} is missing or damaged ({str(error).splitlines()[0]}); {_BUILD_AGAIN}.") from None
