from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnagan.expression import transpose


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 9), st.lists(st.integers(0, 5), min_size=1, max_size=6), st.randoms(use_true_random=False), st.data()
)
def test_bands_are_the_transposed_table(tmp_path: Path, samples: int, heights: list, random, data) -> None:
    values = np.arange(sum(heights) * samples, dtype=np.float32).reshape(-1, samples)
    order = list(range(len(values)))
    random.shuffle(order)
    wanted = np.array(order[: data.draw(st.integers(0, len(order)))], dtype=np.intp)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transpose, "_BAND", data.draw(st.integers(1, 10)))
        patch.setattr(transpose, "_BUFFER_BYTES", data.draw(st.sampled_from([1, 60, 10_000])))
        with transpose.Transposer(tmp_path / "x", samples) as turned:
            for block in np.split(values, np.cumsum(heights)[:-1]):
                turned.add(block)
            rows = np.concatenate(list(turned.rows(wanted)))
    np.testing.assert_array_equal(rows, values.T[:, wanted])
