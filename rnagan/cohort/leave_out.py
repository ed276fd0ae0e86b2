"""A centre, a device or whatever a column names is left out of training whole, to be evaluated by itself."""

import pandas as pd

from rnagan.cohort.filter import matching_rows
from rnagan.cohort.leakage import PEOPLE
from rnagan.cohort.table import LEFT_OUT, check_cohort, split_by
from rnagan.io.tables import first_few

_TOGETHER = {"donor": PEOPLE, "sample": ("sample",), "section": ("slide",)}  # never in two splits


def leave_out(cohort: pd.DataFrame, where: str) -> tuple[pd.DataFrame, str]:
    """Move to the split LEFT_OUT all rows that meet `where` (`matching_rows`), with all other rows of the same people,
    or of the same samples or sections where these were dealt; and a line that says so.

    Everybody else keeps the split that they have without it, so that one centre after another can be left out and the
    same people of the others compared. Raises `ValueError` where nobody is left to train on, or nobody is left out.
    """
    by = split_by(cohort)
    if by not in _TOGETHER:
        raise ValueError(f"--leave-out can't leave out parts of sections (--split-by {by}); split by section or donor.")
    out = matching_rows(cohort, where)
    asked, size, columns = out, 0, cohort.columns.intersection(_TOGETHER[by])
    while out.sum() != size:  # a donor's rows may name another image donor, whose rows then go too
        size = out.sum()
        names = set(cohort.loc[out, columns].to_numpy().ravel()) - {""}
        out = out | cohort[columns].isin(names).any(axis=1)
    if not out.any() or not (cohort.loc[~out, "split"] == "train").any():
        raise ValueError(f"--leave-out {where} leaves {'nobody' if out.any() else 'everybody'} to train on.")
    found = cohort.assign(split=cohort["split"].mask(out, LEFT_OUT))
    check_cohort(found)
    unit = _TOGETHER[by][0]
    names = cohort.loc[out, unit].unique()
    beyond = int((out & ~asked).sum())
    line = f"Left out ({where}): {len(names):,} {unit}s ({first_few(names)}), in the split {LEFT_OUT}"
    return found, line + (f", with {beyond:,} rows of theirs elsewhere." if beyond else ".")
