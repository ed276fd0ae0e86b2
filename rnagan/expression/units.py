"""Units of expression: declared, said by the file, or found from the values; what is certain is converted.

UNITS are those of all files and models here. `log2` is log2(x + 1) wherever that can be known: other logarithms are
converted to it, those of counts to counts. `centred` is ln(1 + counts per 10⁴) less the mean of a group (a section);
rnagan build-expression alone makes it.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnagan.expression.unit_evidence import LOG_NEVER, Evidence, ValueRange

CENTRED = "centred"
_PLAIN = ("tpm", "counts", "log2")
UNITS = (*_PLAIN, CENTRED)
_LOG2_REACHES = 25.0  # the highest TPM of a gene is about 2**20, the highest count about 2**24
_LN_REACHES = 16.7  # which is ln of 2**24
_GENES_THAT_TELL = 50
_MOST_TPM = 2e6  # of a sample; they add up to a million, other norms to somewhat more


class Scale(NamedTuple):
    """A logarithm that is converted: what it is, the unit it becomes, and how."""

    text: str
    units: str
    convert: Callable[[NDArray[np.floating]], NDArray[np.floating]]


class FoundUnits(NamedTuple):
    """`units` of UNITS and who says so; how the values become those, None where they are; a warning, or ''."""

    units: str
    why: str
    convert: Callable[[NDArray[np.floating]], NDArray[np.floating]] | None = None
    warning: str = ""


SCALES = {
    "ln1p": Scale("ln(x + 1)", "log2", lambda x: x / np.log(2)),
    "log10p1": Scale("log10(x + 1)", "log2", lambda x: x / np.log10(2)),
    "log2p0.001": Scale("log2(x + 0.001)", "log2", lambda x: np.log2(np.maximum(np.exp2(x) - 0.001, 0) + 1)),
    "log2counts": Scale("log2(counts + 1)", "counts", lambda x: np.rint(np.exp2(x) - 1)),
    "lncounts": Scale("ln(counts + 1)", "counts", lambda x: np.rint(np.expm1(x))),
    "log10counts": Scale("log10(counts + 1)", "counts", lambda x: np.rint(10.0**x - 1)),
}
DECLARABLE = (*_PLAIN, *SCALES)
_OTHERS = ("ln1p", "log10p1", "log2p0.001", "tpm")  # what values up to 25 may be, if not log2(x + 1)
_OF_BASE = {2.718: "ln1p", 2: "log2", 10: "log10p1"}
_SAME = {"ln": "ln1p", "log2": "log2", "log10": "log10p1"}
# What is said, and what it may be as well.
_AS_WELL = {
    ("log2", "log2p0.001"),
    ("log2", "log2counts"),
    ("ln1p", "lncounts"),
    ("log10p1", "log10counts"),
}
_WORDS = {
    "tpm": "tpm|tpms|transcripts?permillion",
    "counts": "(raw)?(read)?counts?|reads|umis?",
    "log2": r"log2|log2p1|log2\((x|tpm|fpkm|cpm|rpkm)\+1\)|log2\(1\+(x|tpm|fpkm|cpm|rpkm)\)",
    "ln1p": r"ln1p|log1p|(ln|log1p|log)\((x|tpm|fpkm|cpm|rpkm)(\+1)?\)|ln\(1\+x\)",
    "log10p1": r"log10|log10p1|log10\((x|tpm|fpkm|cpm|rpkm)\+1\)",
    "log2p0.001": r"log2p0\.001|log2\((x|tpm|fpkm)\+0\.001\)",
    "log2counts": r"log2counts|log2\((counts?|expectedcounts?|normcounts?)\+1\)",
    CENTRED: CENTRED,
    "lncounts": r"lncounts|(ln\(counts?\+1\)|log1p\(counts?\))",
    "log10counts": r"log10counts|log10\(counts?\+1\)",
}


def to_known_units(values: NDArray[np.float32], units: str) -> tuple[NDArray[np.float32], str]:
    """Values in one of DECLARABLE, and their units, as one of UNITS."""
    if units not in SCALES:
        return values, units
    return SCALES[units].convert(values.astype(np.float64)).astype(np.float32), SCALES[units].units


def as_proved(units: str, proof: tuple[str, str] | None) -> str:
    """`log2` is said of log2(x + 0.001) too: which of them, where the values prove it; other units as they are."""
    return "log2p0.001" if units == "log2" and proof is not None and proof[0] == "log2p0.001" else units


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
    if units is not None and units not in DECLARABLE:
        raise ValueError(
            f"units must be one of {', '.join(_PLAIN)}, not {units!r}; {', '.join(SCALES)} are converted to those."
        )


def stated_units(uns: Mapping[str, Any], path: object) -> str | None:
    """What an AnnData's `uns` says of X, one of DECLARABLE or CENTRED: `units`, in any case, and scanpy's mark `log1p`;
    None where it says nothing. Raises `ValueError` on an unknown word, and where both are there and contradict each
    other."""
    said, mark = uns.get("units"), uns.get("log1p")
    units = None if said is None else _known(str(said))
    if said is not None and units is None:
        raise ValueError(f"{path} says units {str(said)!r} in uns['units']; take one of {', '.join(DECLARABLE)}.")
    if mark is None:
        return units
    base = mark.get("base") if hasattr(mark, "get") else None
    logged = "ln1p" if base is None else _OF_BASE.get(round(float(base), 3))
    if logged is None:
        raise ValueError(f"{path} has logarithms of base {base} (uns['log1p']); give X in TPM, counts or log2.")
    if units is not None and units != logged and (logged, units) not in _AS_WELL:
        raise ValueError(
            f"{path} contradicts itself: uns['units'] says {said}, and uns['log1p'] that X is {_text(logged)}; "
            "delete the one that is wrong."
        )
    return units or logged


def decide_units(evidence: Evidence, declared: str | None, stated: str | None, source: object) -> FoundUnits:
    """The units of a table's values, once all were seen: `declared` by the user, else `stated` by the file, else found.

    Raises `ValueError` with the name of `source` on Z scores, and where the values contradict what is said of them.
    """
    if stated == CENTRED:
        raise ValueError(f"{source} was centred by group already; start with the counts that it was made from.")
    seen, said = evidence.range, declared or stated
    proof = refuse_contradiction(evidence, said, source)
    logged = stated in (*SCALES, "log2") and seen.highest <= LOG_NEVER
    if (
        declared
        and stated
        and logged
        and declared != stated
        and not {(declared, stated), (stated, declared)} & _AS_WELL
    ):
        raise ValueError(
            f"{source} says that it is {_text(stated)}, and --units says {declared}: correct the file, or leave "
            "--units out."
        )
    if said is None:
        return _found(evidence, proof, source)
    why = "as declared" if declared else "as the file says"
    if said == "tpm":
        _refuse_no_tpm(evidence, source)
    said = as_proved(said, proof)
    if said in SCALES:
        scale = SCALES[said]
        return FoundUnits(scale.units, f"{why}; converted from {scale.text}", scale.convert)
    return FoundUnits(said, why)


def refuse_contradiction(evidence: Evidence, said: str | None, source: object) -> tuple[str, str] | None:
    """Refuse Z scores, and values that aren't what is `said` of them. Returns what they prove to be, and by which mark;
    None where they prove nothing."""
    if standardised := evidence.standardised():
        raise ValueError(
            f"{source} holds Z scores (each {standardised} has mean 0 and SD 1), from which expression can't be had "
            "back; give the TPM, counts or log2 that they were made from."
        )
    refuse_impossible(evidence.range, said or "", source)
    proof = _proof(evidence)
    if said is not None and proof is not None and proof[0] != said and (said, proof[0]) not in _AS_WELL:
        raise ValueError(
            f"{source} is said to be in {said} and holds {_text(proof[0])}: {proof[1]}. Say --units {proof[0]}, or "
            "correct the file."
        )
    return proof


def refuse_impossible(seen: ValueRange, units: str, source: object) -> None:
    """Refuse values that `units` can't have; `source` names the file."""
    if (units == "log2" or units in SCALES) and seen.highest > LOG_NEVER:
        raise ValueError(
            f"{source} reaches {seen.highest:,.0f}, which no {SCALES[units].text if units in SCALES else units} "
            "expression does; declare tpm or counts."
        )
    if units in SCALES and seen.lowest < (-9.97 if units == "log2p0.001" else 0):
        raise ValueError(f"{source} holds {seen.lowest:g}, which no {SCALES[units].text} is; declare other units.")
    if units in ("tpm", "counts") and seen.lowest < 0:
        raise ValueError(f"{source} holds negative values, which no {units} has; declare log2 or repair the table.")
    if units == "counts" and not seen.whole:
        raise ValueError(f"{source} holds fractions, which no counts have; declare tpm or log2.")


def _proof(evidence: Evidence) -> tuple[str, str] | None:
    """The one of DECLARABLE whose marks the values bear, and the mark; None where they bear none."""
    seen = evidence.range
    if seen.at_lowest > 1 and abs(seen.lowest - np.log2(0.001)) < 6e-4:
        return "log2p0.001", f"its zeros are {seen.lowest:.4f}"
    if base := evidence.logarithm_of_counts():
        return f"{base}counts", "its values are logarithms of whole numbers"
    if base := evidence.logarithm_of_equal_sums():
        return _SAME[base], "samples add up to the same without it"
    return None


def _found(evidence: Evidence, proof: tuple[str, str] | None, source: object) -> FoundUnits:
    if proof is not None and proof[0] in SCALES:
        scale = SCALES[proof[0]]
        return FoundUnits(scale.units, f"converted from {scale.text}: {proof[1]}", scale.convert)
    if evidence.is_centred():
        raise ValueError(
            f"{source} is centred: genes differ less in their means than samples do in a gene. Give the expression "
            "itself; if this is its logarithm, say --units log2."
        )
    units, why = units_of(evidence.range)
    if units == "tpm":
        _refuse_no_tpm(evidence, source)
    if units != "log2" or proof is not None:
        return FoundUnits(units, why)
    seen, others = evidence.range, ", ".join(_OTHERS)
    reaches = seen.lowest >= 0 and seen.highest >= _LN_REACHES
    if evidence.n_genes >= _GENES_THAT_TELL and not reaches:
        raise ValueError(
            f"{source} doesn't say its units, and its values ({seen.lowest:g} to {seen.highest:g}) don't prove which "
            f"logarithm they are: say --units log2 if they are log2(x + 1), or else one of {others}."
        )
    because = f"no other logarithm reaches {seen.highest:.1f}" if reaches else "too few genes prove it"
    return FoundUnits(
        units, why, None, f"Warning: {source} is taken for log2(x + 1) ({because}); if it isn't, say --units {others}."
    )


def _refuse_no_tpm(evidence: Evidence, source: object) -> None:
    if evidence.n_genes >= _GENES_THAT_TELL and evidence.largest_sum() > _MOST_TPM:
        raise ValueError(
            f"{source} has a sample that adds up to {evidence.largest_sum():,.0f}, and TPM add up to 1,000,000: these "
            "are expected or normalised counts. Round them and declare counts, or give TPM."
        )


def _text(units: str) -> str:
    return SCALES[units].text if units in SCALES else "log2(x + 1)"


def _known(word: str) -> str | None:
    plain = re.sub(r"[\s_]", "", word.casefold())
    return next((units for units, words in _WORDS.items() if re.fullmatch(words, plain)), None)
