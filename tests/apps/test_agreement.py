"""Agreement of readers, against published examples, a closed form and known ends."""

import numpy as np
import pandas as pd
import pytest

from rnagan.apps.agreement import between_readers, with_oneself
from rnagan.apps.reader_scores import complete


def answers(rows: list[tuple], columns: str) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=columns.split()).assign(source="real", tissue="lung")
    return complete(table if "quality" in table else table.assign(quality=1.0), "here")


def test_alpha_is_krippendorffs_own_example() -> None:
    """Krippendorff 2011, "Computing Krippendorff's alpha-reliability", C: four observers, twelve units, with gaps."""
    a = "1 2 3 3 2 1 4 1 2 . . .|1 2 3 3 2 2 4 1 2 5 . 3|. 3 3 3 2 3 4 2 2 5 1 .|1 2 3 3 2 4 4 1 2 5 1 ."
    rows = [
        (f"r{reader}", f"t{tile}", float(value))
        for reader, line in enumerate(a.split("|"))
        for tile, value in enumerate(line.split())
        if value != "."
    ]
    (found,) = between_readers(answers(rows, "reader tile quality"))
    assert found.alpha == pytest.approx(0.815, abs=5e-4)
    assert found.low < 0.815 < found.high and (found.units, found.readers) == (11, 4)


def test_alpha_of_names_is_the_closed_form() -> None:
    named = {"t1": ("lung", "lung"), "t2": ("lung", "brain"), "t3": ("brain", "brain"), "t4": ("brain", "brain")}
    rows = [(f"r{k}", tile, name) for tile, names in named.items() for k, name in enumerate(names)]
    found = next(found for found in between_readers(answers(rows, "reader tile called")) if found.question == "called")
    observed, expected = 1 / 4, 2 * 3 * 5 / (8 * 7)  # shares of pairs that differ: within tiles, and at random
    assert found.alpha == pytest.approx(1 - observed / expected)


def test_answers_that_never_vary_say_nothing() -> None:
    found = between_readers(answers([("a", "t", 3.0), ("b", "t", 3.0)], "reader tile quality"))
    assert found[0].alpha is None
    alone = between_readers(answers([("a", "t", 3.0), ("a", "u", 4.0)], "reader tile quality"))
    assert alone[0].alpha is None


def test_own_agreement_has_quadratic_weights_over_the_whole_scale() -> None:
    """Kappa by hand: 1 − Σ w·observed / Σ w·expected with w = (i − j)²; step 3 of 1, 2, 4 is nobody's answer."""
    first, second = np.array([1, 2, 4, 4, 1.0]), np.array([1, 4, 4, 2, 1.0])
    rows = [("a", f"t{k}", 1, q) for k, q in enumerate(first)] + [("a", f"t{k}", 2, q) for k, q in enumerate(second)]
    found = {row.reader: row for row in with_oneself(answers(rows, "reader tile showing quality"))}
    by_hand = 1 - ((first - second) ** 2).mean() / ((first[:, None] - second[None]) ** 2).mean()
    by_rank = 1 - np.mean([0, 1, 0, 1, 0]) / np.mean(
        (np.array([0, 1, 2, 2, 0])[:, None] - np.array([0, 2, 2, 1, 0])[None]) ** 2
    )
    assert found["a"].kappa == pytest.approx(by_hand) != pytest.approx(by_rank)
    assert (found["a"].equal, found["a"].mean_difference, found["a"].pairs) == (0.6, 0.8, 5)
    assert found[""].kappa == found["a"].kappa


def test_without_second_showings_there_is_nothing_to_compare() -> None:
    assert with_oneself(answers([("a", "t", 3.0)], "reader tile quality")) == []
