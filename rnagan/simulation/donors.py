"""Donors with hidden programmes, and the tissue to expect from them: the truth of a simulated cohort."""

from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.config.simulation import SimulationConfig
from rnagan.runtime import rng
from rnagan.simulation.tissues import TISSUES

Values = TypeVar("Values", pd.Series, NDArray[np.floating])
PROGRAMMES = ("proliferation", "nuclear_size", "matrix", "air")  # each uniform in −1 … 1
ISCHAEMIA = "ischaemia"  # column of a confounded cohort: a donor's ischaemic time, −1 … 1
ISCHAEMIA_SHARE = -0.5  # effect of one unit of ischaemia on the matrix's colour, in that of `matrix`
SITE_STAINS = (0.26, 0.54)  # blue over green optical density at the first and at the last site


def draw_cohort(config: SimulationConfig) -> pd.DataFrame:
    """One row a sample: sample, slide, donor, tissue, site, has_slide, programmes, nuclear radius, expected measures.

    The expected measures (nuclear_density, matrix_colour, air_fraction, site_stain) have the units of
    `evaluation.morphology`. Air is NaN in a tissue without any. A confounded cohort has `ischaemia` too, which is part
    of what makes its matrix's colour.
    """
    random = rng.generator(config.seed, "simulation/donors")
    donors = [f"SIM-{number:05d}" for number in range(config.donors)]
    site = random.integers(0, config.sites, config.donors)
    with_slide = np.isin(np.arange(config.donors), random.choice(config.donors, config.slide_donors, replace=False))
    stains = np.linspace(*SITE_STAINS, config.sites) if config.sites > 1 else np.array([np.mean(SITE_STAINS)])
    frames = []
    for name in config.tissue_names:
        tissue = TISSUES[name]
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
                nuclear_radius_um=follow(tissue.nuclear_radius_um, frame["nuclear_size"]),
                nuclear_density=follow(tissue.nuclear_density, frame["proliferation"]),
                matrix_colour=follow(tissue.matrix_colour, frame["matrix"]),
                air_fraction=follow(tissue.air_fraction or (np.nan, np.nan), frame["air"]),
                site_stain=stains[site],
            )
        )
        if config.confounded:
            ischaemia = draw_subjects(config)[ISCHAEMIA].to_numpy()
            frames[-1]["matrix_colour"] += ISCHAEMIA_SHARE * tissue.matrix_colour[1] * ischaemia
            frames[-1][ISCHAEMIA] = ischaemia
    return pd.concat(frames, ignore_index=True)


def draw_subjects(config: SimulationConfig) -> pd.DataFrame:
    """One row a donor, in the order of their names: age in years, sex (female, male), and ischaemia, uniform in −1 … 1.

    They have a random stream of their own, so nothing else in the cohort depends on them. Age and sex have nothing to
    do with RNA or tissue.
    """
    random = rng.generator(config.seed, "simulation/subjects")
    return pd.DataFrame(
        {
            "age": random.integers(20, 80, config.donors),
            "sex": np.where(random.random(config.donors) < 0.5, "female", "male"),
            ISCHAEMIA: random.uniform(-1, 1, config.donors),
        }
    )


def follow(line: tuple[float, float], programme: Values) -> Values:
    """What a programme makes of a tissue's (value at 0, change per unit)."""
    at_zero, per_unit = line
    return at_zero + per_unit * programme
