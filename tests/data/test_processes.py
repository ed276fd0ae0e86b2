"""The stream over real processes: keys of 2 and 4 gloo processes, gathered, against those of one."""

import json
from itertools import islice

import pytest

from rnagan.data.loader import Loading, tile_batches
from rnagan.data.reader import TileReader
from rnagan.data.sampler import TileOrder, WeightedOrder
from tests import programs

TILES = {f"s{n}": 1 + 3 * n % 11 for n in range(9)}  # uneven: 49 tiles
BATCH, BATCHES, START = 12, 12, 5  # nearly three epochs

# What each process does: read its batches, and gather what all have read.
READ = """
import json, sys
from itertools import islice
import torch.distributed as dist
from rnagan.data.index import open_dataset
from rnagan.data.loader import Loading, tile_batches
from rnagan.data.sampler import TileOrder, WeightedOrder
from rnagan.data.reader import TileReader

if __name__ == "__main__":
    folder, out, given = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    dist.init_process_group("gloo")
    rank, processes = dist.get_rank(), dist.get_world_size()
    shards = open_dataset(folder)
    slides = shards.slides["slide"].tolist()
    counts = shards.slides["tiles"].to_numpy()
    order = TileOrder(counts, 3, 4)
    if given["weights"]:
        order = WeightedOrder(counts, given["groups"], given["weights"], 3, 4)
    batches = tile_batches(
        TileReader(shards, slides), order, given["start"], given["batch"], rank, processes,
        Loading(workers=given["workers"]),
    )
    keys = {slide: shards.index(slide)["key"].tolist() for slide in slides}
    read = []
    for batch in islice(batches, given["batches"]):
        tiles = zip(batch.slides.tolist(), batch.tiles.tolist(), batch.images.sum(dim=(1, 2, 3)).tolist())
        read.append([batch.start, [[keys[slides[slide]][k], total] for slide, k, total in tiles]])
    gathered = [None] * processes
    dist.all_gather_object(gathered, read)
    if rank == 0:
        json.dump(gathered, open(out, "w"))
    dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "read.py"
    path.write_text(READ)
    return path


def read_by(processes, script, shards, out, **given):
    """What `processes` processes have read: for each of them its batches."""
    asked = {"workers": 0, "weights": None, "start": START, "batch": BATCH, "batches": BATCHES} | given
    words = (script, shards.address, out, json.dumps(asked | {"groups": [f"t{n % 3}" for n in range(9)]}))
    programs.run(*words, env={"OMP_NUM_THREADS": "1"}, processes=processes).check()
    return json.loads(out.read_text())


def in_order(read):
    """(image number, key, sum of pixels) of all that was read."""
    rows = [(batch[0] + at, *tile) for process in read for batch in process for at, tile in enumerate(batch[1])]
    return sorted(map(tuple, rows))


def expected(shards, count, start=START, weights=None):
    """By this process, one image after another."""
    slides = list(TILES)
    counts, keys = [TILES[slide] for slide in slides], {slide: shards.index(slide)["key"] for slide in slides}
    order = TileOrder(counts, 3, 4)
    if weights:
        order = WeightedOrder(counts, [f"t{n % 3}" for n in range(9)], weights, 3, 4)
    batches = tile_batches(TileReader(shards, slides), order, start, 1, loading=Loading(threads=1))
    rows = []
    for batch in islice(batches, count):
        key = keys[slides[batch.slides.item()]][batch.tiles.item()]
        rows.append((batch.start, key, batch.images.sum().item()))
    return rows


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.distributed
@pytest.mark.parametrize(
    ("processes", "workers", "weights"),
    [(2, 2, None), (4, 0, {"t0": 2, "t1": 1, "t2": 0})],
)
def test_processes_read_what_one_reads(script, make_shards, tmp_path, processes, workers, weights):
    shards = make_shards(TILES)
    read = read_by(processes, script, shards, tmp_path / "read.json", workers=workers, weights=weights)
    assert len(read) == processes
    assert {len(batch[1]) for process in read for batch in process} == {BATCH // processes}  # equal counts
    assert {len(process) for process in read} == {BATCHES}
    rows = in_order(read)
    assert [row[0] for row in rows] == list(range(START, START + BATCH * BATCHES))  # nobody reads what another reads
    assert rows == expected(shards, BATCH * BATCHES, weights=weights)
    if weights is None:
        one_epoch = [row[1] for row in rows[sum(TILES.values()) - START :][: sum(TILES.values())]]
        every = [key for slide in TILES for key in shards.index(slide)["key"]]
        assert sorted(one_epoch) == sorted(every)


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.distributed
def test_one_goes_on_where_four_stopped_and_two_after_it(script, make_shards, tmp_path):
    shards, out = make_shards(TILES), tmp_path / "read.json"
    rows = in_order(read_by(4, script, shards, out, start=0, batch=8, batches=3))
    rows += expected(shards, 35, start=24)
    rows += in_order(read_by(2, script, shards, out, start=59, batch=10, batches=4))
    assert rows == expected(shards, 99, start=0)
