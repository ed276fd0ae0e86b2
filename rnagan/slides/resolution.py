"""The resolution that a slide states, and the level to read for one that is asked for. Pure functions."""

from collections.abc import Mapping
from typing import NamedTuple

from rnagan.data.build_jobs import SourceError

WHOLE_FACTOR_TOLERANCE = 0.02
MAX_UPSAMPLING = 0.05
PLAUSIBLE_MPP = (0.02, 32.0)  # 72 dots per inch, which programs write for want of better, are 353 µm
_MICROMETRES = {"centimeter": 1e4, "inch": 25.4e3}


class MissingResolutionError(SourceError):
    """A slide that doesn't say its resolution."""

    reason = "no resolution"


class UnusableResolutionError(SourceError):
    """A slide that is too coarse for the resolution asked for, or whose pixels aren't square."""

    reason = "unusable resolution"


class Resolution(NamedTuple):
    """µm per level-0 pixel, and who said so: cohort, openslide, tiff, ome, objective or assumed."""

    mpp: float
    source: str


def find_resolution(
    properties: Mapping[str, str],
    given_mpp: float | None = None,
    fallback_mpp: float | None = None,
    ome_mpp: tuple[float, float] | None = None,
) -> Resolution | None:
    """The first that is there and plausible of: `given_mpp` (cohort table), OpenSlide's mpp, the TIFF resolution tags,
    `ome_mpp` (width and height of a pixel by the OME-XML), 10 / objective power, `fallback_mpp`. None where there is
    none.

    Raises `UnusableResolutionError` (the end of a sentence about the slide) where pixels aren't square, and where the
    OME-XML contradicts the TIFF's tags.
    """
    if given_mpp is not None:
        return Resolution(given_mpp, "cohort")
    unit = _MICROMETRES.get(properties.get("tiff.ResolutionUnit", ""), 0.0)
    dots = [_number(properties, f"tiff.{axis}Resolution") for axis in "XY"]
    stated = {
        "openslide": [_number(properties, f"openslide.mpp-{axis}") for axis in "xy"],
        "tiff": [unit / per_unit if per_unit else 0.0 for per_unit in dots],
        "ome": list(ome_mpp or (0.0, 0.0)),
    }
    found: list[Resolution] = []
    for source, (x, y) in stated.items():
        if all(PLAUSIBLE_MPP[0] <= side <= PLAUSIBLE_MPP[1] for side in (x, y)):
            if abs(x / y - 1) > WHOLE_FACTOR_TOLERANCE:
                raise UnusableResolutionError(f"has pixels of {x:g} × {y:g} µm; only square ones are read.")
            found.append(Resolution((x + y) / 2, source))
    if found and found[-1].source == "ome" and abs(found[-1].mpp / found[0].mpp - 1) > WHOLE_FACTOR_TOLERANCE:
        raise UnusableResolutionError(
            f"has pixels of {found[0].mpp:g} µm by its TIFF tags and of {found[-1].mpp:g} µm by its OME-XML; give the "
            "right one in column mpp of a table for --cohort."
        )
    if found:
        return found[0]
    power = _number(properties, "openslide.objective-power")
    if power and PLAUSIBLE_MPP[0] <= 10 / power <= PLAUSIBLE_MPP[1]:
        return Resolution(10 / power, "objective")
    return None if fallback_mpp is None else Resolution(fallback_mpp, "assumed")


def choose_level(
    level_mpp: list[float],
    mpp: float,
    tolerance: float = WHOLE_FACTOR_TOLERANCE,
    max_upsampling: float = MAX_UPSAMPLING,
) -> tuple[int, float]:
    """The coarsest level that is at or finer than `mpp`, and the factor mpp / level_mpp by which to reduce it.

    A factor within `tolerance` of a whole number becomes that number: scanners' 0.2508 or 0.4942 µm are read as 0.25
    and 0.5, since resampling by a percent blurs a tile in stripes. `UnusableResolutionError` (the end of a sentence
    about the slide) where even the finest level is more than `max_upsampling` coarser than asked.
    """
    factors = [mpp / level for level in level_mpp]
    if factors[0] < 1 / (1 + max(tolerance, max_upsampling)):
        raise UnusableResolutionError(
            f"has {level_mpp[0]:.4g} µm per px at best, coarser than the {mpp:g} that is asked; choose a larger --mpp."
        )
    fine_enough = [level for level, factor in enumerate(factors) if factor >= 1 - tolerance]
    level = max(fine_enough, key=lambda level: level_mpp[level], default=0)
    factor, whole = factors[level], max(1, round(factors[level]))
    return level, float(whole) if abs(factor / whole - 1) <= tolerance else factor


def _number(properties: Mapping[str, str], name: str) -> float:
    try:
        return float(properties.get(name, 0.0))
    except ValueError:
        return 0.0
