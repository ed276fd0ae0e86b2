import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnagan.expression.table_readers import detect_units
from rnagan.expression.units import ValueRange, check_units, units_of

values = st.lists(st.floats(-30, 60, width=32) | st.integers(0, 60).map(float), min_size=1, max_size=12)


@given(values, st.integers(0, 12))
def test_blocks_decide_as_the_whole_table(drawn: list[float], cut: int) -> None:
    seen = ValueRange()
    for part in (drawn[:cut], drawn[cut:]):
        seen.add(np.float32(part))
    assert units_of(seen) == detect_units(np.float32(drawn))


def test_units_that_there_are_not() -> None:
    check_units(None)
    with pytest.raises(ValueError, match="units must be one of tpm, counts, log2, not 'rpkm'"):
        check_units("rpkm")
