from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from rnagan.config.tiling import TilingConfig
from rnagan.slides.quality import tile_quality

TILES = Path(__file__).parents[3] / "shared" / "data" / "tiles"
MIN_SHARPNESS = TilingConfig().min_sharpness


def luma(tile):
    return np.asarray(Image.fromarray(tile).convert("L")).astype(int)


@pytest.mark.parametrize("seed", range(3))
def test_contrast_is_the_span_of_percentiles(seed):
    random = np.random.default_rng(seed)
    tile = random.integers(random.integers(0, 90), random.integers(120, 256), (64, 96, 3)).astype(np.uint8)
    low, high = np.percentile(luma(tile)[::2], [1, 99], method="inverted_cdf")
    assert tile_quality(tile).contrast == pytest.approx((high - low) / 255, abs=1e-9)
    grey = np.full((64, 96, 3), 77, np.uint8)
    grey[:2, :2] = 0  # a speck
    assert tile_quality(grey) == (0, 0)


@pytest.mark.parametrize("seed", range(3))
def test_sharpness_is_the_bend_along_rows(seed):
    tile = np.random.default_rng(seed).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    grey = luma(tile)[::2]
    bend = np.minimum(np.abs(grey[:, :-4] - 2 * grey[:, 2:-2] + grey[:, 4:]), 255)
    assert tile_quality(tile).sharpness == np.percentile(bend, 99, method="inverted_cdf")
    gradient = np.abs(grey[:, 4:] - grey[:, :-4])  # of the first order: a slope would count as sharp
    assert tile_quality(tile).sharpness != np.percentile(gradient, 99, method="inverted_cdf")


def test_a_slope_is_not_sharp_and_an_edge_is():
    x = np.mgrid[:256, :256][1]
    slope = np.stack([x // 2 + 60] * 3, axis=2).astype(np.uint8)
    assert tile_quality(slope).contrast > 0.4 and tile_quality(slope).sharpness < 3
    edges = np.where(x // 16 % 2, 200, 90)[..., None].repeat(3, axis=2).astype(np.uint8)
    assert tile_quality(edges).sharpness > 100
    for sigma in (4, 8):
        assert tile_quality(gaussian_filter(edges, (sigma, sigma, 0))).sharpness < MIN_SHARPNESS


def test_debris_out_of_focus_on_glass_is_dropped():
    random = np.random.default_rng(0)
    glass = np.full((256, 256, 3), 240.0)
    for _ in range(12):
        y, x = random.integers(0, 236, 2)
        glass[y : y + 20, x : x + 20] -= (60, 80, 100)
    blurred = gaussian_filter(glass, (6, 6, 0)) + random.normal(0, 1, glass.shape)
    assert tile_quality(glass.astype(np.uint8)).sharpness > MIN_SHARPNESS
    assert tile_quality(blurred.clip(0, 255).astype(np.uint8)).sharpness < MIN_SHARPNESS


@pytest.mark.skipif(not TILES.is_dir(), reason="the real tiles are not here")
@pytest.mark.parametrize("tissue", ["lung", "colon"])
def test_real_tiles_in_focus_are_kept_and_blurred_ones_dropped(tissue):
    paths = sorted((TILES / tissue).iterdir())[::4]
    tiles = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    sharp = np.array([tile_quality(tile).sharpness for tile in tiles])
    blurred = np.array([tile_quality(gaussian_filter(tile, (4, 4, 0))).sharpness for tile in tiles])
    assert (sharp >= MIN_SHARPNESS).mean() >= 0.995
    assert (blurred < MIN_SHARPNESS).mean() >= 0.99
