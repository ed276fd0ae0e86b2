"""How far readers agree: with one another (Krippendorff's alpha) and with themselves (weighted kappa)."""

import warnings
from typing import Literal, NamedTuple

import krippendorff
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from rnagan.evaluation.stats import bootstrap, interval
from rnagan.runtime import rng

DRAWS = 999
MAX_VALUES = 1000  # different answers


class Alpha(NamedTuple):
    """Krippendorff's alpha of one question, with a 95% interval of `units` drawn anew (tiles, or groups of tiles where
    the answers are means). None where answers don't vary, or no unit has two."""

    question: str
    level: str
    alpha: float | None
    low: float | None
    high: float | None
    units: int
    readers: int


class OwnAgreement(NamedTuple):
    """A reader's first and second answers on the same tiles: share that is equal, mean absolute difference of quality,
    and Cohen's kappa with quadratic weights (without, for words); None where answers don't vary."""

    reader: str
    question: str
    pairs: int
    equal: float
    mean_difference: float | None
    kappa: float | None


Level = Literal["nominal", "ordinal"]  # of measurement
QUESTIONS: dict[str, Level] = {"quality": "ordinal", "called": "nominal", "artefact": "nominal"}


def between_readers(table: pd.DataFrame, seed: int = 0) -> list[Alpha]:
    """Alpha of each question that was answered; `table` as `reader_scores.complete` gives it, first showings alone."""
    first = table[table["showing"] == 1]
    unit = first[["tissue", "source", "tile"]].agg("\x1f".join, axis=1)
    found = []
    for question, level in QUESTIONS.items():
        answered = first[question].notna() & (first[question] != "")
        if not answered.any():
            continue
        counts = pd.crosstab(unit[answered], first.loc[answered, question])
        found.append(_alpha(question, level, counts, first.loc[answered, "reader"].nunique(), seed))
    return found


def _alpha(question: str, level: Level, counts: pd.DataFrame, readers: int, seed: int) -> Alpha:
    """Of counts (units, values): how many readers gave each value."""
    values = counts.to_numpy(np.int64)
    if values.shape[1] > MAX_VALUES:
        raise ValueError(f"{question} has {values.shape[1]:,} different answers; {MAX_VALUES:,} are compared at most.")
    domain = list(map(float, counts.columns if level == "ordinal" else range(len(counts.columns))))
    pairable = values[values.sum(axis=1) > 1]
    if len(pairable) < 1 or (pairable.sum(axis=0) > 0).sum() < 2:
        return Alpha(question, level, None, None, None, len(pairable), readers)
    random = rng.generator(seed, f"agreement/{question}")
    drawn = [_of_counts(pairable[rows], domain, level) for rows in bootstrap(random, len(pairable), DRAWS)]
    known = np.array([value for value in drawn if value is not None])
    low, high = interval(known) if len(known) else (None, None)
    return Alpha(question, level, _of_counts(pairable, domain, level), low, high, len(pairable), readers)


def _of_counts(counts: NDArray[np.int64], domain: list[float], level: Level) -> float | None:
    """Alpha of counts (units, values), None where all answers are one."""
    there = counts.sum(axis=0) > 0
    if there.sum() < 2:
        return None
    kept = [value for value, is_there in zip(domain, there, strict=True) if is_there]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = krippendorff.alpha(value_counts=counts[:, there], value_domain=kept, level_of_measurement=level)
    return float(found) if np.isfinite(found) else None


def with_oneself(table: pd.DataFrame) -> list[OwnAgreement]:
    """Of each reader with tiles shown twice, and of all readers' pairs together (reader ""), by question."""
    keys = ["reader", "tissue", "source", "tile"]
    first, second = (table[table["showing"] == showing] for showing in (1, 2))
    pairs = first.merge(second, on=keys, suffixes=("_1", "_2"))
    found = []
    for question, level in QUESTIONS.items():
        a, b = pairs[f"{question}_1"], pairs[f"{question}_2"]
        both = a.notna() & b.notna() & (a != "") & (b != "")
        for reader, own in [("", pairs[both]), *pairs[both].groupby("reader")]:
            if len(own):
                found.append(_own(str(reader), question, level, own[f"{question}_1"], own[f"{question}_2"]))
    return found


def _own(reader: str, question: str, level: str, a: pd.Series, b: pd.Series) -> OwnAgreement:
    equal = float((a == b).mean())
    if level == "nominal":
        return OwnAgreement(reader, question, len(a), equal, None, _kappa(pd.factorize(pd.concat([a, b]))[0]))
    hundredths = np.rint(100 * pd.concat([a, b]).to_numpy(np.float64)).astype(np.int64)
    return OwnAgreement(reader, question, len(a), equal, float((a - b).abs().mean()), _kappa(hundredths, "quadratic"))


def _kappa(codes: NDArray[np.int64], weights: str | None = None) -> float | None:
    """Cohen's kappa of first and second answers, one after the other (2 · pairs,). scikit-learn weighs by the rank of a
    label, so steps of the scale that nobody took are labels too."""
    labels = np.unique(codes)
    if len(labels) < 2:
        return None
    if weights:
        labels = np.arange(labels[0], labels[-1] + 1, np.gcd.reduce(np.diff(labels)))
        if len(labels) > MAX_VALUES:
            return None
    first, second = np.split(codes, 2)
    found = cohen_kappa_score(first, second, labels=labels, weights=weights)
    return float(found) if np.isfinite(found) else None
