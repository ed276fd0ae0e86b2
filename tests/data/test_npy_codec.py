import io
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rnagan.data.npy_codec import decode_profile_into, encode_profile, profile_problem


def saved(array, **options):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


def decode(data, genes):
    out = np.full(genes, 7, np.float32)
    decode_profile_into(data, out)
    return out


@given(arrays(np.float32, st.integers(1, 40), elements=st.floats(width=32)))
def test_every_bit_comes_back_and_numpy_says_the_same(values):
    data = encode_profile(values)
    assert data == saved(values, version=(1, 0))
    np.testing.assert_array_equal(decode(data, len(values)).view(np.uint32), values.view(np.uint32))
    np.testing.assert_array_equal(np.load(io.BytesIO(data)).view(np.uint32), values.view(np.uint32))


def test_a_header_written_otherwise_is_read_as_well():
    values = np.arange(3, dtype=np.float32)
    header = b"{'shape': (3,), 'fortran_order': False, 'descr': '<f4'}".ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + values.tobytes()
    np.testing.assert_array_equal(decode(data, 3), values)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_objects_are_never_opened(tmp_path):
    sprung, values = tmp_path / "sprung", np.empty(3, object)
    values[:] = [Trap(sprung)] * 3
    data = saved(values, allow_pickle=True)
    with pytest.raises(ValueError, match="holds Python objects, which are never opened"):
        decode(data, 3)
    with pytest.raises(ValueError, match="no .npy"):
        decode(pickle.dumps(values), 3)
    assert not sprung.exists()
    np.load(io.BytesIO(data), allow_pickle=True)
    assert sprung.exists()  # the trap works


FLOATS = np.arange(3, dtype=np.float32)
GOOD = encode_profile(FLOATS)
HEADER = b"\x93NUMPY\x01\x00\x76\x00"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (saved(FLOATS.astype(np.float64)), "it holds <f8, not <f4"),
        (saved(FLOATS.astype(">f4")), "it holds >f4, not <f4"),
        (saved(FLOATS.astype(np.int32)), "it holds <i4, not <f4"),
        (saved(np.zeros(4, np.float32)), r"it has the shape \(4,\), not \(3,\)"),
        (saved(np.zeros((3, 1), np.float32)), r"it has the shape \(3, 1\), not \(3,\)"),
        (saved(np.float32(1)), r"it has the shape \(\), not \(3,\)"),
        (saved(np.zeros(3, [("a", "<f4")])), "not <f4"),
        (saved(FLOATS, version=(2, 0)), "it is .npy of format 2.0, not 1.0"),
        (GOOD[:-1], "it holds 11 bytes of values, not 12"),
        (GOOD + b"\0", "it holds 13 bytes of values, not 12"),
        (GOOD[:100], "no .npy"),
        (b"", "no .npy"),
        (b"PK\x03\x04 an archive", "no .npy"),
        (HEADER + b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'more': 1}".ljust(117) + b"\n", "no .npy"),
        (HEADER + b"__import__('os').abort()".ljust(117) + b"\n", "no .npy"),
        (HEADER + b"(" * 117 + b"\n", "no .npy"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"[" * 65535, "no .npy"),
    ],
)
def test_what_is_no_profile_is_refused_in_a_phrase(data, problem):
    with pytest.raises(ValueError, match=problem):
        decode(data, 3)
    assert profile_problem(3, data).startswith("which can't be decoded (")


@given(st.integers(6, len(GOOD) - 13), st.binary(min_size=1, max_size=30))
def test_a_broken_header_never_raises_anything_else(at, noise):
    data = GOOD[:at] + noise + GOOD[at + len(noise) :]
    try:
        decode(data[: len(GOOD)], 3)
    except ValueError as error:
        assert str(error).startswith(("no .npy: ", "it "))


def test_values_that_are_not_finite_are_reported():
    assert profile_problem(3, GOOD) is None
    for value in (np.nan, np.inf):
        problem = profile_problem(3, encode_profile(np.array([1, value, 2], np.float32)))
        assert problem == "which holds values that are not finite"
