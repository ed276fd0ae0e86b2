"""The eight turns and mirrors, and wrong scales: each is seen, named, and undone by what is named; right ones pass."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from rnagan.spatial.placement import placement_doubt, placement_problem, placements
from tests.spatial import made_section as made

PIXEL = 4.0
SIZE = made.WIDTH, made.HEIGHT
MASK = made.tissue_mask()[::4, ::4]
SCALES = {"hires": made.HIRES, "lowres": made.LOWRES}


@pytest.fixture(scope="module")
def spots():
    return made.make_section(0)


def wrong_ways(xy):
    """What files get wrong, and the name of what mends it."""
    x, y = xy.T
    width, height = SIZE
    return {
        "mirrored left to right": np.column_stack([width - x, y]),
        "mirrored top to bottom": np.column_stack([x, height - y]),
        "turned by 180°": np.column_stack([width - x, height - y]),
        "with x and y swapped": np.column_stack([y, x]),
        "turned by 90° clockwise": np.column_stack([y, width - x]),
        "turned by 90° counter-clockwise": np.column_stack([height - y, x]),
        "mirrored at the other diagonal": np.column_stack([height - y, width - x]),
        "times 4, as if they were those of the hires image": xy * made.HIRES,
        "times 0.25, as if the image were the hires one": xy / made.HIRES,
        "times 10, as if they were those of the lowres image": xy * made.LOWRES,
    }


@pytest.mark.parametrize("all_spots", [True, False], ids=["array", "in tissue alone"])
def test_each_mistake_is_named(spots, all_spots):
    chosen = np.ones(len(spots.xy), bool) if all_spots else spots.in_tissue
    right = placements(MASK, PIXEL, spots.xy[chosen], spots.in_tissue[chosen], SIZE, SCALES)
    assert placement_problem(right) is None and placement_doubt(right) is None
    assert right[0].name == "as they are" and right[0].score > 0.9 and right[0].inside == 1
    for name, xy in wrong_ways(spots.xy[chosen]).items():
        found = placements(MASK, PIXEL, xy, spots.in_tissue[chosen], SIZE, SCALES)
        best = max(found, key=lambda one: one.score)
        assert best.name == name and best.score == pytest.approx(right[0].score, abs=0.01)
        assert (best.image_scale != 1) == ("image were" in name)
        problem = placement_problem(found)
        assert problem is not None and name in problem and "don't fit its image" in problem


def test_tissue_that_fills_the_image_says_nothing(spots):
    everywhere = np.ones_like(MASK)
    own = spots.xy[spots.in_tissue]
    found = placements(everywhere, PIXEL, own, np.ones(len(own), bool), SIZE, SCALES)
    assert placement_problem(found) is None


def test_the_image_of_another_section(spots):
    nothing = np.zeros_like(MASK)
    nothing[:20, :20] = True
    found = placements(nothing, PIXEL, spots.xy, spots.in_tissue, SIZE, {})
    assert "no turn, mirror or scale fits better" in placement_problem(found)
    outside = placements(MASK, PIXEL, spots.xy + 5000, spots.in_tissue, SIZE, {})
    assert "lie outside of it" in placement_problem(outside)


def test_pale_tissue_is_no_mistake(spots):
    """A third of the tissue that the mask misses leaves the given placement the best."""
    holes = MASK & (np.random.default_rng(0).random((25, 30)) < 0.66).repeat(10, 0).repeat(10, 1)[:250, :295]
    found = placements(holes, PIXEL, spots.xy, spots.in_tissue, SIZE, SCALES)
    assert found[0].on_tissue < 0.8 and placement_problem(found) is None


def test_sparse_tissue_under_all_spots_fits_as_it_is():
    """Tissue with holes, as lung, that spots cover but for a strip: which way round they lie, nothing can say."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[14:50:4, 14:66:4]
    xy = np.column_stack([x.ravel(), y.ravel()]).astype(float)
    for _ in range(40):
        mask, noise = np.zeros((64, 84), bool), gaussian_filter(draw.normal(size=(40, 60)), 2)
        mask[12:52, 12:72] = noise > np.quantile(noise, 0.4)
        found = placements(mask, 1.0, xy, np.ones(len(xy), bool), (84, 64), SCALES)
        assert placement_problem(found) is None and placement_doubt(found) is None
