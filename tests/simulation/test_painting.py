"""What is painted is where and what was asked for."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from rnagan import rng
from rnagan.simulation.painting import GLASS, Layout, Morphology, paint_slide
from rnagan.simulation.programmes import TISSUES

LAYOUT = Layout(tile=128, across=4, down=2)
CORTEX = Morphology(
    nuclear_density=2500, nuclear_radius_um=3.2, matrix_colour=0.36, site_stain=0.4, air_fraction=np.nan
)
LUNG = dataclasses.replace(CORTEX, air_fraction=0.3)


def paint(tissue: str, morphology: Morphology, number: int = 0) -> np.ndarray:
    return paint_slide(TISSUES[tissue], morphology, LAYOUT, rng.generator(0, "test", number))


@pytest.mark.parametrize("tissue, morphology", [("cortex", CORTEX), ("lung", LUNG)])
def test_tissue_lies_in_a_frame_of_glass(tissue: str, morphology: Morphology) -> None:
    slide = paint(tissue, morphology)
    assert slide.shape == (4 * 128, 6 * 128, 3) and slide.dtype == np.uint8
    border = np.concatenate([slide[:64].reshape(-1, 3), slide[:, :64].reshape(-1, 3), slide[:, -64:].reshape(-1, 3)])
    assert np.abs(border.astype(float) - GLASS).mean() < 2
    green = slide[LAYOUT.inside][..., 1].astype(float)
    if tissue == "cortex":
        assert (green < GLASS - 20).mean() > 0.99
    else:
        assert (green > GLASS - 15).mean() == pytest.approx(0.3, abs=0.04)


def test_the_same_generator_paints_the_same_slide_and_another_one_another() -> None:
    assert np.array_equal(paint("lung", LUNG), paint("lung", LUNG))
    assert not np.array_equal(paint("lung", LUNG), paint("lung", LUNG, number=1))


@pytest.mark.parametrize("tissue, morphology", [("cortex", CORTEX), ("lung", LUNG)])
def test_nuclei_are_as_many_and_as_large_as_asked(tissue: str, morphology: Morphology) -> None:
    """Counted as connected dark areas, which has nothing to do with `evaluation.morphology`."""
    small, large = [], []
    for number in range(4):
        for radius, found in ((2.6, small), (3.6, large)):
            few = dataclasses.replace(morphology, nuclear_density=1200, nuclear_radius_um=radius)
            red = paint(tissue, few, number)[LAYOUT.inside][..., 0]
            dark = ndimage.binary_opening(red < GLASS * np.exp(-0.42), iterations=2)
            found.append((ndimage.label(dark)[1], dark.sum()))
    area_mm2 = 8 * (128 * 0.5e-3) ** 2 * 4
    for found in (small, large):
        assert sum(count for count, _ in found) / area_mm2 == pytest.approx(1200, rel=0.25)
    sizes = [sum(area for _, area in found) / sum(count for count, _ in found) for found in (small, large)]
    assert 1.4 < sizes[1] / sizes[0] < 2.5  # (3.6 / 2.6)² = 1.9


def test_matrix_changes_red_alone_and_the_site_blue_alone() -> None:
    plain = paint("cortex", CORTEX).astype(float)
    matrix = paint("cortex", dataclasses.replace(CORTEX, matrix_colour=0.5)).astype(float)
    site = paint("cortex", dataclasses.replace(CORTEX, site_stain=0.5)).astype(float)
    change = [np.abs(other - plain)[LAYOUT.inside].mean(axis=(0, 1)) for other in (matrix, site)]
    assert change[0][0] > 5 and change[0][1] == change[0][2] == 0
    assert change[1][2] > 5 and change[1][0] == change[1][1] == 0
