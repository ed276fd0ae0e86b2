"""The tissue kinds of a simulated cohort: what each looks like, and how its programmes move what is seen."""

import dataclasses


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
    grain_contrast: float = 0.10  # SD of the grains, of the matrix's density
    disorder: float = 0.35  # of the nuclei's places: 0 is a lattice
    air_shape: str = "alveoli"  # or droplets (of fat, which a slide shows as empty)
    fibres: bool = False  # grain and nuclei lie along one direction of the slide


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
    "liver": Tissue(
        "LVR",
        (2800, 1600),
        (3.1, 0.6),
        (0.36, 0.18),
        (0.15, 0.10),
        matrix_density=0.58,
        grain_um=0.7,
        neurons=0.25,
        elongation=1.05,
        grain_contrast=0.20,
        disorder=0.22,
        air_shape="droplets",
    ),
    "muscle": Tissue(
        "MSC",
        (2400, 1200),
        (3.0, 0.6),
        (0.36, 0.18),
        None,
        matrix_density=0.62,
        grain_um=0.7,
        neurons=0.0,
        elongation=4.5,
        fibres=True,
    ),
}
