"""Chooses rows of a cohort table by the values of any column, as in `tissue=Lung,Colon; site!=B1; age>=50`."""

import operator
import re

import pandas as pd

from rnagan.io.tables import first_few

_CONDITION = re.compile(r"\s*(?P<column>[^=!<>]+?)\s*(?P<sign>!=|<=|>=|=|<|>)\s*(?P<values>.*?)\s*")
_COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def matching_rows(table: pd.DataFrame, where: str) -> pd.Series:
    """Whether each row of a table of strings meets all conditions, bool (rows,).

    Conditions are joined by `;`. `=` and `!=` take values joined by commas, the others one number; a row without a
    number there doesn't meet it. An empty `where` takes all rows. Raises `ValueError` with one sentence.
    """
    chosen = pd.Series(True, index=table.index)
    for text in filter(str.strip, where.split(";")):
        chosen &= _meets(table, text.strip())
    return chosen


def _meets(table: pd.DataFrame, text: str) -> pd.Series:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise ValueError(f"where {text!r} is no condition such as tissue=Lung,Colon or age>=50.")
    column, sign, values = match["column"], match["sign"], match["values"]
    if column not in table:
        raise ValueError(f"where {text!r}: the cohort table has no column {column}; it has {', '.join(table)}.")
    if sign in ("=", "!="):
        wanted = {value.strip() for value in values.split(",")}
        there = table[column].unique()
        unknown = sorted(wanted - set(there))
        if unknown:
            present = first_few(sorted(there), 8)
            raise ValueError(f"where {text!r}: no row has {column} {unknown[0]!r}; there are {present}.")
        return table[column].isin(wanted) == (sign == "=")
    try:
        bound = float(values)
    except ValueError:
        raise ValueError(f"where {text!r}: {values!r} is no number.") from None
    numbers = pd.to_numeric(table[column], errors="coerce")
    if numbers.isna().all():
        raise ValueError(f"where {text!r}: column {column} holds no numbers.")
    return _COMPARISONS[sign](numbers, bound)
