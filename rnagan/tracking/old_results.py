"""Results of evaluations as JSON, also those of versions that had other words for the same things."""

import re
from pathlib import Path
from typing import Any

from rnagan.io.files import read_json

OLD_KEYS = {
    "painted": "generated",
    "painted_tiles": "generated_tiles",
    "painted_codec": "generated_codec",
    "painted_median": "generated_median",
    "readout": "probe",
}


def read_result(path: Path) -> Any:
    """Read a JSON file of an evaluation's results; keys of earlier versions become those of today."""
    return _renamed(read_json(path))


def _renamed(value: Any) -> Any:
    if isinstance(value, list):
        return [_renamed(each) for each in value]
    if not isinstance(value, dict):
        return value
    new = {OLD_KEYS.get(name, name): _renamed(each) for name, each in value.items()}
    if isinstance(new.get("name"), str):  # of a score
        new["name"] = re.sub(r"\bpainted\b", "generated", new["name"])
    return new
