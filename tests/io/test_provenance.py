"""A product is stale when its request, a file that it was made from, or rnagan's source has changed."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rnagan.io import provenance
from rnagan.io.files import write_json
from rnagan.io.provenance import asked, read_current, source_digest


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of two files in the place of rnagan."""
    folder = tmp_path / "package"
    (folder / "room/__pycache__").mkdir(parents=True)
    (folder / "room/one.py").write_text("a = 1\n")
    (folder / "room/page.html").write_text("<p>")
    monkeypatch.setattr(provenance, "PACKAGE", folder)
    provenance._digest_of_sources.cache_clear()
    yield folder
    provenance._digest_of_sources.cache_clear()


def product(folder: Path, **what: object) -> tuple[Path, str]:
    digest = asked(**what)
    write_json(folder / "product.json", {"asked": digest, "value": 1})
    return folder / "product.json", digest


@pytest.mark.parametrize("change", ["room/one.py", "room/page.html", "room/new.py"])
def test_a_changed_source_file_makes_a_product_stale_and_an_unchanged_one_does_not(
    package: Path, tmp_path: Path, change: str
) -> None:
    path, digest = product(tmp_path, seed=1)
    without_code = asked(code=False, seed=1)
    (package / "room/__pycache__/one.pyc").write_bytes(b"compiled")
    (package / "room/one.py").write_text("a = 1\n")  # written again as it was
    provenance._digest_of_sources.cache_clear()
    assert asked(seed=1) == digest and read_current(path, digest) == {"asked": digest, "value": 1}
    (package / change).write_text("a = 2\n")
    assert asked(seed=1) == digest  # a process reads its source once
    provenance._digest_of_sources.cache_clear()
    assert asked(seed=1) != digest and read_current(path, asked(seed=1)) is None
    assert asked(code=False, seed=1) == without_code  # caches that cost hours name a version of their own


def test_a_file_counts_by_its_content_and_numbers_of_numpy_as_plain_ones(tmp_path: Path) -> None:
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    one.write_text("a")
    other.write_text("a")
    assert asked(table=one) == asked(table=other)
    other.write_text("b")
    assert asked(table=one) != asked(table=other)
    assert asked(n=np.int64(3), rows=np.arange(2)) == asked(n=3, rows=[0, 1]) != asked(n=3, rows=[1, 0])
    with pytest.raises(FileNotFoundError, match="none.csv does not exist"):
        asked(table=tmp_path / "none.csv")
    with pytest.raises(TypeError, match="A request can't hold"):
        asked(model=object())


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"value": 1}', '{"asked": "other"}'])
def test_old_broken_and_missing_products_are_stale_and_no_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "product.json").write_text(content)
    assert read_current(tmp_path / "product.json", asked(seed=1)) is None
    assert read_current(tmp_path / "none.json", asked(seed=1)) is None


def test_the_source_is_read_quickly_and_once() -> None:
    provenance._digest_of_sources.cache_clear()
    start = time.perf_counter()
    first = source_digest()
    assert time.perf_counter() - start < 2 and len(first) == 64
    start = time.perf_counter()
    assert source_digest() == first and time.perf_counter() - start < 0.01
