"""What breaks on the way or in the cache: healed by another try, or said in one sentence."""

import time
import traceback

import pytest

from rnagan.data.remote import RemoteFolder
from tests.data.caches import counted, on_disk
from tests.data.remote.served import BLOCK, IMPATIENT, NAME, QUICK, SIZE


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
