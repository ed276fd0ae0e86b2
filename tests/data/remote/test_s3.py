"""Folders in an S3 bucket."""

import os

import fsspec
import pytest

from rnagan.data.remote import RemoteFolder
from rnagan.data.storage import LocalFolder
from tests.data.remote.served import BLOCK, IMPATIENT, NAME, QUICK, SIZE


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
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(credentials, folder, monkeypatch, s3_url):
    import boto3

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
