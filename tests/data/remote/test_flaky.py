"""Tiles from a server that misbehaves at random: each is right, or a sentence says what isn't, and both soon."""

import dataclasses
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from rnagan.data.block_cache import BlockCache
from rnagan.data.index import DamagedShard
from rnagan.data.manifest import INDEX
from rnagan.data.reader import DamagedTile, TileReader
from rnagan.data.remote import RemoteFolder
from tests.data.remote.served import IMPATIENT, QUICK
from tests.data.servers import WebServer

SLIDES, TILES = ("a", "b"), 12
PASSING = ["500", "503", "429", "reset", "cut", "short"]
FAULTS = [*PASSING * 3, "hang", "wrong", "wrong", "403", "404"]


@pytest.fixture
def shards(make_shards):
    return make_shards(dict.fromkeys(SLIDES, TILES))


@pytest.fixture
def server(shards):
    server = WebServer(shards.storage.folder)
    yield server
    server.close()


def attempt(reader: TileReader, place: tuple[int, int], truth: bytes) -> str:
    """What became of the reading of a tile."""
    try:
        data = reader.read(*place)
    except (DamagedTile, DamagedShard, OSError) as error:
        assert "\n" not in str(error) and str(error).endswith("."), error
        return type(error).__name__
    assert data == truth, f"tile {place} is another"
    return "right"


def disturb(shards, server, folder, seed: int, share: float, faults: list[str]) -> dict[str, int]:
    """Read all tiles by four threads from the disturbed server, then from the healed one, by what the cache then holds.

    Returns how the disturbed readings ended. All others are right.
    """
    places = [(slide, k) for slide in range(len(SLIDES)) for k in range(TILES)]
    truth = {place: TileReader(shards, list(SLIDES)).read(*place) for place in places}
    remote = RemoteFolder(server.url, BlockCache(folder, 1 << 20), **IMPATIENT)
    for slide in SLIDES:
        remote.read_file(slide + INDEX)  # what isn't a tile is checked elsewhere
    reader = TileReader(dataclasses.replace(shards, storage=remote), list(SLIDES))
    draw = random.Random(seed)
    draw.shuffle(places)
    seen, began = len(server.requests), time.monotonic()
    server.at_random = draw, share, faults
    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(lambda place: attempt(reader, place, truth[place]), places))
    server.at_random = None
    asked, seconds = len(server.requests) - seen, time.monotonic() - began
    patient = RemoteFolder(server.url, BlockCache(folder, 1 << 20), **QUICK)
    reader = TileReader(dataclasses.replace(shards, storage=patient), list(SLIDES))
    for place in places:
        assert reader.read(*place) == truth[place]
    # A reading asks for a size and two blocks at most, twice, in five tries that aiohttp may repeat.
    assert asked <= len(places) * 2 * 3 * 5 * 2 and seconds < len(places) * 20, (asked, seconds)
    return {end: ends.count(end) for end in set(ends)}


@pytest.mark.attack(kind=9, ends="unharmed")
@pytest.mark.parametrize("seed", [1, 2])
def test_what_passes_harms_no_tile(shards, server, tmp_path, seed) -> None:
    assert disturb(shards, server, tmp_path / "cache", seed, 0.08, PASSING) == {"right": len(SLIDES) * TILES}


@pytest.mark.attack(kind=9)
@pytest.mark.parametrize("seed", [3, 4])
def test_what_stays_is_said_and_heals_with_the_server(shards, server, tmp_path, seed) -> None:
    ends = disturb(shards, server, tmp_path / "cache", seed, 0.6, FAULTS)
    assert set(ends) - {"right"} and set(ends) <= {"right", *ERRORS}


ERRORS = ("DamagedTile", "DamagedShard", "ConnectionError", "PermissionError", "FileNotFoundError", "OSError")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.attack(kind=9)
def test_minutes_on_a_flaky_network(shards, server, tmp_path) -> None:
    began, seed, ends = time.monotonic(), 0, set[str]()
    while time.monotonic() - began < 180:
        seed += 1
        share = random.Random(seed).uniform(0.05, 0.95)
        ends |= set(disturb(shards, server, tmp_path / f"cache{seed}", seed, share, FAULTS))
    assert {"right", "DamagedTile", "ConnectionError"} <= ends <= {"right", *ERRORS}
