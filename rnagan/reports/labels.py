"""Names of measures and covariates for figures, pages and sentences."""

ALL = "all covariates"
MEASURES = {  # with their units, for axes
    "nuclear_density": "nuclear density, nuclei per mm²",
    "air_fraction": "air fraction",
    "matrix_colour": "matrix colour",
    "site_stain": "site stain (negative control)",
}
WORDS = {name: name.replace("_", " ") for name in MEASURES}  # in sentences
COVARIATES = {"site": "centre", "ischaemic_min": "ischaemic time"}
IN_TRAINING, WITNESS = "in training", "a witness"  # of a network that scores tiles


def network_label(took_part: bool | None) -> str:
    """Whether the network behind a score was the critic's in training; "" where that isn't known."""
    return {True: IN_TRAINING, False: WITNESS, None: ""}[took_part]


def label(name: str) -> str:
    """The name of a covariate in sentences."""
    return COVARIATES.get(name, name)
