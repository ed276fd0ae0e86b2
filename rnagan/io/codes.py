"""Columns by number: a code for each different value, in place of millions of equal strings."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def coded(column: pd.Series) -> tuple[NDArray[np.integer], pd.Index]:
    """The code of each row, (rows,), and the value of each code; those of a column of categories are its own, of which
    some may not come in it."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(), column.cat.categories
    codes, values = pd.factorize(column)
    return codes, pd.Index(values)


def in_several(table: pd.DataFrame, column: str, of: str) -> list[str]:
    """The values of `column` that stand beside several values of `of`, in rising order."""
    codes, values = coded(table[column])
    others, different = coded(table[of])
    pairs = pd.unique(codes.astype(np.int64) * len(different) + others)
    beside = np.bincount(pairs // max(1, len(different)), minlength=len(values))
    return sorted(values[beside > 1])


def text_of(column: pd.Series) -> pa.ChunkedArray:
    """A column of strings as Arrow's, without a copy where it is that already."""
    found = pa.array(column, from_pandas=True)
    found = found if isinstance(found, pa.ChunkedArray) else pa.chunked_array([found])
    return found if pa.types.is_large_string(found.type) else found.cast(pa.large_string())


def rises(column: pd.Series) -> bool:
    """Whether each string is above the one before, so that none comes twice."""
    text = text_of(column)
    return len(text) < 2 or bool(pc.all(pc.greater(text.slice(1), text.slice(0, len(text) - 1))).as_py())
