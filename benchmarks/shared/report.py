"""What the benchmarks report alike."""

import hashlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def load_average() -> float:
    """Of the last minute."""
    return round(os.getloadavg()[0], 2)


def attempt(measure: Callable[..., dict[str, Any]], *arguments: Any, **options: Any) -> dict[str, Any]:
    """What it measures, or why it failed: the rest of a long run is kept."""
    try:
        return measure(*arguments, **options)
    except (ValueError, OSError) as error:
        return {f"failure_of_{measure.__name__}": str(error)}


def source_digest() -> str:
    """Digest of the installed rnagan's source, to tell whether somebody changed it during a run."""
    (home,) = importlib.util.find_spec("rnagan").submodule_search_locations
    whole = hashlib.sha256()
    for path in sorted(Path(home).rglob("*.py")):
        whole.update(path.read_bytes())
    return whole.hexdigest()
