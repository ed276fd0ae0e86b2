"""Whatever a disk refuses is one sentence that names the path and says what to do."""

import errno
import os
from pathlib import Path

import anndata
import numpy as np
import pytest

from rnagan.io.disk_errors import in_words
from rnagan.io.files import atomic_path, write_text
from rnagan.io.matrix_parquet_h5ad import read_h5ad
from tests.disks import read_only

NOBODY = 65534
EVERY = ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "EACCES", "EPERM", "EMFILE", "ENFILE", "ENAMETOOLONG", "ENOTDIR")


def sentence(error: OSError) -> str:
    text = in_words(error)
    assert "Errno" not in text and text.endswith(".") and "\n" not in text and ".tmp-" not in text
    return text


@pytest.mark.attack(kind=7)
@pytest.mark.parametrize("name", [*EVERY, "EEXIST", "EISDIR", "ENOENT", "ESTALE", "ELOOP"])
def test_every_error_has_a_sentence_with_its_path(name: str) -> None:
    number = getattr(errno, name)
    assert "a/b.csv" in sentence(OSError(number, os.strerror(number), "a/.tmp-host-1-x/b.csv"))
    assert sentence(OSError(number, os.strerror(number)))


def test_our_own_sentences_stay() -> None:
    assert in_words(FileNotFoundError("x.csv does not exist.")) == "x.csv does not exist."


@pytest.mark.attack(kind=7)
def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File name too long") as raised:
        write_text(tmp_path / ("x" * 300), "text")
    assert "is too long a name for its disk; choose a shorter one." in sentence(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.attack(kind=7)
def test_a_place_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in ("file/x", "file/folder/x"):
        with pytest.raises(OSError) as raised:
            write_text(tmp_path / place, "text")
        assert "where a folder is needed; " in sentence(raised.value) and "file" in sentence(raised.value)


@pytest.mark.attack(kind=7)
def test_a_disk_that_is_read_only(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with read_only(tmp_path / "data", tmp_path / "seen") as seen:
        with pytest.raises(OSError) as raised:
            write_text(seen / "x.txt", "text")
        assert sentence(raised.value).startswith(f"{seen}") and "its disk is read-only; choose" in str(
            sentence(raised.value)
        )


@pytest.mark.attack(kind=7)
def test_an_h5ad_without_permission(tmp_path: Path) -> None:
    locked = tmp_path / "locked.h5ad"
    anndata.AnnData(np.ones((2, 3), np.float32)).write_h5ad(locked)
    locked.chmod(0)
    user = os.geteuid()
    os.seteuid(user or NOBODY)  # root may read everything
    try:
        with pytest.raises(OSError) as raised:
            read_h5ad(locked, backed=True)
    finally:
        os.seteuid(user)
    assert sentence(raised.value).startswith(f"{locked} can't be opened, permission is denied; ")


@pytest.mark.attack(kind=7)
def test_a_write_that_fails_inside_names_its_file(tmp_path: Path) -> None:
    with pytest.raises(OSError) as raised, atomic_path(tmp_path / "x.csv"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert f"({tmp_path}/x.csv)" in sentence(raised.value) and not list(tmp_path.iterdir())
