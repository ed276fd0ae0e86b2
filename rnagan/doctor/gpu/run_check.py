"""The process of one check: `python -m rnagan.doctor.gpu.run_check NAME FOLDER`.

FOLDER/settings.json says device and size; the answer is FOLDER/NAME.json.
"""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from rnagan.doctor.gpu.catalogue import CHECKS, LeftOutError, Place
from rnagan.io.files import read_json, write_json


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    settings = read_json(folder / "settings.json")
    if settings["device"] == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
    module, _, function = next(check.function for check in CHECKS if check.name == name).partition(".")
    answer: dict[str, Any]
    try:
        check = getattr(importlib.import_module(f"rnagan.doctor.gpu.{module}"), function)
        summary, found = check(Place(settings["device"], settings["quick"], folder))
        answer = {"status": "ok", "summary": summary, "found": found}
    except LeftOutError as reason:
        answer = {"status": "left out", "why": str(reason)}
    except AssertionError as reason:  # what was found isn't as it should be
        answer = {"status": "failed", "why": str(reason)}
    write_json(folder / f"{name}.json", answer)


if __name__ == "__main__":
    main()
