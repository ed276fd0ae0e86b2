import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rnagan.runtime import rng


@given(st.integers(0, 10**9), st.integers(0, 9), st.integers(0, 9), st.integers(1, 11))
def test_rows_are_addressed_by_number(start, before, count, width):
    whole = rng.uniform(3, "p", start, before + count, width)
    assert whole.shape == (before + count, width)
    np.testing.assert_array_equal(whole[before:], rng.uniform(3, "p", start + before, count, width))


def test_seed_and_purpose_make_other_draws():
    draws = [rng.uniform(seed, purpose, 0, 50, 3) for seed in (0, 1) for purpose in ("a", "b", "0/a")]
    assert len(np.unique(np.round(draws, 12))) == 6 * 150
    assert rng.stream_key(1, "1/a") != rng.stream_key(11, "/a")


def test_uniform_and_normal_are_what_they_say():
    uniform, normal = rng.uniform(0, "u", 0, 5000, 3), rng.normal(0, "n", 0, 5000, 3)
    assert stats.kstest(uniform.ravel(), "uniform").pvalue > 0.01
    assert stats.kstest(normal.ravel(), "norm").pvalue > 0.01
    assert np.abs(np.corrcoef(uniform.T) - np.eye(3)).max() < 0.05
    assert abs(np.corrcoef(uniform[:-1, 0], uniform[1:, 0])[0, 1]) < 0.05
    np.testing.assert_allclose(stats.norm.cdf(rng.normal(0, "u", 0, 5000, 3)), uniform, rtol=1e-9)


@pytest.mark.parametrize("word", [0, 2**64 - 1])
def test_the_ends_of_the_interval_are_never_drawn(word, monkeypatch):
    class Extreme:
        def __init__(self, key):
            pass

        def advance(self, steps):
            pass

        def random_raw(self, count):
            return np.full(count, word, np.uint64)

    monkeypatch.setattr(np.random, "Philox", Extreme)
    assert ((rng.uniform(0, "p", 0, 1, 4) > 0) & (rng.uniform(0, "p", 0, 1, 4) < 1)).all()
    assert np.isfinite(rng.normal(0, "p", 0, 1, 4)).all()


def test_known_draws_stay():
    """A change of these numbers would change every run that is resumed."""
    expected = [0.50230915083, 0.562710915926, 0.819859475432]
    np.testing.assert_allclose(rng.uniform(0, "noise", 7, 1, 3)[0], expected, rtol=0, atol=1e-11)


def test_generators_of_numbers_and_purposes_differ():
    firsts = {
        rng.generator(seed, purpose, number).random()
        for seed in (0, 1)
        for purpose in ("a", "b")
        for number in (0, 1, 2**40)
    }
    assert len(firsts) == 12
    assert rng.generator(0, "a", 5).random() == rng.generator(0, "a", 5).random()


def test_bytes_are_addressed_and_uniform() -> None:
    whole = rng.byte_draws(1, "p", 0, 300, 77)
    assert (whole.shape, whole.dtype) == ((300, 77), np.uint8)
    np.testing.assert_array_equal(rng.byte_draws(1, "p", 5, 7, 77), whole[5:12])
    assert not np.array_equal(rng.byte_draws(2, "p", 0, 300, 77), whole)
    counts = np.bincount(whole.ravel(), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-3
