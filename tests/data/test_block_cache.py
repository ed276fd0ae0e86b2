import hashlib
import os
import random
import signal
import time

import pytest

from rnagan.data.block_cache import BlockCache
from tests.data.caches import counted, finish, on_disk, start


def test_the_oldest_used_go_first_and_the_bound_holds(tmp_path):
    cache = BlockCache(tmp_path / "cache", 10 * 4096)
    fetched = []

    def read(key):
        return cache.read(key, lambda: fetched.append(key) or key.encode() * 4096)

    for number in range(10):
        read(str(number))
    assert counted(cache) == on_disk(cache) == 10 * 4096
    for age, key in enumerate("3567", start=1):  # older than the others, 3 the least so
        name = hashlib.sha256(key.encode()).hexdigest()
        os.utime(cache.folder / "blocks" / name[:2] / name, (time.time() - 1000 * age,) * 2)
    assert read("7") == b"7" * 4096  # the oldest is used, which counts
    read("n")  # a tenth of the bound is made free for it
    assert counted(cache) == on_disk(cache) == 9 * 4096
    fetched.clear()
    for key in "01234789n":
        read(key)
    assert not fetched
    read("6"), read("5")
    assert fetched == ["6", "5"]
    cache.read("too large", lambda: bytes(11 * 4096))
    assert counted(cache) == on_disk(cache) <= 10 * 4096


def test_a_smaller_bound_holds_from_the_start_and_a_lost_count_is_made_again(tmp_path):
    cache = BlockCache(tmp_path / "cache", 10 * 4096)
    for number in range(10):
        cache.read(str(number), lambda: bytes(4096))
    for lost in ("nonsense", "", f"{10**19:020d}"):
        (cache.folder / "usage").write_text(lost)
        assert on_disk(BlockCache(cache.folder, 10 * 4096)) == 10 * 4096 == counted(cache)
    assert on_disk(BlockCache(cache.folder, 4 * 4096)) == 4 * 4096 == counted(cache)


# Reads entries whose bytes follow from their key, checks them, and says how many it made
HAMMER = """
import sys, random, time
from pathlib import Path
from rnagan.data.block_cache import BlockCache
folder, bound, seed, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
cache, draw, made = BlockCache(Path(folder), bound), random.Random(seed), 0
def make(key):
    global made
    made += 1
    return key.encode() * 4096
print("go", flush=True)
end = time.monotonic() + seconds
while time.monotonic() < end:
    key = chr(97 + draw.randrange(26))
    start = draw.randrange(4000)
    assert cache.read(key, lambda: make(key), slice(start, start + 50), 4096) == key.encode() * 50
    if draw.random() < 0.02:
        cache.drop(key)
print(made)
"""


def check_kept(cache):
    """The bound holds, is counted as what is there or more, and each entry is whole."""
    assert on_disk(cache) <= min(cache.max_bytes, counted(cache)) and counted(cache) <= cache.max_bytes
    for path in cache.folder.glob("blocks/*/*"):
        data = path.read_bytes()
        assert len(data) == 4096 and data == data[:1] * 4096
        assert path.name == hashlib.sha256(data[:1]).hexdigest()


def test_the_bound_holds_while_processes_compete(tmp_path):
    cache = BlockCache(tmp_path / "cache", 8 * 4096)
    workers = [start(HAMMER, cache.folder, cache.max_bytes, seed, 1.0) for seed in range(3)]
    most = 0
    while any(worker.poll() is None for worker in workers):
        with cache._usage():  # so that what is looked at doesn't change meanwhile
            most = max(most, on_disk(cache))
    made = [int(out.split()[1]) for out in finish(*workers)]
    assert min(made) > 26 and sum(made) > 200  # evicted all the time
    assert 6 * 4096 <= most <= cache.max_bytes
    check_kept(cache)
    assert counted(cache) == on_disk(cache) and not list(cache.folder.glob("incoming/*"))


def test_killed_processes_leave_a_cache_that_works(tmp_path):
    cache, draw = BlockCache(tmp_path / "cache", 8 * 4096), random.Random(4)
    for round in range(4):
        workers = [start(HAMMER, cache.folder, cache.max_bytes, 10 * round + seed, 30) for seed in range(2)]
        for worker in workers:
            assert worker.stdout.readline() == "go\n"
        time.sleep(draw.uniform(0.02, 0.1))
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
        for worker in workers:
            worker.communicate()
            assert worker.returncode == -signal.SIGKILL
        check_kept(cache)
    finish(start(HAMMER, cache.folder, cache.max_bytes, 99, 0.1))
    check_kept(cache)


@pytest.mark.parametrize("open_again", [True, False])
def test_leftovers_are_removed_when_a_cache_is_opened_or_full(tmp_path, open_again):
    cache = BlockCache(tmp_path / "cache", 8 * 4096)
    for name in ("elsewhere-1", "here-2"):
        (cache.folder / "incoming").mkdir(exist_ok=True)
        (cache.folder / "incoming" / f".tmp-{name}-block").write_bytes(bytes(3 * 4096))
    if open_again:
        cache = BlockCache(cache.folder, cache.max_bytes)
    else:
        for number in range(9):
            cache.read(str(number), lambda: bytes(4096))
    assert not list(cache.folder.glob("incoming/*")) and counted(cache) == on_disk(cache) <= cache.max_bytes
