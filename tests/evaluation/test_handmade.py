from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.color import hed2rgb

from rnagan.evaluation.features import comparable
from rnagan.evaluation.handmade import BANDS, LAGS_PX, RINGS, WIDTH, HandmadeStatistics
from rnagan.evaluation.tile_scores import FeatureStatistics, frechet_distance

SIDE = 64
STAIN, PATTERNS, SPECTRUM, CORRELATION, EDGES = (
    slice(0, 21),
    slice(21, 51),
    slice(51, 61),
    slice(61, 65),
    slice(65, 81),
)
FLAT_CODE = 8  # of a pixel whose neighbours are all as bright: bin NEIGHBOURS of its radius
extract = HandmadeStatistics()


def of(grey: np.ndarray) -> np.ndarray:
    """Features of one grey tile (H, W)."""
    return extract(np.repeat(np.rint(grey).astype(np.uint8)[None, ..., None], 3, axis=3))[0]


def tissue(count: int, seed: int, change: Callable[[np.ndarray], np.ndarray] = lambda x: x) -> np.ndarray:
    """Smooth noise as tiles (n, SIDE, SIDE, 3), pinkish, after `change` of its grey (n, SIDE, SIDE)."""
    noise = np.random.default_rng(seed).normal(size=(count, SIDE + 32, SIDE + 32))
    smooth = gaussian_filter(noise, (0, 1.5, 1.5))[:, 16:-16, 16:-16]
    grey = change(170 + 25 * smooth / smooth.std())
    return np.clip(grey[..., None] + [30, -20, 10], 0, 255).astype(np.uint8)


def distance(generated: np.ndarray, real: np.ndarray) -> float:
    features = extract(real)
    sides = (comparable(extract, extract(generated), features), comparable(extract, features, features))
    return frechet_distance(*map(FeatureStatistics.of, sides))


def dashes(grey: np.ndarray) -> np.ndarray:
    """Dark dashes, 4 px long, along the outermost lines."""
    grey = grey.copy()
    dark = np.arange(SIDE) % 8 < 4
    grey[:, :2, dark] -= 40
    grey[:, -2:, dark] -= 40
    grey[:, dark, :2] -= 40
    grey[:, dark, -2:] -= 40
    return grey


def test_a_flat_tile_has_neither_texture_nor_edges() -> None:
    found = of(np.full((48, SIDE), 128.0))
    assert len(found) == WIDTH == extract.width and found.dtype == np.float32
    np.testing.assert_allclose(found[3:6], 0, atol=1e-6)  # SDs of the stains
    assert found[PATTERNS].reshape(3, 10)[:, FLAT_CODE].tolist() == [1, 1, 1]
    np.testing.assert_allclose(found[SPECTRUM], np.log(1 / 12), atol=1e-5)
    np.testing.assert_allclose(found[CORRELATION], 0, atol=1e-6)
    np.testing.assert_allclose(found[EDGES], 0, atol=1e-6)


def test_stains_are_those_that_a_tile_was_made_of() -> None:
    stains = np.zeros((1, SIDE, SIDE, 3))
    stains[..., 0], stains[0, : SIDE // 2, :, 1] = 0.05, 0.1  # haematoxylin everywhere, eosin in the upper half
    found = extract(np.rint(hed2rgb(stains) * 255).astype(np.uint8))[0]
    assert found[:3] == pytest.approx([0.05, 0.05, 0], abs=0.003)
    assert found[3:6] == pytest.approx([0, 0.05, 0], abs=0.003)
    quantiles = found[6:21].reshape(5, 3)
    assert quantiles[:, 0] == pytest.approx(np.full(5, 0.05), abs=0.004)
    assert quantiles[[0, -1], 1] == pytest.approx([0, 0.1], abs=0.004)


def test_a_wave_is_in_its_band_and_comes_back_after_its_period() -> None:
    wave = 128 + 50 * np.sin(2 * np.pi * np.arange(SIDE) / 8)  # 8 px: 0.125 cycles a px
    striped = of(np.tile(wave, (SIDE, 1)))
    (band,) = np.flatnonzero((BANDS[:-1] <= 1 / 8) & (BANDS[1:] > 1 / 8))
    spectrum = striped[SPECTRUM]
    assert spectrum.argmax() == band and spectrum[band] > np.delete(spectrum, band).max() + 1
    found = dict(zip(LAGS_PX, striped[CORRELATION], strict=True))
    # along the stripes it is 1, across them the cosine of the lag
    for lag, r in found.items():
        assert r == pytest.approx((1 + np.cos(2 * np.pi * lag / 8)) / 2, abs=0.05)
    turned = of(np.tile(wave[:, None], (1, SIDE)))
    np.testing.assert_allclose(turned[:65], striped[:65], atol=1e-3)


def test_white_noise_of_a_variance_has_it_in_every_band() -> None:
    noise = np.random.default_rng(0).normal(128, 20, (256, 256))
    np.testing.assert_allclose(of(noise)[SPECTRUM][2:], np.log(400), atol=0.15)
    checkerboard = 128 + 10 * (-1.0) ** np.add.outer(np.arange(SIDE), np.arange(SIDE))
    assert of(checkerboard)[SPECTRUM].argmax() == 9  # the corner: 2 px in both directions


def test_a_dark_line_at_one_edge_is_seen_there_alone() -> None:
    grey = np.full((SIDE, SIDE), 150.0)
    grey[:, 0] = 110  # the left one
    edges = of(grey)[EDGES]
    mean, sd, step = edges[: 3 * RINGS].reshape(RINGS, 3).T
    assert edges[-4:] == pytest.approx([-40 / SIDE, -40 / SIDE, -40, 0], abs=1e-4)
    assert mean[0] == pytest.approx(-40 * (SIDE + 2) / (4 * SIDE), abs=1e-4) and sd[0] > 10 and step[0] > 0
    np.testing.assert_allclose(np.stack([mean, sd, step])[:, 1:], 0, atol=1e-5)
    middle = np.full((SIDE, SIDE), 150.0)
    middle[:, SIDE // 2] = 110
    assert of(middle)[EDGES][-2:] == pytest.approx([0.8333, 0.8333], abs=0.01)  # of the middle's 48 lines, one is dark


@pytest.mark.slow
@pytest.mark.guard
def test_dashes_at_the_edges_are_far_from_tissue() -> None:
    """Other tissue is near; the same pixels with dashes, grain or a checkerboard are not."""
    real, other = tissue(150, 0), tissue(150, 1)
    near = distance(other, real)
    for change in (
        dashes,
        lambda grey: grey + np.random.default_rng(2).normal(0, 6, grey.shape),
        lambda grey: grey + 3 * (-1.0) ** np.add.outer(np.arange(SIDE), np.arange(SIDE)),
    ):
        assert distance(tissue(150, 1, change), real) > 10 * near
    shown = comparable(extract, extract(tissue(150, 1, dashes)), extract(real)).mean(axis=0)
    assert np.abs(shown[EDGES]).max() == np.abs(shown).max()  # and the edges say so first


@pytest.mark.slow
@pytest.mark.guard
def test_in_its_own_units_the_same_distance_is_of_the_largest_numbers_alone() -> None:
    """The wrong variant: not standardised, it overlooks a stain that is wrong everywhere."""
    real = tissue(200, 0)
    same = tissue(200, 1)
    shifted = np.clip(same - np.array([0, 0, 8]), 0, 255).astype(np.uint8)  # yellower
    raw = [frechet_distance(*(FeatureStatistics.of(extract(x)) for x in (own, real))) for own in (shifted, same)]
    assert raw[0] / raw[1] < 1.5 < 5 < distance(shifted, real) / distance(same, real)


def test_a_tiles_features_do_not_depend_on_the_tiles_beside_it() -> None:
    tiles = tissue(5, 0)
    together = extract(tiles)
    np.testing.assert_array_equal(np.concatenate([extract(tiles[k : k + 1]) for k in range(5)]), together)
    np.testing.assert_array_equal(extract(tiles[::-1])[::-1], together)
    assert extract(tiles[:0]).shape == (0, WIDTH) and extract.logits(together) is None


@pytest.mark.parametrize("shape", [(32, 32), (48, 40), (256, 256)])
def test_every_size_has_numbers_in_every_place(shape: tuple[int, int]) -> None:
    found = of(np.random.default_rng(0).uniform(0, 255, shape))
    assert np.isfinite(found).all() and found[SPECTRUM].min() > 5


def test_black_and_white_tiles_are_numbers_too() -> None:
    for level in (0, 255):
        assert np.isfinite(of(np.full((32, 32), float(level)))).all()
    black, darkest = (of(np.full((32, 32), level)) for level in (0.0, 1.0))
    np.testing.assert_array_equal(black[STAIN], darkest[STAIN])  # not log(0), nor the log of some tiny number


def test_tiles_that_it_cannot_see_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be uint8 of shape \(n, H, W, 3\), not float64"):
        extract(np.zeros((1, 32, 32, 3)))
    with pytest.raises(ValueError, match="extractor handmade needs tiles of 32 px at least, not"):
        extract(np.zeros((1, 32, 16, 3), np.uint8))


def test_its_weights_are_a_digest_of_what_decides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert HandmadeStatistics().weights == extract.weights and len(extract.weights) == 64
    monkeypatch.setattr("rnagan.evaluation.handmade.RADII_PX", (1, 2))
    assert HandmadeStatistics().weights != extract.weights
