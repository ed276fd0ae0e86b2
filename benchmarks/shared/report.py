"""What the benchmarks report alike."""

import hashlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._began

    def say(self, what: str) -> None:
        """Tell what begins now, on stderr."""
        click.echo(f"{self.seconds():4.0f} s  {what}", err=True)


def end_with_environments(missing: dict[str, str]) -> NoReturn:
    """Tell which environments couldn't be made, and end; exit code 1 if there are any."""
    for problem in missing.values():
        click.echo(problem, err=True)
    sys.exit(bool(missing))


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
