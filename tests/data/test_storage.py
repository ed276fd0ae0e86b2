import pickle
import resource

import pytest

from rnagan.data import storage
from rnagan.data.index import open_dataset
from rnagan.data.storage import LocalFolder, open_storage


def test_ranges_of_a_local_file(tmp_path):
    (tmp_path / "a").write_bytes(bytes(range(200)))
    folder = open_storage(tmp_path)
    assert folder.address == str(tmp_path) and not folder.is_remote
    assert folder.read_file("a") == bytes(range(200)) and folder.size("a") == 200
    assert folder.read_range("a", 10, 5) == folder.read_again("a", 10, 5) == bytes(range(10, 15))
    assert folder.read_range("a", 190, 50) == bytes(range(190, 200))
    with pytest.raises(FileNotFoundError):
        folder.read_range("b", 0, 1)


def test_worker_processes_open_their_own_files(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    folder = LocalFolder(tmp_path)
    folder.read_range("a", 0, 1)
    assert pickle.loads(pickle.dumps(folder)).read_range("a", 1, 2) == b"bc"


def test_more_open_files_are_asked_for_where_few_are_allowed():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
        assert storage._allow_open_files() == min(storage.OPEN_FILES, before[1] - 512)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(storage.OPEN_FILES + 512, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("given", ["0", "-3", "much", "nan"])
def test_a_cache_size_that_is_none(monkeypatch, tmp_path, given):
    monkeypatch.setenv("RNAGAN_CACHE", str(tmp_path))
    monkeypatch.setenv("RNAGAN_CACHE_GB", given)
    with pytest.raises(ValueError, match=f"RNAGAN_CACHE_GB must be a size in GB, not '{given}'"):
        open_dataset("https://example.org/shards")


@pytest.mark.parametrize("address", ["pipe:cat x", "no/such/folder"])
def test_what_is_no_folder(address):
    with pytest.raises(FileNotFoundError, match=r"is no finished folder of shards \(no dataset\.json\)"):
        open_dataset(address)
