import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnagan.slides.grid import Grid, background_share
from rnagan.slides.tissue import tissue_mask


def slide_of(colour, noise=3):
    random = np.random.default_rng(0)
    return np.clip(np.array(colour) + random.normal(0, noise, (60, 80, 3)), 0, 255).astype(np.uint8)


def test_air_inside_lung_is_background_and_pale_tissue_is_tissue():
    image = slide_of((243, 243, 242), 1)
    image[10:50, 10:60] = (170, 80, 160)
    image[20:30, 20:40] = 246  # alveolar air
    image[30:40, 62:78] = (236, 212, 228)  # pale
    mask = tissue_mask(image)
    assert mask[10:20, 10:60].all() and mask[30:40, 62:78].all()
    assert not mask[20:30, 20:40].any() and not mask[:9].any()


@pytest.mark.parametrize("glass", [(244, 244, 244), (240, 238, 233), (0, 0, 0)])
def test_a_slide_of_glass_has_no_tissue(glass):
    assert tissue_mask(slide_of(glass, 1)).mean() < 0.01
    assert not tissue_mask(np.full((20, 30, 3), glass, np.uint8)).any()


def test_a_slide_full_of_tissue_is_all_tissue():
    image = slide_of((220, 150, 200), 5)
    image[:, 40:] = slide_of((120, 50, 130), 5)[:, 40:]
    assert tissue_mask(image).mean() > 0.99


def test_positions_are_whole_tiles_row_by_row():
    grid = Grid.cover(900, 600, 256)
    assert (grid.rows, grid.columns) == (2, 3)
    assert grid.positions().tolist() == [[0, 0], [256, 0], [512, 0], [0, 256], [256, 256], [512, 256]]


def test_a_slide_smaller_than_a_tile_has_none():
    grid = Grid.cover(900, 200, 256)
    assert len(grid.positions()) == 0
    assert background_share(np.ones((13, 57), bool), 16, grid).shape == (0,)


@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 6), st.integers(0, 1000))
def test_background_share_is_the_share_of_pixels(rows, columns, cell, seed):
    mask = np.random.default_rng(seed).random((rows * cell + seed % cell, columns * cell)) < 0.5
    grid = Grid.cover(mask.shape[1] * 16, mask.shape[0] * 16, cell * 16)
    expected = [1 - mask[y // 16 : y // 16 + cell, x // 16 : x // 16 + cell].mean() for x, y in grid.positions()]
    np.testing.assert_allclose(background_share(mask, 16, grid), expected, atol=1e-9)


def test_cut_pixels_count_by_their_area():
    mask = np.zeros((2, 4), bool)
    mask[:, 1] = True  # level-0 columns 10 to 20
    share = background_share(mask, 10, Grid(1, 2, 15))
    np.testing.assert_allclose(share, [1 - 5 / 15, 1 - 5 / 15])
