"""The array of spots proves the resolution, however it is turned; what contradicts it is refused."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse

from rnagan.spatial.array_resolution import resolution_of_spots
from rnagan.spatial.section import SPOT_PITCH_UM, VISIUM_STEP_UM, Genes, Grid, Spots


def spots(mpp, angle=0.0, mirror=False, **about):
    """Visium's array, turned by an angle, with half a pixel of noise, as alignment leaves it."""
    random = np.random.default_rng(0)
    array = np.array([(r, c) for r in range(20) for c in range(30) if (r + c) % 2 == 0])
    xy = array[:, ::-1] * np.array(VISIUM_STEP_UM)[::-1] / mpp * (-1 if mirror else 1, 1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    xy = xy @ turn.T + 500 + random.normal(0, 0.5, xy.shape)
    n = len(xy)
    counts = scipy.sparse.csr_matrix((n, 1))
    of_all = {"grid": Grid(array, VISIUM_STEP_UM)} | about
    return Spots(list(map(str, range(n))), xy, np.ones(n, bool), np.arange(n), counts, Genes(["A"], [""]), **of_all)


@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi / 2, 3.0])
@pytest.mark.parametrize("mirror", [False, True])
def test_by_the_array(angle, mirror):
    found = resolution_of_spots(spots(0.35, angle, mirror))
    assert found.mpp == pytest.approx(0.35, rel=2e-4)


def test_the_diameter_of_scalefactors_json_would_be_wrong():
    """It is that of a spot of 65 µm: taken for the 55 µm of Visium's spots, tiles would be 15% too large."""
    own = spots(0.35)
    assert abs((55 / (65 / 0.35)) / resolution_of_spots(own).mpp - 1) > 0.15


def test_by_neighbours():
    own = spots(0.35, 0.3, grid=None, pitch_um=SPOT_PITCH_UM)
    assert resolution_of_spots(own).mpp == pytest.approx(0.35, rel=0.01)
    assert resolution_of_spots(dataclasses.replace(own, pitch_um=None)) is None


def test_what_the_file_states_is_checked():
    assert resolution_of_spots(spots(0.35, stated_mpp=0.351)).mpp == 0.351
    with pytest.raises(ValueError, match=r"states 0.21 µm per px, and its array of spots has 0.35"):
        resolution_of_spots(spots(0.35, stated_mpp=0.21))


def test_rows_and_columns_swapped():
    own = spots(0.35)
    swapped = dataclasses.replace(own, grid=Grid(own.grid.rows_columns[:, ::-1], VISIUM_STEP_UM))
    with pytest.raises(ValueError, match="positions that don't lie on the array .* swapped"):
        resolution_of_spots(swapped)


def test_positions_of_another_order():
    own = spots(0.35)
    mixed = dataclasses.replace(own, xy=np.random.default_rng(1).permutation(own.xy))
    with pytest.raises(ValueError, match="positions that don't lie on the array"):
        resolution_of_spots(mixed)
    row = np.flatnonzero(own.grid.rows_columns[:, 0] == 4)
    alone = dataclasses.replace(own, xy=own.xy[row], grid=Grid(own.grid.rows_columns[row], VISIUM_STEP_UM))
    with pytest.raises(ValueError, match="in one row of the array alone"):
        resolution_of_spots(alone)
