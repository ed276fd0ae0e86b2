from pathlib import Path

import numpy as np
from PIL import Image

from rnagan.comparison.sample_grids import count_title, draw_as_training_goes, draw_at, nearest_counts, why_not_the_same
from rnagan.io.images import grid, save_png
from rnagan.tracking.run_folder import RunFolder


def test_runs_that_save_alike_are_shown_at_the_same_counts() -> None:
    counts = list(range(1000, 11000, 1000))
    found = nearest_counts({"a": counts, "b": counts[:7]}, most=3)
    assert found == [{"a": n, "b": n} for n in (1000, 4000, 7000)]


def test_runs_that_save_at_other_counts_are_shown_at_the_nearest() -> None:
    found = nearest_counts({"a": [1000, 2000, 3000], "b": [640, 1280, 1920, 2560, 3200]})
    assert found == [{"a": 2000, "b": 1920}, {"a": 3000, "b": 3200}]  # 1000 and 1280 are no match
    assert count_title(found[0]) == "1,920 to 2,000 images" and count_title({"a": 8, "b": 8}) == "8 images"


def test_runs_that_have_no_count_near_are_shown_at_the_closest() -> None:
    assert nearest_counts({"a": [1000, 8000], "b": [100, 300]}) == [{"a": 1000, "b": 300}]
    assert nearest_counts({"a": [8], "b": []}) == [] and nearest_counts({}) == []


def run_of(folder: Path, resolution: int, profiles: int, colour: int, **settings: int) -> RunFolder:
    """A run that saved one grid of one colour, after 8 images."""
    tiles = np.full((profiles, 8, resolution, resolution, 3), colour, np.uint8)
    save_png(folder / "samples/000000000008.png", grid(tiles))
    configured = {"mode": "gan", "seed": 0, "resolution": resolution} | settings
    return RunFolder(folder, "gan", configured, [], 8, 8, False, None, None, {}, {})


def test_runs_of_two_resolutions_and_numbers_of_profiles_are_shown_alike(tmp_path: Path) -> None:
    runs = {"fine": run_of(tmp_path / "fine", 64, 5, 50), "coarse": run_of(tmp_path / "coarse", 32, 3, 120)}
    draw_at(tmp_path / "last.png", runs, {"fine": 8, "coarse": 8})
    draw_as_training_goes(tmp_path / "going.png", runs, [{"fine": 8, "coarse": 8}])
    for name, draws in (("last.png", 4), ("going.png", 2)):
        with Image.open(tmp_path / name) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        counts = [(pixels == colour).all(axis=2).sum() for colour in (50, 120)]
        assert abs(counts[0] - 3 * draws * 32**2) < 20 and counts[1] >= 3 * draws * 32**2  # letters have greys too


def test_modes_without_profiles_are_alike_but_for_the_seed(tmp_path: Path) -> None:
    runs = {str(seed): run_of(tmp_path / str(seed), 32, 2, 90, seed=seed) for seed in (0, 1)}
    assert why_not_the_same(runs) == ["seed (0: 0, 1: 1)"]
    assert why_not_the_same({"a": runs["0"], "b": runs["0"]}) == []
