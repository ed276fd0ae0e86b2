"""Units of expression: declared, or found by one rule from the range of all values."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

UNITS = ("tpm", "counts", "log2")
_LOG2_REACHES = 25.0  # the highest TPM of a gene is about 2**20, the highest count about 2**24
_LOG2_NEVER = 40.0


@dataclasses.dataclass
class ValueRange:
    """What decides about the units, gathered block by block: lowest, highest, and whether all are whole numbers."""

    lowest: float = np.inf
    highest: float = -np.inf
    whole: bool = True

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in a block of any shape."""
        if values.size:
            self.lowest = min(self.lowest, float(values.min()))
            self.highest = max(self.highest, float(values.max()))
            self.whole = self.whole and bool(np.array_equal(values, np.floor(values)))


def units_of(seen: ValueRange) -> tuple[str, str]:
    """Units and the reason: negative → log2; whole numbers → counts; nothing above 25 → log2; else tpm."""
    if seen.lowest < 0:
        return "log2", "it holds negative values"
    if seen.whole:
        return "counts", "all values are whole numbers"
    if seen.highest < _LOG2_REACHES:
        return "log2", f"no value reaches {_LOG2_REACHES:g}"
    return "tpm", f"values are fractions and reach {seen.highest:,.0f}"


def check_units(units: str | None) -> None:
    """Refuse unknown units."""
    if units is not None and units not in UNITS:
        raise ValueError(f"units must be one of {', '.join(UNITS)}, not {units!r}.")


def refuse_impossible(seen: ValueRange, units: str, source: object) -> None:
    """Refuse values that `units` can't have; `source` names the file."""
    if units == "log2" and seen.highest > _LOG2_NEVER:
        raise ValueError(f"{source} reaches {seen.highest:,.0f}, which no log2 expression does; declare tpm or counts.")
    if units != "log2" and seen.lowest < 0:
        raise ValueError(f"{source} holds negative values, which no {units} has; declare log2 or repair the table.")
    if units == "counts" and not seen.whole:
        raise ValueError(f"{source} holds fractions, which no counts have; declare tpm or log2.")
