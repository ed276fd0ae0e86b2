"""Downloads in miniature: empty slide files, tables, and the header of a GCT."""

import gzip
from pathlib import Path

import pytest


@pytest.fixture
def slide_folder(tmp_path):
    """slide_folder(*names) makes empty files in tmp_path/slides, each in a folder of its own, as from the GDC."""

    def make(*names: str) -> Path:
        for number, name in enumerate(names):
            (tmp_path / "slides" / str(number)).mkdir(parents=True, exist_ok=True)
            (tmp_path / "slides" / str(number) / name).touch()
        return tmp_path / "slides"

    return make


@pytest.fixture
def write(tmp_path):
    """write(name, *rows) writes lines into tmp_path/name, gzipped where the name says so; cells are parted by `|`."""

    def make(name: str, *rows: str) -> Path:
        separator = "," if ".csv" in name else "\t"
        text = "".join(row.replace("|", separator) + "\n" for row in rows)
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return make
