from pathlib import Path

import numpy as np
import pytest

from rnagan.config.vae import TRANSFORMS
from rnagan.expression.transform import ExpressionTransform
from rnagan.io.files import read_json, write_json
from rnagan.io.weights import read_tensors
from tests.disks import small_disk

GENES = ["a", "b", "c", "d"]


@pytest.fixture
def x_train() -> np.ndarray:
    x = np.random.default_rng(0).gamma(1.0, 20.0, size=(30, 4)).astype(np.float32)
    x[:9, 1] = 0
    x[:, 3] = 7.1  # never varies
    return x


@pytest.mark.parametrize("log", ["log1p", "paper"])
def test_z_scores_of_tpm(x_train: np.ndarray, log: str) -> None:
    x = x_train.astype(np.float64)
    logged = np.log1p(x) if log == "log1p" else np.where(x > 0, np.log(np.maximum(x, 1e-300)), 0.0)
    expected = (logged - logged.mean(0)) / logged.std(0).clip(1e-3)
    z = ExpressionTransform.fit(x_train, GENES, "tpm", log).apply(x_train, GENES, "tpm")
    assert z.dtype == np.float32
    np.testing.assert_allclose(z[:, :3], expected[:, :3], atol=1e-5)
    np.testing.assert_array_equal(z[:, 3], 0)


def test_constant_gene_stays_zero_for_any_profile(x_train: np.ndarray) -> None:
    transform = ExpressionTransform.fit(x_train, GENES, "tpm", "log1p")
    assert transform.constant.tolist() == [False, False, False, True]
    assert transform.sd[3] == 1
    assert transform.apply(np.full((1, 4), 900.0), GENES, "tpm")[0, 3] == 0


def test_log2_data_are_not_logged_again(x_train: np.ndarray) -> None:
    transform = ExpressionTransform.fit(np.log2(1 + x_train), GENES, "log2", "log1p")
    from_tpm = ExpressionTransform.fit(x_train, GENES, "tpm", "log1p")
    assert transform.log == "none"
    np.testing.assert_allclose(  # the base of a logarithm cancels in a Z score
        transform.apply(np.log2(1 + x_train), GENES, "log2"), from_tpm.apply(x_train, GENES, "tpm"), atol=1e-5
    )


def test_counts_become_counts_per_million_of_the_model_genes(x_train: np.ndarray) -> None:
    counts = np.floor(x_train * 10)
    transform = ExpressionTransform.fit(counts, GENES, "counts", "log1p")
    z = transform.apply(counts, GENES, "counts")
    per_million = 1e6 * counts / counts.sum(axis=1, keepdims=True)
    by_hand = ExpressionTransform.fit(per_million, GENES, "tpm", "log1p").apply(per_million, GENES, "tpm")
    np.testing.assert_allclose(z, by_hand, atol=1e-4)
    np.testing.assert_allclose(transform.apply(3 * counts, GENES, "counts"), z, atol=1e-4)  # depth doesn't matter
    with_surplus = np.column_stack([counts, np.full(30, 5000.0)])
    np.testing.assert_allclose(transform.apply(with_surplus, [*GENES, "e"], "counts"), z, atol=1e-5)


def test_genes_are_aligned_by_name_and_missing_ones_are_zero(x_train: np.ndarray) -> None:
    transform = ExpressionTransform.fit(x_train, GENES, "tpm", "log1p")
    z = transform.apply(x_train, GENES, "tpm")
    foreign = transform.apply(x_train[:, [2, 0]], ["c", "a"], "tpm")
    np.testing.assert_array_equal(foreign[:, [0, 2]], z[:, [0, 2]])
    np.testing.assert_array_equal(foreign[:, [1, 3]], 0)
    with_gap = x_train[:, :3].copy()
    with_gap[4, 1] = np.nan
    measured = transform.measured(with_gap, ["c", "a", "z"])
    np.testing.assert_array_equal(measured, [[row != 4, False, True, False] for row in range(30)])
    np.testing.assert_array_equal(transform.apply(with_gap, ["c", "a", "z"], "tpm")[4, 0], 0)
    # Known wrong: a missing gene set to 0 before the Z score is far from its mean.
    before = np.column_stack([x_train[:, :1], np.zeros(30), x_train[:, 2:]])
    assert np.abs(transform.apply(before, GENES, "tpm")[:, 1]).min() > 0.5


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_state_round_trip(x_train: np.ndarray, tmp_path: Path, kind: str) -> None:
    transform = ExpressionTransform.fit(x_train, GENES, "tpm", "log1p" if kind == "lognorm" else "paper", kind)
    transform.save(tmp_path)
    again = ExpressionTransform.load(tmp_path)
    assert (again.genes, again.units, again.log, again.kind) == (transform.genes, "tpm", transform.log, kind)
    foreign = x_train.copy()
    foreign[3, 0] = np.nan
    z = transform.apply(foreign, GENES, "tpm")
    np.testing.assert_array_equal(again.apply(foreign, GENES, "tpm"), z)
    np.testing.assert_array_equal(again.invert(z), transform.invert(z))
    np.testing.assert_array_equal(again.spread, transform.spread)
    record = read_json(tmp_path / "transform.json")
    write_json(tmp_path / "transform.json", record | {"kind": "ranks"})
    with pytest.raises(ValueError, match="a transform that aren't known"):
        ExpressionTransform.load(tmp_path)


def test_a_transform_from_before_there_were_kinds_is_a_z_score(x_train: np.ndarray, tmp_path: Path) -> None:
    transform = ExpressionTransform.fit(x_train, GENES, "tpm", "log1p")
    transform.save(tmp_path)
    assert set(read_tensors(tmp_path / "transform.safetensors")) == {"mean", "sd", "constant"}
    record = read_json(tmp_path / "transform.json")
    write_json(tmp_path / "transform.json", {name: record[name] for name in ("units", "log", "genes")})
    z = transform.apply(x_train, GENES, "tpm")
    np.testing.assert_array_equal(ExpressionTransform.load(tmp_path).apply(x_train, GENES, "tpm"), z)


def test_a_floor_under_the_sds_keeps_quiet_genes_small(x_train: np.ndarray) -> None:
    x_train[:, 0] = 5 + 0.01 * x_train[:, 0] / x_train[:, 0].max()
    plain = ExpressionTransform.fit(x_train, GENES, "tpm", "log1p")
    floored = ExpressionTransform.fit(x_train, GENES, "tpm", "log1p", "zscore_floor")
    median = np.median(np.log1p(x_train[:, :3]).std(axis=0))
    np.testing.assert_allclose(floored.sd[:3], np.maximum(plain.sd[:3], median), rtol=1e-5)
    z = floored.apply(x_train, GENES, "tpm")
    np.testing.assert_allclose(z.std(axis=0)[:3], floored.spread[:3], rtol=1e-4)
    assert z[:, 0].std() < 0.01 and z[:, 1].std() > 0.5 and (z[:, 3] == 0).all()
    np.testing.assert_allclose(floored.invert(z), x_train, rtol=1e-5, atol=1e-4)


def test_lognorm_is_of_shares_of_the_library_and_not_divided(x_train: np.ndarray) -> None:
    counts = np.floor(x_train * 10)
    transform = ExpressionTransform.fit(counts, GENES, "counts", "paper", "lognorm")
    logged = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    z = transform.apply(counts, GENES, "counts")
    np.testing.assert_allclose(z, logged - logged.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(transform.apply(7 * counts, GENES, "counts"), z, atol=1e-5)
    np.testing.assert_allclose(transform.invert(z), np.expm1(logged), rtol=1e-4, atol=1e-3)
    # A profile that lacks genes adds up to what the others hold in training, not to all of it.
    half = transform.apply(counts[:, :2], GENES[:2], "counts")[:, :2]
    held = (counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)[:2].sum()
    expected = np.log1p(1e4 * held * counts[:, :2] / counts[:, :2].sum(axis=1, keepdims=True).clip(1))
    np.testing.assert_allclose(half, expected - logged.mean(axis=0)[:2], atol=1e-5)
    with pytest.raises(ValueError, match="lognorm needs totals, which log2 data don't have"):
        ExpressionTransform.fit(logged, GENES, "log2", "log1p", "lognorm")
    with pytest.raises(ValueError, match="are in tpm and the model was fitted on counts"):
        transform.apply(counts, GENES, "tpm")


def test_bad_profiles_are_refused_in_a_sentence(x_train: np.ndarray) -> None:
    transform = ExpressionTransform.fit(x_train, GENES, "tpm", "log1p")
    with pytest.raises(ValueError, match="are in counts and the model was fitted on tpm"):
        transform.apply(x_train, GENES, "counts")
    with pytest.raises(ValueError, match="none of the model's 4 genes: theirs start with w"):
        transform.apply(x_train, ["w", "x", "y", "z"], "tpm")
    with pytest.raises(ValueError, match="no training profile"):
        ExpressionTransform.fit(x_train[:0], GENES, "tpm", "log1p")


def test_versions_and_par_twins_of_foreign_genes_do_not_matter(x_train: np.ndarray) -> None:
    genes = ["ENSG1", "ENSG2", "ENSG3", "ENSG4"]
    transform = ExpressionTransform.fit(x_train, genes, "tpm", "log1p")
    expected = transform.apply(x_train, genes, "tpm")
    spelled = ["ENSG1_PAR_Y", "ENSG2.7", "ENSG1.5", "ENSG3.1", "rna_ENSG4.12"]
    foreign = np.column_stack([np.full(30, 999.0), x_train[:, [1, 0, 2, 3]]])
    np.testing.assert_array_equal(transform.apply(foreign, spelled, "tpm"), expected)
    assert transform.measured(foreign, spelled).all()
    np.testing.assert_array_equal(transform.measured(foreign[:, :2], spelled[:2]).mean(axis=0), [0, 1, 0, 0])
    fitted_so = ExpressionTransform.fit(foreign, spelled, "tpm", "log1p")
    assert fitted_so.genes == ("ENSG2", "ENSG1", "ENSG3", "ENSG4")
    np.testing.assert_array_equal(fitted_so.apply(x_train, genes, "tpm"), expected[:, [1, 0, 2, 3]])
    with pytest.raises(ValueError, match=r"gene list of the profiles holds 1 gene \(ENSG1\) more than once"):
        transform.apply(x_train[:, :2], ["ENSG1.5", "ENSG1.6"], "tpm")


def test_a_full_disk_is_an_oserror(x_train: np.ndarray, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "16k") as disk:
        (disk / "full").write_bytes(bytes(16 * 1024))
        with pytest.raises(OSError, match="No space left"):
            ExpressionTransform.fit(x_train, GENES, "tpm", "log1p").save(disk)
