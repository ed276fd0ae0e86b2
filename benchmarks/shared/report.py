"""What the benchmarks report alike, and how they end."""

import hashlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from .race import Outcome


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


class Report:
    """What a benchmark finds: rates and failures of its races, and what happened to the machine meanwhile."""

    def __init__(self, unit: str = "") -> None:
        self._unit, self._began, self._source = unit, time.perf_counter(), source_digest()
        self._load, self._outcomes = [_load_average()], dict[str, Outcome]()
        self._failures, self._own_failures = dict[str, str](), dict[str, str]()

    @property
    def source(self) -> str:
        """Digest of rnagan's source when the benchmark began."""
        return self._source

    def begin(self, what: str) -> None:
        """Say on stderr what begins now."""
        click.echo(f"{time.perf_counter() - self._began:4.0f} s  {what}", err=True)
        self._load.append(_load_average())

    def add(self, outcome: Outcome, part: str = "") -> Outcome:
        """Count a race, of a part of the benchmark where it has several with the same contenders."""
        self._outcomes[part] = outcome
        failures = {_of(part, name): reason for name, reason in outcome.failures.items()}
        own = [_of(part, name) for name in outcome.own_failures]
        self.fail(failures, {name: failures[name] for name in own})
        return outcome

    def fail(self, failures: dict[str, str], own_failures: dict[str, str]) -> None:
        """Note what kept competitors from the race, and what kept ours."""
        self._failures |= failures
        self._own_failures |= own_failures

    def attempt(self, measure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
        """What a measurement of ours finds; nothing where it fails: the rest of a long run is kept."""
        try:
            return measure(*arguments)
        except (ValueError, OSError) as error:
            self._own_failures[measure.__name__.strip("_")] = str(error)
            return {}

    def end(self, found: dict[str, Any]) -> NoReturn:
        """Print all as one line of JSON, and end: with exit code 1 and the reasons on stderr where ours failed."""
        self.begin("done")
        digits, raced = 2 if self._unit == "images" else 1, dict[str, dict[str, Any]]()
        for part, outcome in self._outcomes.items():
            for name, rates in outcome.rates.items():
                each = {
                    f"{self._unit}_per_second": round(outcome.median(name), digits),
                    f"{self._unit}_per_second_by_round": [round(rate, digits) for rate in rates],
                    # share of the cores: where it isn't near 0, run it again
                    "others_share_by_round": [round(answer["others"], 2) for answer in outcome.answers[name]],
                }
                for what, value in each.items():
                    raced.setdefault(what, {})[_of(part, name)] = value
        common = {
            "failures": self._failures | self._own_failures,
            "cores": len(os.sched_getaffinity(0)),
            "load_average": self._load,  # above the number of cores: others were at work
            "rnagan_source": self._source,
            "rnagan_source_changed_during_run": source_digest() != self._source,  # then ours is a mix: run it again
            "seconds": round(time.perf_counter() - self._began),
        }
        print(json.dumps(found | raced | common))
        for name, reason in self._own_failures.items():
            click.echo(f"Ours failed at {name}: {reason}", err=True)
        sys.exit(bool(self._own_failures))


def _of(part: str, name: str) -> str:
    return f"{part}: {name}" if part else name


def source_digest() -> str:
    """Digest of the installed rnagan's source, to tell whether somebody changed it during a run."""
    (home,) = importlib.util.find_spec("rnagan").submodule_search_locations
    whole = hashlib.sha256()
    for path in sorted(Path(home).rglob("*.py")):
        whole.update(path.read_bytes())
    return whole.hexdigest()


def _load_average() -> float:
    """Of the last minute."""
    return round(os.getloadavg()[0], 2)
