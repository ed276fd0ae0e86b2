"""Stains of the sections or slides that a model was trained on, which stand in its run's folder, by name."""

from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from rnagan.io.files import read_json
from rnagan.io.tables import first_few

FILE = "section_stain.json"  # not of the model's folder, which may be given away and names no slide
STAINS = ("haematoxylin mean", "haematoxylin sd", "eosin mean", "eosin sd")


class StainRecord(TypedDict):
    """The section_stain.json of a run: the names of the `measures`, and their values of each training slide."""

    measures: list[str]
    slides: dict[str, list[float]]


def read_section_stain(run: Path, name: str) -> NDArray[np.float64]:
    """`STAINS` of a training slide of a run, (4,). Raises `ValueError` where the run doesn't know it."""
    path = run / FILE
    if not path.is_file():
        raise ValueError(f"{run} has no {FILE}; give the folder of a run trained with --nuisance section_stain.")
    record = read_json(path, StainRecord)
    values = np.array(record["slides"].get(name, []), np.float64)
    if name not in record["slides"]:
        raise ValueError(
            f"{run} wasn't trained on a section {name!r}; it was on {first_few(sorted(record['slides']))}."
        )
    if record["measures"] != list(STAINS) or values.shape != (len(STAINS),) or not np.isfinite(values).all():
        raise ValueError(f"{path} isn't what this version of rnagan writes; train the run anew.")
    return values
