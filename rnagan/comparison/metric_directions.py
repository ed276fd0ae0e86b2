"""Which way a metric is better, and between which runs its values may be compared at all."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

LOW, HIGH, ONE = "low", "high", "one"  # ONE: the nearer to 1
_TILES = ("resolution", "where", "shards", "cohort")
_PROFILES = ("logarithm", "where", "expression", "cohort")


@dataclasses.dataclass(frozen=True)
class Direction:
    """`better`: LOW, HIGH, ONE or, where nobody knows, None. `alike`: settings and inputs that two runs must share for
    the better value to mean the better run."""

    better: str | None
    alike: tuple[str, ...] = ()


UNKNOWN = Direction(None)
_DIRECTIONS = (  # the first that a name matches
    (r"site_stain", UNKNOWN),  # the control: the profile shouldn't make it
    (r"^(null|train)/|/(p|ceiling)$|_real$", UNKNOWN),  # beside the model, not of it
    (r"^(calibrated/)?(faithfulness|on_real_tiles|real_pairs)/.*/slope$", Direction(ONE)),
    (r"^(calibrated/)?(faithfulness|on_real_tiles|real_pairs)/.*/r$", Direction(HIGH)),
    (r"^real_pairs/[^/]*/place$", Direction(LOW)),
    (r"^faithfulness/", Direction(HIGH, _TILES)),  # of validation
    (r"(^|/)(frechet|fid|kid|kernel|fdd?|cmmd)([_\d/ ,]|$)", Direction(LOW, _TILES)),
    (r"(^|/)(precision|recall|coverage|density)([_\d/ ,]|$)", Direction(HIGH, _TILES)),
    (r"^validation_total$", Direction(LOW, (*_PROFILES, "beta"))),
    (r"^validation_reconstruction$", Direction(LOW, _PROFILES)),
    (r"_rmse$", Direction(LOW, _PROFILES)),
    (r"^reconstruction/vae/(rmse|absolute_error|percentage_error)", Direction(LOW)),
    (r"^reconstruction/vae/(pearson|r2)$", Direction(HIGH)),
    (r"(^|/)tissue_knn/vae$", Direction(HIGH)),
    (r"^tissue_accuracy$", Direction(HIGH)),
    (r"^(calibrated/)?retrieval/.*/generated/.*/rank$", Direction(LOW)),
    (r"^(calibrated/)?retrieval/.*/generated/.*/top\d$", Direction(HIGH)),
    (r"^\d+_px/", Direction(ONE)),  # of spectra: generated over real
    (r"^copies$", Direction(LOW)),
    (r"(^|/)(accuracy|macro_f1|auc)$", Direction(HIGH)),
)


def direction(name: str) -> Direction:
    """What is known of a metric or a score by its name; losses of a game between two networks have no better end."""
    return next((known for pattern, known in _DIRECTIONS if re.search(pattern, name, re.IGNORECASE)), UNKNOWN)


def best(values: Sequence[float | None], better: str | None) -> set[int]:
    """Places of the best of the values that are known, ties included; none where fewer than two are known."""
    known = {k: value for k, value in enumerate(values) if value is not None and math.isfinite(value)}
    if better is None or len(known) < 2:
        return set()
    cost = {k: _cost(value, better) for k, value in known.items()}
    return {k for k in cost if cost[k] == min(cost.values())}


def best_row(rows: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """The first of a run's rows of metrics in which a metric is best; None where nobody knows which that is."""
    better, measured = direction(name).better, [row for row in rows if math.isfinite(row.get(name, math.nan))]
    return min(measured, key=lambda row: _cost(row[name], better)) if better and measured else None


def _cost(value: float, better: str) -> float:
    return {LOW: value, HIGH: -value, ONE: abs(value - 1)}[better]
