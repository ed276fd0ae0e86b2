from pathlib import Path

import numpy as np
import pytest

from rnagan.io.weights import read_arrays, write_arrays
from rnagan.models.latent_space import LatentSpace, active_units, relative_residuals, residuals

KL = np.array([0.5, 0.001, 0.02, 1.5, 0.0], np.float32)  # active: 3, 0, 2
CENTRES = {"liver": (4.0, -2.0, 1.0), "lung": (-3.0, 2.0, 0.5)}
SCATTER = np.array([[1.0, 0.6, 0.0], [0.0, 0.8, 0.1], [0.0, 0.0, 0.3]])


def latents(count: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Latent means of two tissues, of the same correlated scatter in units 3, 0 and 2; the others are noise."""
    draw = np.random.default_rng(seed)
    tissues = ["liver", "lung"] * (count // 2)
    mu = draw.normal(scale=0.01, size=(count, 5))
    mu[:, [3, 0, 2]] = [CENTRES[tissue] for tissue in tissues] + draw.normal(size=(count, 3)) @ SCATTER
    return mu.astype(np.float32), tissues


@pytest.fixture(scope="module")
def space() -> LatentSpace:
    mu, tissues = latents(2000, 1)
    held_out, _ = latents(400, 2)
    return LatentSpace.fit(mu, KL, tissues, held_out, np.linspace(0, 1, 101, dtype=np.float32))


def test_active_units_come_by_falling_kl() -> None:
    assert active_units(KL).tolist() == [3, 0, 2]
    assert active_units(np.zeros(4, np.float32)).tolist() == []


def test_statistics_and_centroids(space: LatentSpace) -> None:
    mu, _ = latents(2000, 1)
    np.testing.assert_allclose(space.mean, mu.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(space.standardised(mu).std(axis=0), 1, rtol=1e-4)
    assert space.tissues == ("liver", "lung")
    np.testing.assert_allclose(space.centroid("lung"), mu[1::2].mean(axis=0), atol=1e-5)
    with pytest.raises(ValueError, match="wasn't trained on 'Lung'; it knows liver, lung"):
        space.centroid("Lung")


def test_distance_is_mahalanobis_to_the_nearest_centroid(space: LatentSpace) -> None:
    """Oracle: the covariance that the latents were drawn with."""
    mu, _ = latents(50, 3)
    precision = np.linalg.inv(SCATTER.T @ SCATTER)
    offsets = [mu[:, [3, 0, 2]] - np.array(centre) for centre in CENTRES.values()]
    expected = np.sqrt(np.min([np.einsum("ni,ij,nj->n", o, precision, o) for o in offsets], axis=0) / 3)
    np.testing.assert_allclose(space.distance(mu), expected, rtol=0.1)
    euclidean = np.min([np.linalg.norm(o, axis=1) for o in offsets], axis=0)  # known wrong
    assert np.corrcoef(euclidean, expected)[0, 1] < 0.9
    assert 0.7 < np.sqrt(np.square(space.distance(latents(2000, 4)[0])).mean()) < 1.1


def test_far_is_well_beyond_the_held_out(space: LatentSpace) -> None:
    mu, _ = latents(1000, 5)
    near, some = space.distance(mu), np.full(1000, 0.5, np.float32)
    assert space.is_far(near, some).mean() < 0.005
    away = mu + np.float32([6, 0, 6, 0, 0])
    assert space.is_far(space.distance(away), some).mean() > 0.9
    np.testing.assert_allclose(space.far_residual, 1.25 * 0.99, rtol=1e-6)
    assert space.is_far(near, np.full(1000, 1.24, np.float32)).all()


def test_a_tissue_of_its_own_direction_is_far_and_a_known_one_may_lie_farther_out(space: LatentSpace) -> None:
    """Oracle: the angle to the nearest tissue, with the covariance that the latents were drawn with."""
    mu, tissues = latents(400, 10)
    centre = np.mean(list(CENTRES.values()), axis=0)
    round_ = np.linalg.inv(SCATTER)
    seen, own = (mu[:, [3, 0, 2]] - centre) @ round_, [(np.array(c) - centre) @ round_ for c in CENTRES.values()]
    cosines = [seen @ c / np.linalg.norm(seen, axis=1) / np.linalg.norm(c) for c in own]
    np.testing.assert_allclose(space.direction(mu), 1 - np.max(cosines, axis=0), atol=0.03)
    near = np.zeros(400, np.float32)

    def far(points: np.ndarray) -> float:
        return space.is_far(near, near, space.direction(points)).mean()

    middle = space.centroids.mean(axis=0)
    assert far(mu) < 0.03 and far(middle + 1.5 * (mu - middle)) < 0.03
    assert space.is_far(near, near).sum() == 0
    across = mu.copy()
    across[:, [3, 0, 2]] = centre + np.array([2, 3, -1]) + 0.3 * (mu[:, [3, 0, 2]] - [CENTRES[t] for t in tissues])
    assert far(across) > 0.9


def test_ends_of_the_range() -> None:
    mu, tissues = latents(8, 6)
    nothing = LatentSpace.fit(mu, np.zeros(5, np.float32), tissues, mu, np.ones(8, np.float32))
    assert nothing.distance(mu).tolist() == [0] * 8 and nothing.direction(mu).tolist() == [1] * 8
    assert nothing.standardised(mu).shape == (8, 0)
    single = LatentSpace.fit(mu, KL, ["lung"] * 8, mu, np.ones(8, np.float32))
    assert single.direction(mu).tolist() == [1] * 8 and not single.is_far(*np.zeros((2, 8)), single.direction(mu)).any()
    alone = LatentSpace.fit(mu[:2], KL, tissues[:2], mu, np.ones(8, np.float32))  # one profile a tissue: no scatter
    assert np.isfinite(alone.distance(mu)).all() and alone.distance(mu[:2]).max() < 1e-3


def test_round_trip(space: LatentSpace, tmp_path: Path) -> None:
    space.save(tmp_path / "latents.safetensors")
    again = LatentSpace.load(tmp_path / "latents.safetensors", list(space.tissues))
    mu, _ = latents(20, 7)
    np.testing.assert_array_equal(again.distance(mu), space.distance(mu))
    limits = (space.far_distance, space.far_residual, space.far_direction)
    assert (again.far_distance, again.far_residual, again.far_direction) == limits
    old = dict(read_arrays(tmp_path / "latents.safetensors"), far=np.array([1.5, 0.7]))
    del old["far_relative"]
    write_arrays(tmp_path / "old.safetensors", old)
    of_then = LatentSpace.load(tmp_path / "old.safetensors", list(space.tissues))
    assert (of_then.far_distance, of_then.far_residual, of_then.far_direction) == (1.5, 0.7, np.inf)
    of_then.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "old.safetensors").read_bytes()


def test_residuals_are_of_measured_genes() -> None:
    z, z_recon = np.float32([[1, 2, 3], [0, 0, 0]]), np.float32([[0, 2, 5], [1, 1, 1]])
    measured = np.array([[True, True, False], [False, False, False]])
    np.testing.assert_allclose(residuals(z, z_recon, measured), [np.sqrt(0.5), 0])


def test_relative_residuals_are_shares_of_the_own_distance_from_the_mean() -> None:
    z = np.float32([[3, 4, 9], [3, 4, 9], [0, 0, 0]])
    z_recon, measured = np.float32([[0, 0, 5], [3, 0, 5], [0, 0, 0]]), np.array([[True, True, False]] * 3)
    np.testing.assert_allclose(relative_residuals(z, z_recon, measured), [1, 0.8, 0], rtol=1e-6)
    np.testing.assert_allclose(relative_residuals(7 * z, 7 * z_recon, measured), [1, 0.8, 0], rtol=1e-6)
    space = LatentSpace(*[np.ones(1, np.float32)] * 3, (), *[np.zeros((0, 1), np.float32)] * 2, 1.0, 1.0)
    np.testing.assert_array_equal(space.residual(z, z_recon, measured), relative_residuals(z, z_recon, measured))


def test_neighbours_are_weighted_by_the_precision_of_the_posterior(space: LatentSpace, tmp_path: Path) -> None:
    """A unit that hardly tells profiles apart has the SD of the training split as any other, but a wide posterior."""
    mu, tissues = latents(200, 8)
    mu[:, 2] = np.random.default_rng(9).normal(size=200)
    posterior_sd = np.float32([0.1, 1, 0.95, 0.1, 1])
    weighted = LatentSpace.fit(mu, KL, tissues, mu, np.ones(200, np.float32), posterior_sd)
    assert (weighted.neighbours_by, space.neighbours_by) == ("precision_weighted", "standardised")
    off = weighted.neighbour_units(mu)[0] - weighted.neighbour_units(mu)[1]
    np.testing.assert_allclose(off, (mu[0] - mu[1])[[3, 0, 2]] / posterior_sd[[3, 0, 2]], rtol=1e-4)
    np.testing.assert_array_equal(space.neighbour_units(mu), space.standardised(mu))
    weighted.save(tmp_path / "latents.safetensors")
    again = LatentSpace.load(tmp_path / "latents.safetensors", list(weighted.tissues))
    np.testing.assert_array_equal(again.neighbour_units(mu), weighted.neighbour_units(mu))
    short = dict(read_arrays(tmp_path / "latents.safetensors"), posterior_sd=posterior_sd[:3])
    write_arrays(tmp_path / "short.safetensors", short)
    with pytest.raises(ValueError, match="of another latent or other tissues"):
        LatentSpace.load(tmp_path / "short.safetensors", list(weighted.tissues))
