"""Rounds that alternate between contenders, and ratios of rates within a round."""

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

Answer = dict[str, Any]
OWN_WORKERS = ("rnagan", "processes", "trainer", "limit")  # all others are competitors, which may fail


@dataclasses.dataclass(frozen=True)
class Entry:
    """A contender in one configuration. `rounds`: how many of the rounds it takes part in, the first ones.

    `worker`: its script, `run_WORKER.py`.
    """

    name: str
    worker: str
    option: dict[str, Any]
    rounds: int


@dataclasses.dataclass
class Outcome:
    """Tiles per second and answer of each entry in each of its rounds, and what failed, ours among it."""

    rates: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    answers: dict[str, list[Answer]] = dataclasses.field(default_factory=dict)
    failures: dict[str, str] = dataclasses.field(default_factory=dict)
    own_failures: list[str] = dataclasses.field(default_factory=list)

    def median(self, name: str) -> float:
        return statistics.median(self.rates[name])

    def ratio(self, name: str, other: str) -> float | None:
        """Median over common rounds of the rate of `name` over that of `other`; None where either failed."""
        pairs = list(zip(self.rates.get(name, []), self.rates.get(other, []), strict=False))
        return statistics.median(a / b for a, b in pairs) if pairs else None


def race(
    entries: list[Entry], ask: Callable[[Entry], Answer], warm_up: Callable[[Entry], Any] | None = None
) -> Outcome:
    """All rounds. `ask` measures an entry (`tiles`, `seconds`); `warm_up` comes before the first round.

    An entry that fails is left out from there on.
    """
    outcome = Outcome()
    running = list(entries)

    def attempt(call: Callable[[Entry], Any], entry: Entry) -> Any:
        try:
            return call(entry)
        except (ValueError, OSError) as error:
            outcome.failures[entry.name] = str(error)
            if entry.worker in OWN_WORKERS:
                outcome.own_failures.append(entry.name)
            outcome.rates.pop(entry.name, None)
            running.remove(entry)
            return None

    if warm_up:
        for entry in list(running):
            attempt(warm_up, entry)
    for number in range(max(entry.rounds for entry in entries)):
        for entry in list(running)[:: -1 if number % 2 else 1]:
            if number < entry.rounds and (answer := attempt(ask, entry)):
                outcome.rates.setdefault(entry.name, []).append(answer["tiles"] / answer["seconds"])
                outcome.answers.setdefault(entry.name, []).append(answer)
    return outcome
