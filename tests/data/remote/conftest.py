"""A folder, a web server that serves it, and the folder as it is read from there."""

import random

import pytest

from rnagan.data.block_cache import BlockCache
from rnagan.data.remote import RemoteFolder
from tests.data.remote.served import IMPATIENT, NAME, QUICK, SIZE
from tests.data.servers import WebServer


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
