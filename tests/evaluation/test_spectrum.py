import functools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from rnagan.evaluation.spectra import PERIODS, checkerboards, compare, power_spectrum, radial

SIDE = 64


@functools.cache
def textures(count: int, seed: int, blur: float = 0.7, side: int = SIDE) -> np.ndarray:
    """Smooth blobs with fine noise in random places: a falling spectrum, not periodic, as floats around 150."""
    noise = np.random.default_rng(seed).normal(size=(count, side, side, 3))
    smooth = 20 * gaussian_filter(noise, (0, 4, 4, 0), mode="reflect") / 0.07
    return 150 + smooth + gaussian_filter(6 * noise, (0, blur, blur, 0), mode="reflect")


def to_tiles(x: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def board(period: int, amplitude: float, side: int = SIDE) -> np.ndarray:
    """A wave of one period along rows and columns, of a random sign a tile."""
    wave = np.cos(2 * np.pi * np.arange(side) / period)
    return amplitude * np.outer(wave, wave)[None, :, :, None]


def test_white_noise_has_its_variance_in_every_bin() -> None:
    tiles = to_tiles(128 + 12 * np.random.default_rng(0).normal(size=(300, 32, 32, 3)))
    spectrum = power_spectrum(tiles)
    expected = 12**2 + 1 / 12  # rounding
    outside = np.ones((32, 32), bool)
    outside[np.ix_([0, 1, -1], [0, 1, -1])] = False  # where the mean was taken off
    np.testing.assert_allclose(spectrum[outside], expected, rtol=0.2)
    assert spectrum[outside].mean() == pytest.approx(expected, rel=0.01)
    assert radial(spectrum)[1][3:] == pytest.approx(np.full(13, expected), rel=0.05)


def test_planted_checkerboard_has_the_energy_of_its_amplitude() -> None:
    grey, amplitude = np.full((4, SIDE, SIDE, 3), 100.0), 10.0
    found = checkerboards(power_spectrum(to_tiles(grey + board(2, amplitude))))
    # all of a² S² lies in the nine bins of one of this period's three frequencies
    assert found[2].energy == pytest.approx(amplitude**2 * SIDE**2 / 9 / 3, rel=1e-6)
    assert found[4].energy == pytest.approx(0, abs=1e-9) and found[8].energy == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("period", PERIODS)
def test_planted_checkerboards_are_found_in_texture_at_their_period(period: int) -> None:
    clean, real = textures(80, 0), checkerboards(power_spectrum(to_tiles(textures(80, 1))))
    over_real = compare(checkerboards(power_spectrum(to_tiles(clean + board(period, period / 2)))), real)
    for name, ratios in over_real.items():
        if name == str(period):
            assert ratios["prominence"] > 1.3
        else:
            assert ratios["prominence"] == pytest.approx(1, abs=0.15)


def test_clean_tiles_are_near_one_and_near_one_another() -> None:
    one, other = (checkerboards(power_spectrum(to_tiles(textures(80, seed)))) for seed in (0, 1))
    for period in PERIODS:
        assert one[period].prominence == pytest.approx(1, abs=0.25)
        assert compare(one, other)[str(period)]["prominence"] == pytest.approx(1, abs=0.1)


def test_plain_energy_would_be_fooled_by_blur() -> None:
    """The wrong variant: blurred tiles with a checkerboard have a sharp tile's energy, and stand out all the same."""
    sharp, blurred = textures(80, 1, blur=0.5), textures(80, 0, blur=0.9)
    real = checkerboards(power_spectrum(to_tiles(sharp)))
    clean = compare(checkerboards(power_spectrum(to_tiles(blurred))), real)
    assert clean["2"]["energy"] < 0.6 and clean["2"]["prominence"] == pytest.approx(1, abs=0.2)
    missing = 27 * real[2].energy * (1 - clean["2"]["energy"]) / SIDE**2
    planted = compare(checkerboards(power_spectrum(to_tiles(blurred + board(2, np.sqrt(missing))))), real)
    assert planted["2"]["energy"] == pytest.approx(1, abs=0.1)
    assert planted["2"]["prominence"] > 2


def test_without_a_window_the_jump_between_edges_would_stand_out() -> None:
    ramp = np.broadcast_to(np.linspace(60, 200, SIDE)[None, :, None, None], (20, SIDE, SIDE, 3))
    tiles = to_tiles(ramp + np.random.default_rng(0).normal(0, 4, ramp.shape))
    assert checkerboards(power_spectrum(tiles))[2].prominence == pytest.approx(1, abs=0.15)
    x = tiles.astype(float) - tiles.mean(axis=(1, 2), keepdims=True)
    bare = (np.abs(np.fft.fft2(x, axes=(1, 2))) ** 2).mean(axis=(0, 3))
    assert checkerboards(bare)[2].prominence > 1.5


def test_parts_are_averaged_and_batches_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = to_tiles(textures(10, 0))
    whole = power_spectrum(tiles)
    np.testing.assert_allclose(np.mean([power_spectrum(tiles[k : k + 1]) for k in range(10)], axis=0), whole)
    monkeypatch.setattr("rnagan.evaluation.spectra.BATCH", 3)
    np.testing.assert_allclose(power_spectrum(tiles), whole)


def test_radial_finds_a_wave_at_its_frequency() -> None:
    wave = 100 + 20 * np.cos(2 * np.pi * 10 * np.arange(SIDE) / SIDE)
    frequency, power = radial(power_spectrum(to_tiles(np.broadcast_to(wave[None, None, :, None], (1, SIDE, SIDE, 3)))))
    assert frequency[power.argmax()] == pytest.approx(10 / SIDE) and frequency[-1] == 0.5


def test_small_tiles_have_fewer_periods_and_others_are_refused() -> None:
    assert list(checkerboards(np.ones((32, 32)))) == [2, 4] and list(checkerboards(np.ones((16, 16)))) == [2]
    assert list(checkerboards(np.ones((256, 256)))) == [2, 4, 8]
    assert all(found.prominence == pytest.approx(1) for found in checkerboards(np.ones((64, 64))).values())
    with pytest.raises(ValueError, match="Tiles of 8 px are too small"):
        checkerboards(np.ones((8, 8)))
    with pytest.raises(ValueError, match="needs square tiles"):
        power_spectrum(np.zeros((1, 16, 32, 3), np.uint8))
