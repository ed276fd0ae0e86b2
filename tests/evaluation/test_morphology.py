"""Each measure against tiles whose tissue is drawn by hand, pixel by pixel."""

import numpy as np
import pytest

from rnagan.evaluation.morphology import GLASS, MEASURES, measure

MATRIX = np.array([0.20, 0.50, 0.25])  # optical density: red over green 0.4, blue over green 0.5
NUCLEUS = np.array([1.0, 1.1, 0.55])
CENTRES = [(12, 30), (14, 52), (15, 80), (30, 38), (34, 66), (50, 28), (48, 50), (52, 72), (50, 86)]


def tile(
    radius_um: float = 4.0, air_um: int = 0, stain: float = 1.0, matrix: np.ndarray = MATRIX, mpp: float = 1.0
) -> np.ndarray:
    """A tile of 64 × 96 µm with nine nuclei, and empty at the left for `air_um`."""
    y, x = np.mgrid[:64:mpp, :96:mpp]
    density = np.broadcast_to(matrix, (*y.shape, 3)).copy()
    for cy, cx in CENTRES:
        density[np.hypot(y - cy - 0.11, x - cx - 0.07) <= radius_um] = NUCLEUS
    density[x < air_um] = 0
    return (GLASS * np.exp(-stain * density)).round().astype(np.uint8)


def measure_one(image: np.ndarray, mpp: float = 1.0) -> dict[str, float]:
    return {name: float(values[0]) for name, values in measure(image[None], mpp).items()}


def area_of_dark_pixels(image: np.ndarray) -> float:
    """What a naive measure of density would be: the share of dark pixels."""
    return float((image[..., 0] < GLASS * np.exp(-0.5)).mean())


@pytest.mark.parametrize("radius_um", [2.6, 4.0, 5.0])
def test_nuclei_are_counted_whatever_their_size(radius_um: float) -> None:
    counted = 58 * 90 * 1e-6  # mm², without the guard of 3 µm
    assert measure_one(tile(radius_um))["nuclear_density"] == pytest.approx(9 / counted, rel=0.02)
    assert area_of_dark_pixels(tile(5.0)) > 3 * area_of_dark_pixels(tile(2.6))  # which the naive measure confuses


@pytest.mark.parametrize("air_um", [0, 12, 20])
def test_air_is_the_share_of_empty_pixels(air_um: int) -> None:
    assert measure_one(tile(air_um=air_um))["air_fraction"] == pytest.approx(air_um / 96, abs=0.002)


def test_colours_are_ratios_of_optical_densities_and_ignore_the_strength_of_the_stain() -> None:
    for stain in (0.8, 1.0):
        found = measure_one(tile(air_um=12, stain=stain))
        assert found["matrix_colour"] == pytest.approx(0.4, abs=0.01)
        assert found["site_stain"] == pytest.approx(0.5, abs=0.01)
    bluer = measure_one(tile(matrix=np.array([0.30, 0.50, 0.25])))
    assert bluer["matrix_colour"] == pytest.approx(0.6, abs=0.01)
    assert bluer["site_stain"] == pytest.approx(0.5, abs=0.01)
    yellower = measure_one((GLASS * (tile() / GLASS) ** [1, 1, 1.2]).round().astype(np.uint8))
    assert yellower["site_stain"] == pytest.approx(0.6, abs=0.01)
    assert yellower["matrix_colour"] == pytest.approx(0.4, abs=0.01)


def test_nothing_depends_on_the_batch_or_on_how_a_tile_lies() -> None:
    images = np.stack([tile(), tile(air_um=12), tile(3.0)])
    together = measure(images, 1.0)
    assert tuple(together) == MEASURES
    for name, values in together.items():
        assert values.shape == (3,) and values.dtype == np.float64
        assert values[1] == pytest.approx(measure_one(images[1])[name], rel=1e-6)
        for turned in (images[:, ::-1], images[:, :, ::-1], np.rot90(images, axes=(1, 2))):
            assert measure(turned, 1.0)[name] == pytest.approx(values, rel=1e-5)


def test_resolution_is_taken_into_account() -> None:
    """The same tissue at 0.5 µm per px, and the density that forgetting that would give."""
    right, forgotten = (measure_one(tile(mpp=0.5), mpp)["nuclear_density"] for mpp in (0.5, 1.0))
    assert right == pytest.approx(measure_one(tile())["nuclear_density"], rel=0.02)
    assert forgotten < 0.5 * right


def test_a_nucleus_with_a_flat_top_is_one() -> None:
    """Doubled pixels: each peak is a square of four equal ones."""
    doubled = measure_one(tile().repeat(2, axis=0).repeat(2, axis=1), 0.5)
    assert doubled["nuclear_density"] == pytest.approx(measure_one(tile())["nuclear_density"], rel=0.02)


@pytest.mark.parametrize("grey", [0, 255])
def test_glass_and_black_give_numbers(grey: int) -> None:
    found = measure_one(np.full((32, 48, 3), grey, np.uint8))
    assert np.isfinite(list(found.values())).all()
    if grey == 255:
        assert found == {
            "nuclear_density": 0,
            "air_fraction": pytest.approx(1, abs=1e-3),
            "matrix_colour": 0,
            "site_stain": 0,
        }


@pytest.mark.parametrize("tiles", [np.zeros((4, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8)])
def test_other_arrays_are_refused(tiles: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"^Tiles must be uint8 of shape \(n, H, W, 3\), not "):
        measure(tiles, 1.0)
