"""Small sets of tiles, and applications on them, for the tests of quiz and study."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

from rnagan.apps.answers_database import AnswersDatabase
from rnagan.apps.quiz import quiz
from rnagan.apps.reader_study import StudySettings, invite, reader_study
from rnagan.apps.shell import Address
from rnagan.apps.tile_set import TileSet, open_tile_set, write_tile_set
from rnagan.apps.tile_sources import ChosenTile

SIDE = 32
ADMIN = "a-token-of-an-admin"
SOURCES = ("real", "GAN", "RNA-GAN")
TISSUES = ("lung", "brain cortex")
SECRET_WORDS = ("synthetic", "generated", "GAN", "real ", "donor", "fake")


def pixels(source: str, number: int) -> np.ndarray:
    """Noise on a colour; generated tiles are smooth, so they pack far smaller."""
    random = np.random.default_rng([number, len(source)])
    noise = random.normal(0, 25 if source == "real" else 1, (SIDE, SIDE, 3))
    return np.clip(np.array([190, 120, 170]) + noise, 0, 255).astype(np.uint8)


def chosen_tiles(each: int = 3, sources: tuple[str, ...] = SOURCES) -> list[ChosenTile]:
    return [
        ChosenTile(source, tissue, f"donor {source} {k}", pixels(source, 100 * t + k))
        for source in sources
        for t, tissue in enumerate(TISSUES)
        for k in range(each)
    ]


def make_tiles(folder: Path, each: int = 3) -> TileSet:
    chosen = chosen_tiles(each)
    tales = ["" if tile.source == "real" else "Fine detail is weaker." for tile in chosen]
    write_tile_set(folder, chosen, tales, "Tiles: a uniform draw.", "asked")
    return open_tile_set(folder)


def write_images(folder: Path, each: int = 3) -> list[str]:
    """Folders SOURCE/TISSUE/… of images, as --source takes them."""
    for tile in chosen_tiles(each):
        path = folder / tile.source / tile.tissue / f"{tile.origin.replace(' ', '_')}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tile.pixels).save(path)
    return [f"{source}={folder / source}" for source in SOURCES]


def study(folder: Path, readers: int = 1, repeats: int = 2, **limits: Any) -> tuple[TestClient, list[str], TileSet]:
    """A client of a study, the paths of its readers, and its tiles."""
    tiles = make_tiles(folder)
    database = AnswersDatabase(f"sqlite:///{folder}/answers.sqlite")
    settings = StudySettings(repeats=repeats)
    links = invite(database, tiles, settings, [f"reader {k}" for k in range(readers)])
    app = reader_study(tiles, database, settings, Address(admin_token=ADMIN), **{"rate": 10_000} | limits)
    return client(app.guarded), links, tiles


def game(folder: Path, rounds: int = 5, **limits: Any) -> tuple[TestClient, TileSet, AnswersDatabase]:
    tiles = make_tiles(folder)
    database = AnswersDatabase(f"sqlite:///{folder}/answers.sqlite")
    return client(quiz(tiles, database, rounds, Address(), **{"rate": 10_000} | limits).guarded), tiles, database


def client(app: object) -> TestClient:
    return TestClient(app, base_url="http://localhost:8000", follow_redirects=True, raise_server_exceptions=False)


def form_of(page: str) -> str:
    """Where the answer of a page goes."""
    found = re.search(r'action="(/[rq]/[^"]+/answers/[^"]+)"', page)
    assert found, page
    return found[1]


def picture_of(page: str) -> str:
    found = re.search(r'class="tile" src="([^"]+)"', page)
    assert found, page
    return found[1]
