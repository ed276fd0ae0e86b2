"""Donors with hidden programmes, and what those make expect of the tissue: the truth of a simulated cohort."""

import dataclasses

import numpy as np
import pandas as pd

from rnagan import rng
from rnagan.simulation.config import SimulationConfig

PROGRAMMES = ("proliferation", "nuclear_size", "matrix", "air")  # each uniform in −1 … 1
SITE_STAINS = (0.26, 0.54)  # blue over green optical density at the first and at the last site


@dataclasses.dataclass(frozen=True)
class Tissue:
    """One tissue kind; pairs are (value at programme 0, change per unit of programme). No `air_fraction`: no air."""

    code: str
    nuclear_density: tuple[float, float]  # proliferation → nuclei per mm² of tile area, air included
    nuclear_radius_um: tuple[float, float]  # nuclear_size → µm
    matrix_colour: tuple[float, float]  # matrix → red over green optical density of the matrix
    air_fraction: tuple[float, float] | None  # air → share of the area
    matrix_density: float  # green optical density of the matrix
    grain_um: float  # size of the grains in the matrix
    neurons: float  # share of nuclei that are larger, paler and have a nucleolus
    elongation: float  # of the other nuclei: long over short axis, at most


TISSUES = {
    "cortex": Tissue(
        "CTX",
        (3200, 1700),
        (3.2, 0.7),
        (0.36, 0.20),
        None,
        matrix_density=0.36,
        grain_um=0.8,
        neurons=0.25,
        elongation=1.2,
    ),
    "lung": Tissue(
        "LNG",
        (3200, 1700),
        (3.2, 0.7),
        (0.34, 0.20),
        (0.29, 0.17),
        matrix_density=0.52,
        grain_um=1.6,
        neurons=0.0,
        elongation=1.7,
    ),
}


def draw_cohort(config: SimulationConfig) -> pd.DataFrame:
    """One row a sample: sample, slide, donor, tissue, site, has_slide, programmes, nuclear radius, expected measures.

    The expected measures (nuclear_density, matrix_colour, air_fraction, site_stain) have the units of
    `evaluation.morphology`. Air is NaN in a tissue without any.
    """
    random = rng.generator(config.seed, "simulation/donors")
    donors = [f"SIM-{number:05d}" for number in range(config.donors)]
    site = random.integers(0, config.sites, config.donors)
    with_slide = np.isin(np.arange(config.donors), random.choice(config.donors, config.slide_donors, replace=False))
    stains = np.linspace(*SITE_STAINS, config.sites) if config.sites > 1 else np.array([np.mean(SITE_STAINS)])
    frames = []
    for name, tissue in TISSUES.items():
        frame = pd.DataFrame(
            {
                "sample": [f"{donor}-0226-SM-{tissue.code}" for donor in donors],
                "slide": [f"{donor}-0225-{tissue.code}" for donor in donors],
                "donor": donors,
                "tissue": name,
                "site": [f"centre-{k + 1}" for k in site],
                "has_slide": with_slide,
                **{programme: random.uniform(-1, 1, config.donors) for programme in PROGRAMMES},
            }
        )
        if tissue.air_fraction is None:
            frame["air"] = np.nan
        frames.append(
            frame.assign(
                nuclear_radius_um=_follow(tissue.nuclear_radius_um, frame["nuclear_size"]),
                nuclear_density=_follow(tissue.nuclear_density, frame["proliferation"]),
                matrix_colour=_follow(tissue.matrix_colour, frame["matrix"]),
                air_fraction=_follow(tissue.air_fraction or (np.nan, np.nan), frame["air"]),
                site_stain=stains[site],
            )
        )
    return pd.concat(frames, ignore_index=True)


def _follow(line: tuple[float, float], programme: pd.Series) -> pd.Series:
    at_zero, per_unit = line
    return at_zero + per_unit * programme
