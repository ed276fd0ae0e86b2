"""Gains that make a generator's response to the profile that of the real tiles."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from rnagan import RNAGAN
from rnagan.evaluation.calibration import BOUNDS, fit_gains
from rnagan.expression.h5ad import open_profiles
from rnagan.training.tile_inputs import TileInputs

UNITS, MEASURED = 3, 4


def parts(true: np.ndarray, noise: float, donors: int = 400) -> list[tuple[np.ndarray, ...]]:
    """Two tissues whose real measures follow the conditions with `true` times the generator's response."""
    draw = np.random.default_rng(0)
    response = draw.normal(size=(UNITS, MEASURED))
    found = []
    for tissue in range(2):
        c = draw.normal(size=(donors, UNITS)) + tissue
        generated = 5 + c @ response
        real = 7 + (c * true) @ response + noise * draw.normal(size=(donors, MEASURED))
        found.append((c, generated, real))
    return found


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_gains_are_found_whatever_the_noise_of_the_real_tiles(noise: float) -> None:
    true = np.array([2.0, 1.0, 0.5])
    gains = fit_gains(parts(true, noise))
    assert gains == pytest.approx(true, abs=0.2)
    # slopes of generated on real tiles, by component: regressing the other way round would shrink with the noise
    assert np.abs(gains - true).max() < 0.5 * np.abs(1 - true).max()


def test_gains_are_1_where_nothing_says_otherwise_and_stay_within_bounds() -> None:
    assert fit_gains(parts(np.ones(UNITS), 0.0)) == pytest.approx(np.ones(UNITS), abs=0.01)
    still = [(c, 0 * generated + 3, real) for c, generated, real in parts(np.ones(UNITS), 1.0)]
    assert fit_gains(still).tolist() == [1.0] * UNITS
    assert fit_gains(parts(np.full(UNITS, 50.0), 0.0)).max() == BOUNDS[1]
    assert fit_gains(parts(np.full(UNITS, -3.0), 0.0)).min() == BOUNDS[0]


def test_a_model_with_gains_generates_from_conditions_times_them(trained: Path, inputs: TileInputs) -> None:
    model = RNAGAN.from_pretrained(trained, "cpu")
    profiles = open_profiles(inputs.expression)[:2].copy()
    tiles = model.generate(profiles, 2)
    units = model.bottleneck.units.numel()
    np.testing.assert_array_equal(dataclasses.replace(model, gains=np.ones(units)).generate(profiles, 2), tiles)
    gains = np.linspace(0.5, 3, units)
    latents = profiles.obsm["X_rnagan"]
    moved = latents.copy()
    places, mean = model.bottleneck.units.numpy(), model.bottleneck.mean.numpy()
    moved[:, places] = (latents[:, places] - mean) * gains + mean  # the same conditions by another way
    other = dataclasses.replace(model, gains=gains).generate_tiles(latents[0], 2, 0, "a")
    expected = model.generate_tiles(moved[0], 2, 0, "a")
    assert (
        np.abs(other.astype(int) - expected).max() <= 1 and (other != model.generate_tiles(latents[0], 2, 0, "a")).any()
    )
