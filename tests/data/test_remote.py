import hashlib
import os
import pickle
import random
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import boto3
import fsspec
import pytest
from moto.server import ThreadedMotoServer

from rnagan.data.block_cache import BlockCache
from rnagan.data.remote import RemoteFolder
from rnagan.data.storage import LocalFolder
from tests.data.caches import counted, finish, on_disk, start
from tests.data.servers import WebServer

BLOCK = 4096
SIZE = 5 * BLOCK + 123
NAME = "a 1#%é.tar"  # what a slide may be called, and a URL must escape
QUICK = {"block_bytes": BLOCK, "backoff_seconds": 0.01, "read_seconds": 10.0}
IMPATIENT = {**QUICK, "read_seconds": 0.3}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "served" / "my shards"
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(random.Random(0).randbytes(SIZE))
    (folder / "b.parquet").write_bytes(random.Random(1).randbytes(3000))
    (folder / "empty.tar").write_bytes(b"")
    (folder / "dataset.json").write_bytes(b"{}")
    return folder


@pytest.fixture
def server(folder):
    server = WebServer(folder.parent)
    yield server
    server.close()


@pytest.fixture
def cache(tmp_path):
    return BlockCache(tmp_path / "cache", 1 << 20)


@pytest.fixture
def remote(server, cache):
    return RemoteFolder(f"{server.url}/my shards/", cache, **QUICK)


@pytest.fixture
def impatient(server, cache):
    return RemoteFolder(f"{server.url}/my shards/", cache, **IMPATIENT)


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


def spoil(cache, change):
    """Change the bytes of everything that is kept."""
    paths = list(cache.folder.glob("blocks/*/*"))
    for path in paths:
        path.write_bytes(change(path.read_bytes()))
    return len(paths)


def test_read_again_heals_a_corrupt_block_and_leaves_the_others(remote, server, folder, cache):
    whole = (folder / NAME).read_bytes()
    remote.read_range(NAME, 0, SIZE)
    assert spoil(cache, lambda data: bytes(255 - value for value in data)) == 7  # six blocks and the size
    assert remote.read_range(NAME, BLOCK + 5, 10) != whole[BLOCK + 5 : BLOCK + 15]  # a tile's sum would tell
    seen = len(server.asked())
    assert remote.read_again(NAME, BLOCK + 5, BLOCK) == whole[BLOCK + 5 : 2 * BLOCK + 5]
    assert server.asked()[seen:] == [(BLOCK, 2 * BLOCK), (2 * BLOCK, 3 * BLOCK)]
    assert remote.read_range(NAME, BLOCK + 5, 10) == whole[BLOCK + 5 : BLOCK + 15]
    assert remote.read_range(NAME, 0, 5) != whole[:5]
    assert counted(cache) == on_disk(cache)


def test_read_again_notices_that_a_file_has_grown(remote, folder):
    (folder / "b.parquet").write_bytes(b"short")
    assert remote.read_range("b.parquet", 0, 100) == b"short"
    (folder / "b.parquet").write_bytes(b"longer")
    assert remote.read_again("b.parquet", 0, 100) == b"longer"


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: b"", lambda data: data[:-1] + b"?"])
def test_kept_files_and_cut_blocks_heal_by_themselves(remote, server, folder, cache, change):
    def read(remote):
        return remote.read_file("b.parquet"), remote.size(NAME), len(remote.read_range(NAME, 0, SIZE))

    expected = read(remote)
    spoil(cache, change)
    seen = len(server.requests)
    assert read(RemoteFolder(remote.url, cache, **QUICK)) == expected
    assert len(server.requests) - seen in (2, 8)  # the file and the size; blocks that have their length are believed


HEALS = [
    ["500"],
    ["503", "429", "502", "408"],
    ["reset"],
    ["cut"],
    ["short"],
    ["hang"],
    ["reset", "500", "cut", "hang"],
]


@pytest.mark.parametrize("faults", HEALS, ids="-".join)
def test_faults_that_pass_are_healed_by_another_try(remote, impatient, server, folder, faults):
    remote = impatient if "hang" in faults else remote
    server.fail(*faults)
    assert remote.read_range(NAME, SIZE - 50, 50) == (folder / NAME).read_bytes()[-50:]
    # aiohttp itself repeats at once what breaks before an answer on a connection that was open before
    assert len(faults) < len(server.asked()) <= len(faults) + 1 + faults.count("reset")
    if "short" not in faults:  # a whole file that says so is whole
        server.fail(*faults)
        assert remote.read_file("b.parquet") == (folder / "b.parquet").read_bytes()


def test_faults_while_the_size_is_asked_are_healed(impatient, server):
    for fault in ("500", "reset", "hang"):
        server.fail(fault, fault, method="HEAD")
        server.fail(fault)  # fsspec's second way to ask
    assert impatient.size(NAME) == SIZE


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("500", "HTTP 500"),
        ("429", "HTTP 429"),
        ("reset", "Connection reset|Server disconnected"),
        ("cut", "Not enough data.*received 61 of 123"),
        ("short", "61 of 123 bytes came"),
        ("hang", "[Tt]imeout"),
    ],
)
def test_faults_that_stay_end_in_one_sentence(remote, impatient, server, fault, reason):
    remote = impatient if fault == "hang" else remote
    remote.size(NAME)
    server.always["GET"] = fault
    with pytest.raises(ConnectionError) as error:
        remote.read_range(NAME, SIZE - 5, 5)
    pattern = rf"{server.url}/my shards/{NAME} could not be read in 5 tries \(.*({reason}).*\); see whether [^\n]*\.$"
    error.match(pattern)
    assert len(server.asked()) >= 5
    server.always.clear()
    assert len(remote.read_range(NAME, SIZE - 5, 5)) == 5  # the lock of the block is free, and nothing bad was kept


def test_a_server_that_is_not_there_ends_in_one_sentence(remote, server):
    server.close()
    with pytest.raises(ConnectionError, match=r"could not be read in 5 tries \(ConnectionRefused.*Connect call failed"):
        remote.read_file("dataset.json")


def test_waiting_between_tries_doubles(server, cache, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    server.always["GET"] = "500"
    with pytest.raises(ConnectionError):
        RemoteFolder(server.url, cache).read_file("dataset.json")
    assert [wait for wait in waits if wait] == [0.25, 0.5, 1.0, 2.0]  # the server's own waits are 0


def test_a_slow_answer_that_flows_is_waited_for(impatient, server, folder):
    impatient.size(NAME)
    server.fail("slow")
    began = time.monotonic()
    assert impatient.read_range(NAME, 0, BLOCK) == (folder / NAME).read_bytes()[:BLOCK]
    assert time.monotonic() - began > 2 * impatient.read_seconds and len(server.asked()) == 1


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("404", FileNotFoundError, r"/my shards/{} does not exist\.$"),
        ("410", FileNotFoundError, r"/my shards/{} does not exist\.$"),
        ("403", PermissionError, r"/my shards/{} may not be read \(HTTP 403 Forbidden\); see to your credentials\.$"),
        (
            "401",
            PermissionError,
            r"/my shards/{} may not be read \(HTTP 401 Unauthorized\); see to your credentials\.$",
        ),
        ("400", OSError, r"/my shards/{} can't be read \(HTTP 400 Bad Request\); see whether the address is right\.$"),
    ],
)
def test_answers_that_stay_are_not_asked_for_again(remote, server, fault, error, message):
    remote.size(NAME)
    server.always.update(GET=fault, HEAD=fault)
    for read, name in (
        (lambda: remote.read_range(NAME, 0, 5), NAME),
        (lambda: remote.read_file("b.parquet"), "b.parquet"),
        (lambda: remote.size("b.parquet"), "b.parquet"),
    ):
        seen = len(server.asked())
        with pytest.raises(error, match=message.format(name)) as caught:
            read()
        assert type(caught.value) is error and len(server.asked()) == seen + 1


def test_a_missing_file_is_not_remembered(remote, folder):
    with pytest.raises(FileNotFoundError):
        remote.size("late.tar")
    (folder / "late.tar").write_bytes(b"late")
    assert remote.read_range("late.tar", 0, 10) == b"late"


def test_a_server_without_ranges_is_refused_before_it_sends_the_file(remote, server, folder):
    with open(folder / "large.tar", "wb") as file:
        file.truncate(64 << 20)
    server.always["GET"] = "whole"
    with pytest.raises(OSError, match=r"/large.tar is sent whole .*; use a server that knows byte ranges\.$"):
        remote.read_range("large.tar", 0, 10)
    assert len(server.asked()) == 1 and server.bytes_sent < 16 << 20  # what the buffers of both sides hold
    assert remote.read_range("b.parquet", 0, 10) == (folder / "b.parquet").read_bytes()[:10]  # whole is what is needed


def test_a_server_that_refuses_head_or_tells_no_length(remote, server, folder):
    server.always["HEAD"] = "405"
    assert remote.read_range(NAME, 0, 10) == (folder / NAME).read_bytes()[:10]
    server.always.update(HEAD="unsized", GET="unsized")
    with pytest.raises(OSError, match=r"b.parquet has no known length; use a server that sends Content-Length\.$"):
        remote.size("b.parquet")


def test_secrets_reach_the_server_and_no_message(server, cache):
    url = server.url.replace("//", "//me:pass+word@") + "/my shards?sig=s3cr3t%2F"
    remote = RemoteFolder(url, cache, **IMPATIENT, tries=2)
    assert remote.address == server.url.replace("//", "//***@") + "/my shards"
    assert remote.size(NAME) == SIZE and len(remote.read_range(NAME, 0, 10)) == 10
    assert {request.query for request in server.requests} == {"sig=s3cr3t%2F"}
    assert all(request.authorization.startswith("Basic ") for request in server.requests)
    server.always["HEAD"] = "403"
    for fault in ("403", "404", "400", "500", "reset", "hang"):
        server.always["GET"] = fault
        for read in (remote.read_file, remote.size):
            with pytest.raises(OSError) as error:
                read("b.parquet")
            text = "".join(traceback.format_exception(error.value))
            assert "s3cr3t" not in text and "pass+word" not in text and "me:" not in text


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


# ---- S3


@pytest.fixture
def credentials(monkeypatch, tmp_path):
    """Those of nobody, and nothing of this machine's own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")


@pytest.fixture(scope="module")
def s3_url():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(credentials, folder, monkeypatch, s3_url):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    client = boto3.client("s3")
    client.create_bucket(Bucket="tissue")
    for path in folder.iterdir():
        client.put_object(Bucket="tissue", Key=f"my shards/{path.name}", Body=path.read_bytes(), ACL="public-read")
    return "s3://tissue/my shards"


def test_s3_reads_as_the_local_folder(bucket, cache, folder):
    remote, local = RemoteFolder(bucket, cache, **QUICK), LocalFolder(folder)
    for offset, size in [(0, 1), (BLOCK - 1, 2), (0, SIZE), (SIZE - 3, 99), (SIZE, 5), (2 * BLOCK, BLOCK)]:
        assert remote.read_range(NAME, offset, size) == local.read_range(NAME, offset, size)
    assert remote.read_file("b.parquet") == local.read_file("b.parquet")
    assert remote.size(NAME) == SIZE
    with pytest.raises(FileNotFoundError, match=r"s3://tissue/my shards/c.tar does not exist\.$"):
        remote.size("c.tar")
    with pytest.raises(FileNotFoundError, match=r"s3://tissue/my shards/c.tar does not exist\.$"):
        remote.read_file("c.tar")
    with pytest.raises(FileNotFoundError, match="s3://tissue/my shards does not exist"):
        RemoteFolder("s3://tissue", cache, **QUICK).size("my shards")  # that is a folder
    missing = RemoteFolder("s3://elsewhere/x", cache, **QUICK)
    for read in (missing.read_file, missing.size):
        with pytest.raises(FileNotFoundError, match=r"s3://elsewhere/x/dataset.json does not exist\.$"):
            read("dataset.json")


def test_s3_without_credentials_says_so_at_once(bucket, cache, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    remote = RemoteFolder(bucket, cache, backoff_seconds=100)
    message = r"dataset.json may not be read \(.*credentials.*\); see to your credentials; .* FSSPEC_S3_ANON=true\.$"
    for read in (remote.read_file, remote.size):
        with pytest.raises(PermissionError, match=message):
            read("dataset.json")
    monkeypatch.setitem(fsspec.config.conf, "s3", {"anon": "true"})  # as the variable does on import
    assert RemoteFolder(bucket, cache).read_file("dataset.json") == b"{}"


@pytest.mark.parametrize("faults", [["503", "500", "429"], ["cut"], ["short"], ["hang"], ["reset"]], ids="-".join)
def test_s3_faults_are_tried_again_and_counted(credentials, server, folder, cache, monkeypatch, faults):
    """The web server is S3 enough: it gets paths /bucket/key, and ranges."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    remote = _s3_folder(folder, cache, {**IMPATIENT, "tries": 3} if faults == ["hang"] else QUICK)
    remote.size("b.tar")
    server.fail(*faults)
    assert remote.read_range("b.tar", 0, 100) == (folder / NAME).read_bytes()[:100]
    assert len(server.asked()) == len(faults) + 1
    server.requests.clear()
    server.always["GET"] = faults[0]
    message = rf"^s3://tissue/shards/b.tar could not be read in {remote.tries} tries \(.*\); see"
    with pytest.raises(ConnectionError, match=message):
        remote.read_range("b.tar", BLOCK, 100)
    # no tries of botocore or s3fs besides; aiohttp repeats at once what breaks before an answer
    assert len(server.asked()) == remote.tries * (2 if faults == ["reset"] else 1)


def test_s3_that_refuses_says_so_at_once(credentials, server, folder, cache, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    remote = _s3_folder(folder, cache, QUICK)
    server.always.update(GET="403", HEAD="403")
    for read in (remote.read_file, remote.size):
        with pytest.raises(PermissionError, match=r"s3://tissue/shards/b.tar may not be read \(HTTP 403.*\)"):
            read("b.tar")
    assert len(server.requests) == 2


def _s3_folder(folder, cache, settings):
    served = folder.parent / "tissue" / "shards"
    served.mkdir(parents=True)
    (served / "b.tar").write_bytes((folder / NAME).read_bytes())
    return RemoteFolder("s3://tissue/shards", cache, **settings)
