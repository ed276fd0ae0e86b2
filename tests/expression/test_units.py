import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnagan.expression.units import ValueRange, check_units, units_of

values = st.lists(st.floats(-30, 60, width=32) | st.integers(0, 60).map(float), min_size=1, max_size=12)


def seen_in(*blocks: list[float]) -> ValueRange:
    seen = ValueRange()
    for block in blocks:
        seen.add(np.float32(block))
    return seen


@given(values, st.integers(0, 12))
def test_blocks_decide_as_the_whole_table(drawn: list[float], cut: int) -> None:
    assert units_of(seen_in(drawn[:cut], drawn[cut:])) == units_of(seen_in(drawn))


@pytest.mark.parametrize(
    ("values", "units"), [([0.5, -0.1], "log2"), ([3, 0], "counts"), ([0.5, 24.9], "log2"), ([0.5, 25.1], "tpm")]
)
def test_units_are_found(values: list[float], units: str) -> None:
    assert units_of(seen_in(values))[0] == units


def test_units_that_there_are_not() -> None:
    check_units(None)
    with pytest.raises(ValueError, match="units must be one of tpm, counts, log2, not 'rpkm'"):
        check_units("rpkm")
