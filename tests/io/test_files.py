import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from rnagan.commands.options import plain_errors
from rnagan.io.files import (
    atomic_path,
    read_json,
    remove_leftovers,
    scratch_prefix,
    sha256_of,
    sha256_of_file,
    write_json,
    write_text,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_at_the_end(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_path(path) as temporary:
        assert temporary.parent.parent == path.parent and temporary.suffix == ".txt"  # same disk, same suffix
        temporary.write_text("x")
        assert not path.exists()
    assert path.read_text() == "x" and names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("folder", [False, True])
def test_a_failure_leaves_the_old_and_nothing_else(tmp_path, folder):
    path = tmp_path / "a"
    if folder:
        path.mkdir()
        (path / "old").touch()
    else:
        path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        if folder:
            temporary.mkdir()
            (temporary / "new").touch()
        else:
            temporary.write_text("new")
        raise RuntimeError
    assert names(tmp_path) == ["a"]
    assert (names(path) == ["old"]) if folder else (path.read_text() == "old")


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for content in ("first", "second"):
        with atomic_path(tmp_path / "a") as temporary:
            temporary.mkdir()
            (temporary / content).touch()
    assert names(tmp_path) == ["a"] and names(tmp_path / "a") == ["second"]


def test_an_old_folder_survives_a_block_that_wrote_nothing(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    with pytest.raises(AssertionError, match="nothing was written"), atomic_path(tmp_path / "a"):
        pass
    assert names(tmp_path / "a") == ["old"] and names(tmp_path) == ["a"]


def test_a_killed_process_leaves_nothing_half_written(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    code = (
        "import os, signal, sys; from pathlib import Path; from rnagan.io.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1]) / 'a.txt') as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code, tmp_path], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    left = [name for name in names(tmp_path) if name != "a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old" and len(left) == 1 and left[0].startswith(".tmp-")
    write_text(tmp_path / "a.txt", "new")  # and the leftovers are in nobody's way
    assert (tmp_path / "a.txt").read_text() == "new"


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    write_json(tmp_path / "a.json", {"old": 1})

    def full(path, *args, **kwargs):
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_text", full)

    @click.command()
    @plain_errors
    def command():
        write_json(tmp_path / "a.json", {"new": 2})

    result = CliRunner().invoke(command)
    assert result.exit_code == 1 and len(result.output.strip().splitlines()) == 1
    assert result.output.startswith("Error: the disk is full (") and "a.json" in result.output
    assert "free space and start again" in result.output
    assert names(tmp_path) == ["a.json"] and read_json(tmp_path / "a.json") == {"old": 1}


def test_json_round_trip_and_refusals(tmp_path):
    value = {"β": [1, 2.5, None, True], "b": {"a": "ü"}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value and list(json.loads((tmp_path / "a.json").read_text())) == ["β", "b"]
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(tmp_path / "a.json", {"x": wrong})
    assert read_json(tmp_path / "a.json") == value
    with pytest.raises(FileNotFoundError, match=r"none\.json does not exist\.$"):
        read_json(tmp_path / "none.json")


@pytest.mark.parametrize("content", [b'{"a": 1', b"", b'{"a": "\xff"}'])
def test_broken_json_names_the_file(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON \(.*\); delete it and run the step that makes it"):
        read_json(tmp_path / "a.json")


def test_digests(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256_of_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of({"a": 1, "b": [1, 2]}) == sha256_of({"b": [1, 2], "a": 1})
    others = [{"a": 1, "b": [2, 1]}, {"a": 1}, {"a": "1", "b": [1, 2]}]
    assert len({sha256_of(value) for value in [{"a": 1, "b": [1, 2]}, *others]}) == 4


def test_leftovers_of_dead_processes_and_of_long_ago_are_removed(tmp_path):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    host = socket.gethostname()
    dead, alive, elsewhere, old = (
        tmp_path / name
        for name in (
            f".tmp-{host}-{int(ended.stdout)}-abc",
            f"{scratch_prefix()}abc",
            f".tmp-other-{int(ended.stdout)}-abc",
            f".tmp-other-{int(ended.stdout)}-old",
        )
    )
    for folder in (dead, alive, elsewhere, old):
        folder.mkdir()
        (folder / "half.tar").touch()
    for path in (old / "half.tar", old):
        os.utime(path, (0, 0))
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {alive.name, elsewhere.name}


@pytest.mark.attack(kind=6, ends="unharmed")
def test_the_first_write_into_a_folder_removes_what_killed_processes_left(tmp_path):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    left, alive = (tmp_path / f".tmp-{socket.gethostname()}-{pid}-abc" for pid in (int(ended.stdout), os.getpid()))
    for folder in (left, alive):
        folder.mkdir()
        (folder / "half").touch()
        os.utime(folder / "half", (0, 0))
        os.utime(folder, (0, 0))
    (tmp_path / ".tmp-of-another-program").mkdir()
    os.utime(tmp_path / ".tmp-of-another-program", (0, 0))
    write_text(tmp_path / "a.txt", "x")
    # however long nothing has changed in the one that is alive
    assert names(tmp_path) == sorted([alive.name, ".tmp-of-another-program", "a.txt"])
