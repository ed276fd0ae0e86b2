"""What is rendered is where and what was asked for."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from rnagan.config.simulation import SimulationConfig
from rnagan.evaluation.tile_networks import train_tissue_classifier
from rnagan.io.images import shrink
from rnagan.runtime import rng
from rnagan.simulation.donors import draw_cohort
from rnagan.simulation.rendering import GLASS, Layout, Morphology, render_slide
from rnagan.simulation.tissues import TISSUES

LAYOUT = Layout(tile=128, across=4, down=2)
CORTEX = Morphology(
    nuclear_density=2500, nuclear_radius_um=3.2, matrix_colour=0.36, site_stain=0.4, air_fraction=np.nan
)
LUNG = dataclasses.replace(CORTEX, air_fraction=0.3)
LIVER = dataclasses.replace(CORTEX, air_fraction=0.15)
ALL = [("cortex", CORTEX), ("lung", LUNG), ("liver", LIVER), ("muscle", CORTEX)]


def render(tissue: str, morphology: Morphology, number: int = 0) -> np.ndarray:
    return render_slide(TISSUES[tissue], morphology, LAYOUT, rng.generator(0, "test", number))


@pytest.mark.parametrize("tissue, morphology", ALL)
def test_tissue_lies_in_a_frame_of_glass(tissue: str, morphology: Morphology) -> None:
    slide = render(tissue, morphology)
    assert slide.shape == (4 * 128, 6 * 128, 3) and slide.dtype == np.uint8
    border = np.concatenate([slide[:64].reshape(-1, 3), slide[:, :64].reshape(-1, 3), slide[:, -64:].reshape(-1, 3)])
    assert np.abs(border.astype(float) - GLASS).mean() < 2
    green = slide[LAYOUT.inside][..., 1].astype(float)
    if np.isnan(morphology.air_fraction):
        assert (green < GLASS - 20).mean() > 0.99
    else:
        assert (green > GLASS - 15).mean() == pytest.approx(morphology.air_fraction, abs=0.04)


def test_the_same_generator_renders_the_same_slide_and_another_one_another() -> None:
    assert np.array_equal(render("lung", LUNG), render("lung", LUNG))
    assert not np.array_equal(render("lung", LUNG), render("lung", LUNG, number=1))


@pytest.mark.parametrize("tissue, morphology", ALL)
def test_nuclei_are_as_many_and_as_large_as_asked(tissue: str, morphology: Morphology) -> None:
    """Counted as connected dark areas, which has nothing to do with `evaluation.morphology`."""
    small, large = [], []
    for number in range(4):
        for radius, found in ((2.6, small), (3.6, large)):
            few = dataclasses.replace(morphology, nuclear_density=1200, nuclear_radius_um=radius)
            red = render(tissue, few, number)[LAYOUT.inside][..., 0]
            dark = ndimage.binary_opening(red < GLASS * np.exp(-0.42), iterations=2)
            found.append((ndimage.label(dark)[1], dark.sum()))
    area_mm2 = 8 * (128 * 0.5e-3) ** 2 * 4
    for found in (small, large):
        assert sum(count for count, _ in found) / area_mm2 == pytest.approx(1200, rel=0.25)
    sizes = [sum(area for _, area in found) / sum(count for count, _ in found) for found in (small, large)]
    assert 1.4 < sizes[1] / sizes[0] < 2.5  # (3.6 / 2.6)² = 1.9


def blobs(mask: np.ndarray) -> list[np.ndarray]:
    """Pixels (n, 2) of each connected area that is large enough to have a shape and doesn't touch the edge."""
    labels, _ = ndimage.label(np.pad(mask, 1))
    found = [np.argwhere(labels == k) for k in range(1, labels.max() + 1)]
    edge = np.array(labels.shape) - 2
    return [pixels for pixels in found if len(pixels) > 40 and (pixels > 1).all() and (pixels < edge).all()]


def axes(pixels: np.ndarray) -> tuple[float, float]:
    """Long over short axis, and the direction of the long one in rad from x, by second moments."""
    spread, directions = np.linalg.eigh(np.cov(pixels.T))
    return float((spread[1] / spread[0]) ** 0.5), float(np.arctan2(*directions[:, 1]))


def nuclei(tissue: str, morphology: Morphology) -> list[np.ndarray]:
    few = dataclasses.replace(morphology, nuclear_density=1200)
    red = render(tissue, few)[LAYOUT.inside][..., 0]
    return blobs(ndimage.binary_opening(red < GLASS * np.exp(-0.42), iterations=2))


def test_nuclei_lie_along_the_fibres_of_muscle_and_are_round_in_liver() -> None:
    """In muscle one direction a slide, which the grain shares; nothing of the kind in the other tissues."""
    aligned = {}
    for tissue, morphology in ALL:
        ratios, angles = map(np.array, zip(*map(axes, nuclei(tissue, morphology)), strict=True))
        aligned[tissue] = np.exp(2j * angles).mean()  # 1: all in one direction; directions have no sign
        assert np.median(ratios) > 2.5 if tissue == "muscle" else np.median(ratios) < 1.5
        if tissue == "liver":
            assert np.median(ratios) < 1.15
    assert abs(aligned["muscle"]) > 0.95 and all(abs(aligned[name]) < 0.4 for name in ("cortex", "lung", "liver"))

    green = ndimage.gaussian_filter(render("muscle", CORTEX)[LAYOUT.inside][..., 1].astype(float), 1)
    down, across = np.gradient(green)
    tensor = np.array([[(across**2).mean(), (across * down).mean()], [(across * down).mean(), (down**2).mean()]])
    strength, directions = np.linalg.eigh(tensor)  # grain changes least along the fibres
    assert strength[1] > 3 * strength[0]
    along = np.arctan2(directions[1, 0], directions[0, 0])
    assert abs(np.angle(np.exp(2j * along) * aligned["muscle"].conj())) < 0.3
    other = [axes(pixels)[1] for pixels in blobs(render("muscle", CORTEX, 1)[LAYOUT.inside][..., 0] < GLASS / 2)]
    assert abs(np.exp(2j * np.array(other)).mean() - aligned["muscle"]) > 0.2  # another slide, another direction


def test_fat_lies_in_round_droplets_and_air_in_ragged_alveoli() -> None:
    """Area over that of the circle around it: 1 of a disc, 0.8 of one drawn in so few pixels. Droplets are smaller."""
    roundness, area = {}, {}
    for tissue, morphology in (("lung", LUNG), ("liver", dataclasses.replace(LIVER, air_fraction=0.06))):
        few = dataclasses.replace(morphology, nuclear_density=200)
        white = blobs(render(tissue, few)[LAYOUT.inside][..., 1] > GLASS - 60)
        far = [np.linalg.norm(pixels - pixels.mean(axis=0), axis=1).max() + 0.5 for pixels in white]
        roundness[tissue] = np.median([len(p) / (np.pi * r**2) for p, r in zip(white, far, strict=True)])
        area[tissue] = np.median([len(p) for p in white])
    assert roundness["liver"] > 0.75 > 0.65 > roundness["lung"]
    assert area["liver"] < area["lung"] / 3


@pytest.mark.slow
def test_a_classifier_tells_the_tissues_apart_whatever_their_programmes_and_stain() -> None:
    """Tiles of thirty donors a tissue learnt, those of thirty others called, at the scale of a small generator."""
    truth = draw_cohort(SimulationConfig(donors=60, slide_donors=1, tissues=",".join(TISSUES)))
    tiles, tissues = [], []
    for row in truth.sort_values("donor").to_dict("records"):
        morphology = Morphology(**{field.name: row[field.name] for field in dataclasses.fields(Morphology)})
        slide = render_slide(TISSUES[row["tissue"]], morphology, LAYOUT, rng.generator(0, row["slide"]))
        inside = shrink(slide[LAYOUT.inside], 2)
        tiles += [inside[y : y + 64, x : x + 64] for y in (0, 64) for x in (0, 64, 128, 192)]
        tissues += [row["tissue"]] * 8
    half = len(tiles) // 2
    classifier = train_tissue_classifier(np.stack(tiles[:half]), tissues[:half])
    called = classifier.predict(np.stack(tiles[half:]))
    assert np.mean([got == right for got, right in zip(called, tissues[half:], strict=True)]) > 0.99


def test_matrix_changes_red_alone_and_the_site_blue_alone() -> None:
    plain = render("cortex", CORTEX).astype(float)
    matrix = render("cortex", dataclasses.replace(CORTEX, matrix_colour=0.5)).astype(float)
    site = render("cortex", dataclasses.replace(CORTEX, site_stain=0.5)).astype(float)
    change = [np.abs(other - plain)[LAYOUT.inside].mean(axis=(0, 1)) for other in (matrix, site)]
    assert change[0][0] > 5 and change[0][1] == change[0][2] == 0
    assert change[1][2] > 5 and change[1][0] == change[1][1] == 0
