"""The script that draws the pictures of docs/ which no command draws: what it reads of the pages, and that it draws."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pictures", DOCS / "pictures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_read_with_their_numbers(pictures: ModuleType) -> None:
    rows = "| GPU | images/s | limited by |\n|---|---|---|\n| A | 1,397 | x |\n| B | – | |\n"
    ((name, table),) = pictures.forecasts(f"`one`: A step of 8 tiles.\n\n{rows}")
    assert name == "one" and table["GPU"].tolist() == ["A", "B"] and table["limited by"].tolist() == ["x", ""]
    np.testing.assert_array_equal(table["images/s"], [1397, np.nan])


SLOW = pytest.mark.slow  # a slide is rendered and built


@pytest.mark.parametrize("name", ["cohorts", "gpu", *(pytest.param(name, marks=SLOW) for name in ("data", "formats"))])
def test_each_is_drawn_of_its_page_alone(pictures: ModuleType, name: str, tmp_path: Path) -> None:
    pictures.main([name, "--out", str(tmp_path)], standalone_mode=False)
    (made,) = tmp_path.iterdir()
    with Image.open(made) as new, Image.open(DOCS / made.name) as kept:
        assert abs(new.width - kept.width) < 100 and abs(new.height - kept.height) < 100
    assert made.stat().st_size < 200_000
