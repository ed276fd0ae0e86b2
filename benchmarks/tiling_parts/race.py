"""Rounds that alternate between contenders on one slide, and ratios of rates within a round."""

import dataclasses
import statistics
from typing import Any

from .contenders import Contender

Request = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A contender in one configuration. `rounds`: how many of the rounds it takes part in, the first ones."""

    name: str
    worker: str
    option: dict[str, Any]
    rounds: int


@dataclasses.dataclass
class Outcome:
    """Tiles per second and share of the core of each entry in each of its rounds, its last answer, what failed."""

    rates: dict[str, list[float]]
    answers: dict[str, dict[str, Any]]
    failures: dict[str, str]
    core_shares: dict[str, list[float]]

    def median(self, name: str) -> float:
        return statistics.median(self.rates[name])

    def ratio(self, name: str, other: str) -> float | None:
        """Median over common rounds of the rate of `name` over that of `other`; None where either failed."""
        pairs = list(zip(self.rates.get(name, []), self.rates.get(other, []), strict=False))
        return statistics.median(a / b for a, b in pairs) if pairs else None


def race(entries: list[Entry], contenders: dict[str, Contender], request: Request, warm_up_tiles: int) -> Outcome:
    """All rounds on one slide. A first run of each on a few tiles, where it can be told which, isn't counted.

    An entry that fails is left out from there on.
    """
    outcome = Outcome({}, {}, {}, {})
    running = list(entries)

    def run(entry: Entry, tiles: list[list[int]]) -> dict[str, Any] | None:
        try:
            return contenders[entry.worker].ask(request | {"option": entry.option, "tiles": tiles})
        except (ValueError, OSError) as error:
            outcome.failures[entry.name] = str(error)
            outcome.rates.pop(entry.name, None)
            running.remove(entry)
            return None

    for entry in list(running):
        if entry.worker not in ("rnagan", "published"):  # they can't be told; imports and file cache are warm anyhow
            run(entry, request["tiles"] if entry.worker == "codec" else request["tiles"][:warm_up_tiles])
    for number in range(max(entry.rounds for entry in entries)):
        for entry in list(running)[:: -1 if number % 2 else 1]:
            if number < entry.rounds and (answer := run(entry, request["tiles"])):
                outcome.rates.setdefault(entry.name, []).append(answer["tiles"] / answer["seconds"])
                outcome.core_shares.setdefault(entry.name, []).append(answer["core_share"])
                outcome.answers[entry.name] = answer
    return outcome
