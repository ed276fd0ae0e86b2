"""What is read from a remote folder, how often it is fetched, and which addresses are refused."""

import hashlib
import os
import pickle
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest

from rnagan.data.block_cache import BlockCache
from rnagan.data.remote import RemoteFolder
from rnagan.data.storage import LocalFolder
from tests.data.caches import finish, start
from tests.data.remote.served import BLOCK, NAME, QUICK, SIZE

READ_ALL = f"""
import hashlib, sys
from pathlib import Path
from rnagan.data.block_cache import BlockCache
from rnagan.data.remote import RemoteFolder
url, folder, *names = sys.argv[1:]
remote = RemoteFolder(url, BlockCache(Path(folder), 1 << 20), block_bytes={BLOCK}, backoff_seconds=0.01)
for name in names:
    print(hashlib.sha256(remote.read_range(name, 0, 1 << 30) + remote.read_file("b.parquet")).hexdigest())
"""


def test_ranges_are_those_of_the_local_folder(remote, folder):
    local, draw = LocalFolder(folder), random.Random(2)
    edges = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK, SIZE - 1, SIZE, SIZE + 1, SIZE + BLOCK]
    ranges = [(start, stop - start) for start in edges for stop in edges if start <= stop]
    ranges += [(draw.randrange(SIZE), draw.randrange(3 * BLOCK)) for _ in range(200)]
    for offset, size in ranges:
        assert remote.read_range(NAME, offset, size) == local.read_range(NAME, offset, size), (offset, size)
    assert remote.read_range("empty.tar", 0, 10) == b"" == local.read_range("empty.tar", 0, 10)
    for name in (NAME, "b.parquet", "empty.tar", "dataset.json"):
        assert remote.read_file(name) == local.read_file(name)
        assert remote.size(name) == local.size(name)


def test_only_blocks_that_are_touched_are_fetched_and_only_once(remote, server, cache):
    remote.read_range(NAME, BLOCK + 10, 20)
    assert server.asked() == [(BLOCK, 2 * BLOCK)] and server.bytes_sent == BLOCK
    remote.read_range(NAME, BLOCK + 3000, BLOCK)  # ends in the block after
    remote.read_range(NAME, SIZE - 5, 100)
    assert server.asked() == [(BLOCK, 2 * BLOCK), (2 * BLOCK, 3 * BLOCK), (5 * BLOCK, SIZE)]
    assert len(server.asked("HEAD")) == 1

    seen = len(server.requests)
    again = RemoteFolder(remote.url, BlockCache(cache.folder, 1 << 20), **QUICK)
    assert again.read_range(NAME, SIZE - 5, 100) == remote.read_range(NAME, SIZE - 5, 5)
    assert again.read_range(NAME, BLOCK, 2 * BLOCK) == remote.read_range(NAME, BLOCK, 2 * BLOCK)
    assert len(server.requests) == seen


def test_processes_fetch_each_block_once_together_and_nothing_afterwards(remote, server, folder, cache):
    server.delay_seconds = 0.03
    words = (remote.url, cache.folder, NAME)
    seen = finish(*(start(READ_ALL, *words) for _ in range(4)))
    whole = (folder / NAME).read_bytes() + (folder / "b.parquet").read_bytes()
    assert seen == [hashlib.sha256(whole).hexdigest()] * 4
    blocks = [(at, min(at + BLOCK, SIZE)) for at in range(0, SIZE, BLOCK)]
    assert sorted(server.asked(), key=str) == sorted([*blocks, (None, None)], key=str)
    assert len(server.asked("HEAD")) == 1

    before = len(server.requests)
    assert finish(start(READ_ALL, *words)) == seen[:1] and len(server.requests) == before


def test_threads_share_a_connection_and_fetch_at_once(remote, server, folder):
    server.delay_seconds = 0.05
    whole = (folder / NAME).read_bytes()
    offsets = [at for at in range(0, SIZE, BLOCK)] * 3
    with ThreadPoolExecutor(len(offsets)) as pool:
        assert list(pool.map(lambda at: remote.read_range(NAME, at, 100), offsets)) == [
            whole[at : at + 100] for at in offsets
        ]
    assert len(server.asked()) == 6 and server.most_at_once > 2


def test_a_copy_in_another_process_and_a_fork_read_on(remote, server, folder):
    assert remote.read_range(NAME, 0, 10) == (folder / NAME).read_bytes()[:10]
    copy = pickle.loads(pickle.dumps(remote))
    assert copy.read_range(NAME, BLOCK, 10) == (folder / NAME).read_bytes()[BLOCK : BLOCK + 10]
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(send, remote.read_range(NAME, 3 * BLOCK, 10))
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        assert pipe.read() == (folder / NAME).read_bytes()[3 * BLOCK : 3 * BLOCK + 10]
    os.waitpid(child, 0)
    assert server.asked() == [(0, BLOCK), (BLOCK, 2 * BLOCK), (3 * BLOCK, 4 * BLOCK)]


def test_another_generation_is_fetched_anew(remote, server, folder, cache):
    remote.use_generation("one")
    old = remote.read_range(NAME, 0, 10), remote.read_file("b.parquet")
    assert remote.read_file("dataset.json") == b"{}"
    (folder / NAME).write_bytes(b"rebuilt, and shorter")
    (folder / "b.parquet").write_bytes(b"rebuilt")
    (folder / "dataset.json").write_bytes(b'{"new": 1}')
    assert (remote.read_range(NAME, 0, 10), remote.read_file("b.parquet")) == old
    assert remote.read_file("dataset.json") == b'{"new": 1}'
    remote.use_generation("two")
    assert remote.read_range(NAME, 0, 100) == b"rebuilt, and shorter" and remote.read_file("b.parquet") == b"rebuilt"
    remote.use_generation("one")
    assert remote.read_range(NAME, 0, 10) == old[0]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("simplecache::s3://bucket/x", "is a chain of addresses"),
        ("zip://x::http://host/y.zip", "is a chain of addresses"),
        ("file:///data/shards", r"file:///data/shards lies on this machine; give its plain path"),
        ("local:///data/shards", "lies on this machine"),
        ("magic://host/x", r"magic://host/x: nothing here reads magic://"),
        ("/data/shards", "is no URL"),
        ("https://", "is no URL"),
        ("s3://me:secret@bucket::x", r"^s3://\*\*\*@bucket::x is a chain"),
    ],
)
def test_addresses_that_are_refused(cache, url, message):
    with pytest.raises(ValueError, match=message):
        RemoteFolder(url, cache)


def test_a_missing_package_is_named(cache, monkeypatch):
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "s3fs"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ValueError, match=r"s3://bucket/x needs a package that isn't there; pip install s3fs$"):
        RemoteFolder("s3://bucket/x", cache)


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a..b", "\\a", "../x"])
def test_names_that_could_lead_out_are_refused(remote, server, name):
    for read in (remote.read_file, remote.size, lambda name: remote.read_again(name, 0, 1)):
        with pytest.raises(ValueError, match="can't name a file"):
            read(name)
    assert not server.requests


def test_caches_that_are_refused(tmp_path, cache):
    (tmp_path / "file").write_text("")
    for place in ("file", "file/below"):
        with pytest.raises(ValueError, match=r"The cache folder .*file.* can't be used \(.*\); choose another\.$"):
            BlockCache(tmp_path / place, 1 << 20)
    with pytest.raises(ValueError, match="holds nothing"):
        BlockCache(tmp_path / "small", 10)
    with pytest.raises(ValueError, match="let it hold more"):
        RemoteFolder("http://host/x", cache, block_bytes=2 << 20)


def test_a_cache_that_fails_later_says_so(remote, cache):
    (cache.folder / "incoming").write_text("in the way")
    with pytest.raises(
        OSError, match=r"^The cache folder .* can't be written \(.*\); make room there or choose another\.$"
    ):
        remote.read_range(NAME, 0, 10)


def test_any_protocol_of_fsspec_will_do(cache, folder):
    files = fsspec.filesystem("memory")
    files.pipe_file("/shards/a.tar", (folder / NAME).read_bytes())
    remote = RemoteFolder("memory://shards", cache, block_bytes=BLOCK)
    assert remote.read_range("a.tar", BLOCK - 1, BLOCK) == (folder / NAME).read_bytes()[BLOCK - 1 : 2 * BLOCK - 1]
    with pytest.raises(FileNotFoundError, match="memory://shards/b.tar does not exist"):
        remote.size("b.tar")


def test_a_process_that_is_killed_while_it_fetches_frees_its_block(remote, server, folder, cache):
    remote.size(NAME)
    server.fail("hang")
    victim = start(READ_ALL, remote.url, cache.folder, NAME)
    while not server.asked():
        time.sleep(0.01)
    waiting = []
    other = threading.Thread(target=lambda: waiting.append(remote.read_range(NAME, 0, 10)))
    other.start()
    other.join(0.2)
    assert other.is_alive() and len(server.asked()) == 1  # waits for the other process's fetch
    victim.kill()
    other.join(5)
    assert waiting == [(folder / NAME).read_bytes()[:10]]
    victim.communicate()
