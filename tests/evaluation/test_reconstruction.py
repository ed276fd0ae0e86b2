"""Oracles: loops, NumPy's SVD, SciPy's pearsonr and distances sorted by hand."""

import numpy as np
import pytest
from scipy.stats import pearsonr

from rnagan.evaluation import reconstruction as measure
from rnagan.expression.transform import ExpressionTransform


@pytest.fixture
def profiles() -> tuple[np.ndarray, np.ndarray, ExpressionTransform]:
    """Z scores of 12 profiles of 6 genes, reconstructions of them, and their transform; gene 5 doesn't vary."""
    draw = np.random.default_rng(0)
    x = np.expm1(np.abs(draw.normal(2, 1, (12, 6)))) * (draw.random((12, 6)) > 0.2)
    x[:, 5] = 3.0
    transform = ExpressionTransform.fit(x, list("ABCDEF"), "tpm", "log1p")
    z = transform.apply(x, list("ABCDEF"), "tpm")
    return z, z + draw.normal(0, 0.3, z.shape).astype(np.float32), transform


def test_errors_equal_loops_over_genes_and_samples(profiles: tuple) -> None:
    z, z_hat, transform = profiles
    squares, log_squares, off, total, shares = [], [], 0.0, 0.0, []
    for i in range(12):
        for g in range(5):  # without the gene that doesn't vary
            x, x_hat = (float(a[i, g]) * transform.sd[g] + transform.mean[g] for a in (z, z_hat))
            squares.append((float(z[i, g]) - float(z_hat[i, g])) ** 2)
            log_squares.append((x - x_hat) ** 2)
            off, total = off + abs(x - x_hat), total + abs(x)
            shares += [abs(x - x_hat) / x] if x > 1e-6 else []
    assert 0 < len(shares) < 60
    found = measure.errors(z, z_hat, transform)
    assert found["rmse_z"] == pytest.approx(np.mean(squares) ** 0.5)
    assert found["rmse_log"] == pytest.approx(np.mean(log_squares) ** 0.5)
    assert found["absolute_error_percent"] == pytest.approx(100 * off / total)
    assert found["percentage_error_nonzero"] == pytest.approx(100 * np.mean(shares))
    # known wrong: with the gene that doesn't vary; percent of Z scores, whose sum of |x| means nothing
    assert found["rmse_z"] != pytest.approx(np.sqrt(np.square(z - z_hat).mean()), rel=1e-3)
    assert found["absolute_error_percent"] != pytest.approx(100 * np.abs(z - z_hat).sum() / np.abs(z).sum(), rel=0.1)


def test_rmse_of_profiles_and_of_all_agree(profiles: tuple) -> None:
    z, z_hat, transform = profiles
    each = measure.rmse_per_profile(z, z_hat, transform)
    assert each.shape == (12,) and np.sqrt(np.mean(each**2)) == pytest.approx(measure.errors(*profiles)["rmse_z"])


def test_genes_equal_scipy_and_r2_is_against_the_mean_of_these_samples(profiles: tuple) -> None:
    z, z_hat, _ = profiles
    genes = measure.per_gene(z, z_hat)
    for g in range(5):
        assert genes["pearson"][g] == pytest.approx(pearsonr(z[:, g], z_hat[:, g]).statistic, abs=1e-6)
        explained = 1 - ((z[:, g] - z_hat[:, g]) ** 2).sum() / ((z[:, g] - z[:, g].mean()) ** 2).sum()
        assert genes["r2"][g] == pytest.approx(explained, abs=1e-5)
    assert np.isnan(genes["r2"][5]) and np.isnan(genes["pearson"][5])
    shifted = measure.per_gene(z[:, :5], z[:, :5] + 2)  # a perfect correlation, and worse than the mean
    assert (shifted["pearson"] > 0.999).all() and (shifted["r2"] < 0).all()


def test_pca_equals_svd_and_without_components_the_mean() -> None:
    draw = np.random.default_rng(0)
    train, test = draw.normal(size=(20, 8)) + 1, draw.normal(size=(5, 8))
    pca = measure.fit_pca(train, 3)
    _, _, directions = np.linalg.svd(train - train.mean(axis=0))
    basis = directions[:3]
    expected = train.mean(axis=0) + (test - train.mean(axis=0)) @ basis.T @ basis
    np.testing.assert_allclose(pca.reconstruct(test), expected, atol=1e-10)
    assert pca.scores(test).shape == (5, 3)
    np.testing.assert_allclose(measure.fit_pca(train, 0).reconstruct(test), np.tile(train.mean(axis=0), (5, 1)))
    assert len(measure.fit_pca(train, 99).components) == 8


def test_neighbours_equal_distances_sorted_by_hand() -> None:
    draw = np.random.default_rng(0)
    train, points = draw.normal(size=(30, 2)), draw.normal(size=(20, 2))
    tissues, truth = draw.choice(["a", "b"], 30), draw.choice(["a", "b"], 20)
    called = []
    for point in points:
        nearest = tissues[np.argsort(((train - point) ** 2).sum(axis=1))[:5]]
        called.append("a" if (nearest == "a").sum() > 2 else "b")
    assert measure.nearest_tissues(train, tissues, points).tolist() == called
    assert measure.knn_accuracy(train, tissues, points, truth) == pytest.approx(np.mean(np.array(called) == truth))
    assert measure.knn_accuracy(train, tissues, points, truth, k=1) != measure.knn_accuracy(
        train, tissues, points, truth
    )
    assert measure.knn_accuracy(train[:, :0], tissues, points[:, :0], truth) is None


def test_scatter_is_within_tissues() -> None:
    z, tissues = np.array([[0.0, 0], [2, 0], [10, 5], [10, 9]]), np.array(["a", "a", "b", "b"])
    assert measure.scatter_within(z, tissues) == pytest.approx(np.sqrt((1 + 1 + 4 + 4) / 8))


def test_r2_within_tissues_is_of_donors_alone(profiles: tuple) -> None:
    z, z_hat, _ = profiles
    tissues = np.array(list("AABBBACCBAAC"))
    squares = total = 0.0
    for tissue in "ABC":
        own, rebuilt = z[tissues == tissue].astype(float), z_hat[tissues == tissue].astype(float)
        for sample in range(len(own)):
            for gene in range(6):
                left = own[sample, gene] - own[:, gene].mean()
                squares += (left - (rebuilt[sample, gene] - rebuilt[:, gene].mean())) ** 2
                total += left**2
    assert measure.r2_within(z, z_hat, tissues) == pytest.approx(1 - squares / total)
    means = np.stack([z[tissues == tissue].mean(axis=0) for tissue in tissues])
    assert measure.r2_within(z, means, tissues) == pytest.approx(0)  # known wrong: R² over all, which tissues explain
    assert 1 - np.square(z - means).sum() / np.square(z - z.mean(axis=0)).sum() > 0.1
    assert measure.r2_within(z + 5 * (tissues == "A")[:, None], z, tissues) == pytest.approx(1)
    assert measure.r2_within(z, z_hat, np.array(list("ABCDEFGHIJKL"))) is None
