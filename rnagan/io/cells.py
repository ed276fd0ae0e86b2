"""Names in CSVs that people open in a spreadsheet: one that would be read as a formula gets an apostrophe before it.

A formula begins with = or @, a tab or a carriage return, or with + or - before what is no number; so do the wide forms
of these signs. `read_table` takes the apostrophe off again, and names that begin with apostrophes before such a sign
get one more, so that every name is read as it was written.
"""

import re
from typing import Any

import pandas as pd

_FORMULA = re.compile(r"'*(?:[=@\t\r＝＠]|[-+＋－](?![\d.,eE+-]*\Z))")


def safe(name: Any) -> Any:
    """A cell as it is written; what is no text stays as it is."""
    return f"'{name}" if isinstance(name, str) and _FORMULA.match(name) else name


def as_written(cell: str) -> str:
    """The name of a cell that `safe` made."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def safe_table(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose texts, names of columns and of rows are written as `safe` does."""
    table = table.copy(deep=False)
    for place, kind in enumerate(table.dtypes):
        if not (pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind)):
            column = table.iloc[:, place].astype(object).map(safe)
            table.isetitem(place, column)
    return table.set_axis(table.columns.map(safe), axis=1).set_axis(table.index.map(safe), axis=0)
