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


def label(name: str) -> str:
    """The name of a covariate in sentences."""
    return COVARIATES.get(name, name)
