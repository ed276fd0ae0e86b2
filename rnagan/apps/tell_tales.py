"""What gives a generated tile away: measures in which it lies outside of the real tiles beside it."""

import numpy as np
from numpy.typing import NDArray

from rnagan.evaluation.spectra import checkerboards, power_spectrum, radial
from rnagan.evaluation.stain import stain_of

SMALLEST_PX = 16  # side of a tile that is measured
FINE = 0.25  # cycles per px above which detail is fine
FEWEST = 5  # real tiles that a place among them needs
EDGE = 0.05  # share of the real tiles beyond which a value is unusual
MEASURES = {  # its name in a sentence, and what low and high are called
    "detail": ("Fine detail", "weaker", "stronger"),
    "checkerboard": ("A checkerboard pattern", "weaker", "stronger"),
    "haematoxylin": ("The blue-violet stain of nuclei", "paler", "darker"),
    "eosin": ("The pink stain", "paler", "darker"),
}
NOTHING = "Nothing that is measured here gives it away."


def measure_tile(tile: NDArray[np.uint8]) -> dict[str, float]:
    """MEASURES of a square tile (S, S, 3) uint8: log of the mean power of fine waves (squared grey levels), prominence
    of the strongest checkerboard, and mean densities of both stains."""
    spectrum = power_spectrum(tile[None])
    frequencies, power = radial(spectrum)
    stains = stain_of(tile[None])
    return {
        "detail": float(np.log(power[frequencies >= FINE].mean() + 1e-6)),
        "checkerboard": max(found.prominence for found in checkerboards(spectrum).values()),
        "haematoxylin": float(stains[0]),
        "eosin": float(stains[1]),
    }


def tell_tale(own: dict[str, float], real: list[dict[str, float]]) -> str:
    """One sentence on the measure of a generated tile that is farthest from those of `real` tiles."""
    if len(real) < FEWEST:
        return ""
    farthest, sentence = 0.0, NOTHING
    for name, (subject, low, high) in MEASURES.items():
        values = np.array([each[name] for each in real])
        below, above = float((values < own[name]).mean()), float((values > own[name]).mean())
        if max(below, above) < 1 - EDGE:
            continue
        spread = float(np.median(np.abs(values - np.median(values)))) or 1e-9
        distance = abs(own[name] - float(np.median(values))) / spread
        if distance > farthest:
            word, share = (high, below) if below > above else (low, above)
            farthest = distance
            sentence = f"{subject} is {word} than in {share:.0%} of the real tiles here."
    return sentence
