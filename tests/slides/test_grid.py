import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rnagan.slides.grid import Grid, background_share


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
