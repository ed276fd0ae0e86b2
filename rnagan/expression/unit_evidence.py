"""What the values of a table say of their units, gathered block by block."""

import dataclasses
from typing import Self

import numpy as np
from numpy.typing import NDArray

BASES = {"ln": np.e, "log2": 2.0, "log10": 10.0}
LOG_NEVER = 40.0  # no logarithm of expression is above it
_SAMPLES, _GENES = 32, 2000  # of which sums are kept; the range is that of all values
_LOOKED_AT = 4096  # values of a block that are tested for logarithms of whole numbers
_DECIMALS = (0.0, 6e-5, 6e-4)  # rounding of a value: of float32 alone, of 4 decimals, of 3
_PROVEN = -9.0  # log10 of the chance that other values would look so


@dataclasses.dataclass
class ValueRange:
    """What decides about the units, gathered block by block: lowest, highest, and whether all are whole numbers.

    `at_lowest`: how many values are the lowest one, where that is negative. `finite`: none is NaN or infinite.
    """

    lowest: float = np.inf
    highest: float = -np.inf
    whole: bool = True
    at_lowest: int = 0
    finite: bool = True

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in a block of any shape."""
        if values.size:
            lowest, highest = float(values.min()), float(values.max())
            self.finite = self.finite and bool(np.isfinite(lowest) and np.isfinite(highest))
            if lowest < self.lowest:
                self.at_lowest = 0
            if lowest < 0 and lowest <= self.lowest:
                self.at_lowest += int(np.count_nonzero(values == np.float32(lowest)))
            self.lowest = min(self.lowest, lowest)
            self.highest = max(self.highest, highest)
            self.whole = self.whole and bool(np.array_equal(values, np.floor(values)))


class Evidence:
    """The range of all values, and sums of some: of up to 32 samples over all genes, of up to 2,000 genes over all
    samples. Logarithms are looked for until a value is above 40."""

    def __init__(self, genes_are_rows: bool) -> None:
        self.range = ValueRange()
        self._genes_are_rows = genes_are_rows
        self.n_genes = self._n_samples = 0
        self._by_sample: dict[str, NDArray[np.float64]] = {}  # sum, squares, and the sum of base**value - 1
        self._by_gene: dict[str, NDArray[np.float64]] = {}  # sum, squares
        self._chance = {(base, decimals): 0.0 for base in BASES for decimals in _DECIMALS}

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in a block of rows: whole genes or whole samples."""
        self.range.add(values)
        by_gene = values if self._genes_are_rows else values.T  # genes × samples
        n_genes, n_samples = by_gene.shape
        first_gene = self.n_genes if self._genes_are_rows else 0
        first_sample = 0 if self._genes_are_rows else self._n_samples
        some = by_gene[:, : max(0, _SAMPLES - first_sample)]
        own = {"sum": some.sum(axis=0, dtype=np.float64)}
        if self.range.highest <= LOG_NEVER:
            precise = some.astype(np.float64)
            own |= {"squares": np.square(precise).sum(axis=0)}
            own |= {name: (base**precise - 1).sum(axis=0) for name, base in BASES.items()}
            few = by_gene[: max(0, _GENES - first_gene)].astype(np.float64)
            of_genes = {"sum": few.sum(axis=1), "squares": np.square(few).sum(axis=1)}
            self._extend(self._by_gene, of_genes, joined=self._genes_are_rows)
            self._look_for_whole_numbers(precise)
        self._extend(self._by_sample, own, joined=not self._genes_are_rows)
        self.n_genes = self.n_genes + n_genes if self._genes_are_rows else n_genes
        self._n_samples = n_samples if self._genes_are_rows else self._n_samples + n_samples

    def merge(self, other: Self) -> None:
        """Take in what is known of other genes of the same samples."""
        assert self._genes_are_rows and other._genes_are_rows
        low, high = self.range, other.range
        lowest = min(low.lowest, high.lowest)
        at_lowest = sum(each.at_lowest for each in (low, high) if each.lowest == lowest)
        whole, finite = low.whole and high.whole, low.finite and high.finite
        self.range = ValueRange(lowest, max(low.highest, high.highest), whole, at_lowest, finite)
        self._extend(self._by_sample, other._by_sample, joined=False)
        self._extend(self._by_gene, other._by_gene, joined=True)
        self._chance = {key: self._chance[key] + other._chance[key] for key in self._chance}
        self.n_genes, self._n_samples = self.n_genes + other.n_genes, max(self._n_samples, other._n_samples)

    def logarithm_of_counts(self) -> str | None:
        """The base of which all values are log(count + 1), as far as some show it; None where they don't."""
        if self.range.whole or self.range.highest > LOG_NEVER:
            return None
        return next((base for (base, _), chance in self._chance.items() if chance < _PROVEN), None)

    def logarithm_of_equal_sums(self) -> str | None:
        """The one base of which base**value - 1 adds up to the same in every sample, as TPM do; else None."""
        if self.range.highest > LOG_NEVER or self.range.lowest < 0 or _spread(self._by_sample.get("sum")) < 1e-3:
            return None
        spreads = {base: _spread(self._by_sample.get(base)) for base in BASES}
        best = min(spreads, key=spreads.__getitem__)
        others = min(spread for base, spread in spreads.items() if base != best)
        return best if spreads[best] < 2e-3 and others > 10 * spreads[best] + 2e-3 else None

    def largest_sum(self) -> float:
        """The largest sum of a sample's values, of those looked at."""
        return float(self._by_sample["sum"].max(initial=0.0)) if self._by_sample else 0.0

    def standardised(self) -> str | None:
        """`gene` or `sample` where nearly all of those have mean 0 and SD 1: Z scores."""
        if self.range.lowest >= 0 or self.range.highest > LOG_NEVER:
            return None
        for what, sums, n in (
            ("gene", self._by_gene, self._n_samples),
            ("sample", self._by_sample, self.n_genes),
        ):
            if n < 2 or not sums or len(sums["sum"]) < 2:
                continue
            mean = sums["sum"] / n
            squares = np.maximum(sums["squares"] - n * mean**2, 0)
            near = [np.abs(np.sqrt(squares / by) - 1) < 0.01 for by in (n, n - 1)]
            flat = squares < 1e-6  # a gene that doesn't vary has Z scores of 0
            fits = (np.abs(mean) < 0.01) & (near[0] | near[1] | flat)
            if fits.mean() > 0.95 and not flat.all():
                return what
        return None

    def is_centred(self) -> bool:
        """Whether the means of genes differ far less than a gene's values do: no expression is so."""
        if self.range.lowest >= 0 or not self._by_gene or min(len(self._by_gene["sum"]), self._n_samples) < 5:
            return False
        mean = self._by_gene["sum"] / self._n_samples
        within = (self._by_gene["squares"] / self._n_samples - mean**2).mean()
        return bool(mean.var() < 0.25 * within)

    def _look_for_whole_numbers(self, some: NDArray[np.float64]) -> None:
        values = some[(some > 0) & (some != np.rint(some))][:_LOOKED_AT]
        for (base, decimals), chance in self._chance.items():
            if not np.isfinite(chance) or chance < 100 * _PROVEN:
                continue
            counts = BASES[base] ** values - 1
            allowed = (counts + 1) * np.log(BASES[base]) * np.maximum(decimals, 1.2e-7 * values) + 1e-7
            clear = allowed < 0.1
            off = np.abs(counts - np.rint(counts))[clear] > allowed[clear]
            self._chance[base, decimals] = np.inf if off.any() else chance + float(np.log10(2 * allowed[clear]).sum())

    @staticmethod
    def _extend(mine: dict[str, NDArray[np.float64]], more: dict[str, NDArray[np.float64]], *, joined: bool) -> None:
        for name, values in more.items():
            if name not in mine:
                mine[name] = values
            elif joined:
                mine[name] = np.concatenate([mine[name], values])
            else:
                mine[name] = mine[name] + values


def _spread(sums: NDArray[np.float64] | None) -> float:
    """SD by mean; infinite where it says nothing: fewer than three sums."""
    if sums is None or len(sums) < 3 or not np.isfinite(sums).all() or sums.mean() <= 0:
        return np.inf
    return float(sums.std() / sums.mean())
