"""Donors with hidden programmes, and what those make expect of the tissue: the truth of a simulated cohort."""

import numpy as np
import pandas as pd

from rnagan import rng
from rnagan.simulation.config import SimulationConfig
from rnagan.simulation.painting import MATRIX, MATRIX_OD, MATRIX_SHIFT

TISSUES = {"cortex": "CTX", "lung": "LNG"}  # tissue kind → suffix of its sample ids
PROGRAMMES = ("proliferation", "nuclear_size", "matrix", "air")  # each uniform in −1 … 1
AIR = (0.10, 0.45)  # share of the area at air −1 and +1; lung only
NUCLEI_PER_MM2 = (800.0, 3200.0)  # of tissue without air, at proliferation −1 and +1
RADIUS_UM = (2.6, 4.0)  # at nuclear_size −1 and +1
STAIN = (0.80, 1.20)  # of the first and the last site; those between at equal steps


def draw_cohort(config: SimulationConfig) -> pd.DataFrame:
    """One row a sample: sample, slide, donor, tissue, site, has_slide, programmes, how to paint it, expected measures.

    The expected measures have the units of `evaluation.morphology`: nuclear_density per mm² of tissue, air_fraction,
    matrix_colour and site_stain as optical densities say them. Cortex has no air.
    """
    random = rng.generator(config.seed, "simulation/donors")
    donors = [f"SIM-{number:05d}" for number in range(config.donors)]
    site = random.integers(0, config.sites, config.donors)
    with_slide = np.isin(np.arange(config.donors), random.choice(config.donors, config.slide_donors, replace=False))
    frames = []
    for tissue, suffix in TISSUES.items():
        frame = pd.DataFrame({
            "sample": [f"{donor}-0226-SM-{suffix}" for donor in donors],
            "slide": [f"{donor}-0225-{suffix}" for donor in donors],
            "donor": donors, "tissue": tissue, "site": [f"centre-{k + 1}" for k in site], "has_slide": with_slide,
            **{name: random.uniform(-1, 1, config.donors) for name in PROGRAMMES}})
        frame["stain"] = np.linspace(*STAIN, config.sites)[site] if config.sites > 1 else 1.0
        if tissue != "lung":
            frame["air"] = np.nan
        frames.append(frame)
    return _expect(pd.concat(frames, ignore_index=True))


def _expect(table: pd.DataFrame) -> pd.DataFrame:
    """Add what the programmes make expect."""
    colour = (MATRIX + np.outer(table["matrix"], MATRIX_SHIFT)) @ np.array([1.0, 0.0, -1.0]) / MATRIX.sum()
    return table.assign(
        nuclear_radius_um=_between(RADIUS_UM, table["nuclear_size"]),
        nuclear_density=_between(NUCLEI_PER_MM2, table["proliferation"]),
        air_fraction=_between(AIR, table["air"]), matrix_colour=colour, site_stain=table["stain"] * MATRIX_OD)


def _between(ends: tuple[float, float], programme: pd.Series) -> pd.Series:
    low, high = ends
    return low + (programme + 1) / 2 * (high - low)
