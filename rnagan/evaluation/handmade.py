"""Statistics of tiles made by hand, without any network: they see stain, grain and edges, which networks overlook."""

from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2gray, rgb2hed
from skimage.feature import local_binary_pattern

from rnagan.evaluation.features import HANDMADE, check_tiles
from rnagan.io.files import sha256_of

SMALLEST_PX = 32  # side of a tile: the coarsest wave
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NEIGHBOURS, RADII_PX = 8, (1, 2, 3)  # of local binary patterns (Ojala et al. 2002, section 2)
BANDS = 2.0 ** np.arange(-5.25, 0, 0.5)  # cycles per px, half an octave each, from waves of 32 px to a checkerboard's
LAGS_PX = (1, 2, 4, 8)
RINGS = 4  # lines of pixels from the edge inwards, each compared with the middle
ROUNDING = 1 / 12  # variance that whole grey levels add: below it, texture is nothing
WIDTH = 3 * (2 + len(QUANTILES)) + len(RADII_PX) * (NEIGHBOURS + 2) + len(BANDS) - 1 + len(LAGS_PX) + 3 * RINGS + 4
VERSION = 1  # of the formulas here: it changes with them


class HandmadeStatistics:
    """81 numbers a tile (n, H, W, 3) uint8 of 32 px at least, seen at its own size, in this order:

    stain        of haematoxylin, eosin and the residual (Ruifrok & Johnston 2001): mean, SD, QUANTILES
    patterns     share of each uniform local binary pattern of grey, at each of RADII_PX
    spectrum     log of the mean power of grey in BANDS of frequency, under a Hann window, in squared grey levels
    correlation  of grey with itself at LAGS_PX, mean over rows and columns
    edges        of the outermost RINGS of pixels, less that of the middle: mean, SD and mean step between neighbours
                 along the ring, in grey levels; then the mean of the top, bottom, left and right line likewise

    They have different units, so distances take them `standardised`.
    """

    name = HANDMADE
    width = WIDTH
    resizer = "none"
    standardised = True

    def __init__(self) -> None:
        decide = [QUANTILES, NEIGHBOURS, RADII_PX, BANDS.tolist(), LAGS_PX, RINGS, version("scikit-image"), VERSION]
        self.weights = sha256_of(decide)

    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        check_tiles(tiles)
        if min(tiles.shape[1:3]) < SMALLEST_PX:
            raise ValueError(f"The extractor {HANDMADE} needs tiles of {SMALLEST_PX} px at least, not {tiles.shape}.")
        # tile by tile: none can depend on another
        return np.array([_statistics(tile) for tile in tiles], np.float32).reshape(-1, WIDTH)

    def logits(self, features: NDArray[np.float32]) -> None:
        """It is no classifier."""


def _statistics(tile: NDArray[np.uint8]) -> NDArray[np.float64]:
    grey = rgb2gray(tile) * 255
    return np.concatenate([_stain(tile), _patterns(grey), _spectrum(grey), _correlation(grey), _edges(grey)])


def _stain(tile: NDArray[np.uint8]) -> NDArray[np.float64]:
    stains = rgb2hed(np.maximum(tile, 1)).reshape(-1, 3)  # of 0 it would take a density of 6, a hundred SDs away
    return np.concatenate([stains.mean(0), stains.std(0), np.quantile(stains, QUANTILES, axis=0).ravel()])


def _patterns(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    whole = np.rint(grey).astype(np.uint8)  # equal neighbours are equal, whatever float64 rounds
    shares = []
    for radius in RADII_PX:
        codes = local_binary_pattern(whole, NEIGHBOURS, radius, "uniform").astype(np.int64)
        inner = codes[radius:-radius, radius:-radius]  # others look beyond the tile
        shares.append(np.bincount(inner.ravel(), minlength=NEIGHBOURS + 2) / inner.size)
    return np.concatenate(shares)


def _spectrum(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scaled so that white noise of variance v has v at every frequency."""
    rows, columns = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(side) / side) for side in grey.shape)
    window = np.outer(rows, columns)
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2 / (window**2).sum()
    frequency = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, grey.shape), indexing="ij"))
    band = np.digitize(frequency, BANDS)  # 0 is below the first, which the mean and the window fill
    sums, counts = (np.bincount(band.ravel(), own, len(BANDS) + 1)[1:-1] for own in (power.ravel(), None))
    return np.log(ROUNDING + sums / counts)


def _correlation(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = grey - grey.mean()
    variance = np.mean(centred**2) + ROUNDING
    both = ((centred[lag:] * centred[:-lag]).mean() + (centred[:, lag:] * centred[:, :-lag]).mean() for lag in LAGS_PX)
    return np.array([each / 2 / variance for each in both])


def _edges(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    middle = grey[2 * RINGS : -2 * RINGS, 2 * RINGS : -2 * RINGS]
    steps = [np.abs(np.diff(middle, axis=axis)).mean() for axis in (0, 1)]
    of_middle = np.array([middle.mean(), middle.std(), np.mean(steps)])
    rings = []
    for k in range(RINGS):
        sides = _sides(grey[k : len(grey) - k, k : grey.shape[1] - k])
        ring = np.concatenate(sides)
        along = np.concatenate([np.abs(np.diff(side)) for side in sides])
        rings.append(np.array([ring.mean(), ring.std(), along.mean()]) - of_middle)
    return np.concatenate([*rings, [side.mean() - of_middle[0] for side in _sides(grey)]])


def _sides(grey: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    return [grey[0], grey[-1], grey[:, 0], grey[:, -1]]
