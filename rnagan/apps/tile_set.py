"""The tiles that a server shows: PNGs under random names, and tiles.json, which alone says what they are."""

import dataclasses
import secrets
import shutil
from pathlib import Path
from typing import NamedTuple, TypedDict

from rnagan.apps.tile_images import digest, encode_alike
from rnagan.apps.tile_sources import ChosenTile
from rnagan.io.files import read_json, sha256_of, write_json

RECORD, FOLDER = "tiles.json", "tiles"
FORMAT = "rnagan-served-tiles"
MAX_TILES = 5_000
MAX_BYTES = 1 << 30  # of all tiles, which are kept in memory


class TileRecord(TypedDict):
    """A tile in tiles.json."""

    id: str
    source: str
    tissue: str
    origin: str
    sha256: str
    tell_tale: str


class SetRecord(TypedDict):
    """The tiles.json of a folder; `asked`: a digest of what was asked for, `rule`: how tiles were chosen."""

    format: str
    version: int
    asked: str
    rule: str
    tile_px: int
    tiles: list[TileRecord]


class ServedTile(NamedTuple):
    """A tile in memory: its PNG, and what only the server knows of it."""

    id: str
    source: str
    tissue: str
    origin: str
    tell_tale: str
    png: bytes


@dataclasses.dataclass(frozen=True)
class TileSet:
    """Tiles by id. `digest` changes with any of them. Requests are answered from memory: no path is made of them."""

    tiles: dict[str, ServedTile]
    rule: str
    tile_px: int
    digest: str

    @property
    def tissues(self) -> list[str]:
        """Known tissues, in order of the alphabet."""
        return sorted({tile.tissue for tile in self.tiles.values()} - {""})


def write_tile_set(folder: Path, chosen: list[ChosenTile], tell_tales: list[str], rule: str, asked: str) -> None:
    """Write tiles under random names in random order. Raises `ValueError` where they are too many."""
    if not 0 < len(chosen) <= MAX_TILES:
        raise ValueError(f"{len(chosen):,} tiles are chosen, and 1 to {MAX_TILES:,} are served; change --each.")
    encoded = encode_alike([tile.pixels for tile in chosen])
    if len(encoded) * len(encoded[0]) > MAX_BYTES:
        raise ValueError("The tiles take more than 1 GiB as PNG; choose fewer (--each) or smaller ones (--tile-px).")
    rows: list[TileRecord] = []
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    for tile, png, tell_tale in zip(chosen, encoded, tell_tales, strict=True):
        name = secrets.token_hex(16)
        (folder / FOLDER / f"{name}.png").write_bytes(png)  # counts once tiles.json is there
        rows.append(
            {
                "id": name,
                "source": tile.source,
                "tissue": tile.tissue,
                "origin": tile.origin,
                "sha256": digest(png),
                "tell_tale": tell_tale,
            }
        )
    rows.sort(key=lambda row: row["id"])
    record: SetRecord = {
        "format": FORMAT,
        "version": 1,
        "asked": asked,
        "rule": rule,
        "tile_px": len(chosen[0].pixels),
        "tiles": rows,
    }
    write_json(folder / RECORD, record)


def remove_other_tiles(folder: Path, asked: str) -> None:
    """Delete the tiles of another request."""
    if (folder / RECORD).is_file() and read_json(folder / RECORD, SetRecord)["asked"] != asked:
        (folder / RECORD).unlink()
        shutil.rmtree(folder / FOLDER)


def open_tile_set(folder: Path, asked: str | None = None) -> TileSet:
    """Read a folder that `write_tile_set` made. `asked`: what is asked for now, where that is known.

    Raises `FileNotFoundError` where there is none, `ValueError` where it holds other tiles than are asked for, or
    damaged ones.
    """
    record = read_json(folder / RECORD, SetRecord)
    if record["format"] != FORMAT or not record["tiles"]:
        raise ValueError(f"{folder / RECORD} is no record of served tiles; choose another --out.")
    if asked is not None and record["asked"] != asked:
        raise ValueError(
            f"{folder} holds tiles of other sources or settings; give the same ones, none at all, or another --out."
        )
    tiles = {}
    for row in record["tiles"]:
        if not (row["id"].isalnum() and row["id"].isascii()):
            raise ValueError(f"{folder / RECORD} has the id {row['id']!r}, which is none; make the tiles again.")
        path = folder / FOLDER / f"{row['id']}.png"
        png = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        if digest(png) != row["sha256"]:
            raise ValueError(f"{path} is missing or was changed; copy it again, or prepare another folder.")
        about = (row["id"], row["source"], row["tissue"], row["origin"], row["tell_tale"])
        tiles[row["id"]] = ServedTile(*about, png)
    return TileSet(tiles, record["rule"], record["tile_px"], sha256_of([row["sha256"] for row in record["tiles"]]))
