"""Visits of the explorer, in memory alone, and what their addresses ask for."""

import itertools
import math
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

from rnagan.apps.explored_model import MAX_SEED, ExploredModel, ExploredProfile

MAX_VISITS = 500
K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The latest values by key, of sizes (1 each) that are `most` together; the least recently asked for is forgotten
    first."""

    def __init__(self, most: int, size: Callable[[V], int] = lambda _: 1) -> None:
        self._most, self._size, self._held, self._lock = most, size, 0, threading.Lock()
        self._values: OrderedDict[K, V] = OrderedDict()

    def find(self, key: K) -> V | None:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def keep(self, key: K, value: V) -> None:
        with self._lock:
            if key in self._values:
                self._held -= self._size(self._values.pop(key))
            self._values[key] = value
            self._held += self._size(value)
            while self._held > self._most:
                self._held -= self._size(self._values.popitem(last=False)[1])


class Visit(NamedTuple):
    """Who has a page open. `uploads`: the profiles of their table, which nobody else sees, by numbers (of `numbers`)
    that don't come again."""

    token: str
    uploads: dict[int, ExploredProfile]
    numbers: Iterator[int]


class Visits:
    """Visits by their secret token, in memory alone."""

    def __init__(self) -> None:
        self._visits: Recent[str, Visit] = Recent(MAX_VISITS)

    def open(self) -> Visit:
        visit = Visit(secrets.token_urlsafe(24), {}, itertools.count())
        self._visits.keep(visit.token, visit)
        return visit

    def find(self, token: str) -> Visit | None:
        return self._visits.find(token)


class ExplorerQuery(NamedTuple):
    """A profile (its number, or u and the number of an uploaded one), a slider's key or "", how far it is moved, and
    the seed of the noise."""

    profile: str
    slider: str
    step: float
    seed: int

    @property
    def words(self) -> str:
        """The same as an address has it."""
        return f"profile={self.profile}&move={self.slider}&step={self.step}&seed={self.seed}"


def read_query(query: Mapping[str, str], explored: ExploredModel, visit: Visit, first: str) -> ExplorerQuery:
    """What an address asks for; without a word the profile `first`, and what is listed first to move, as it is.
    `ValueError`, a sentence for the visitor, on anything that isn't there or is out of bounds."""
    profile = query.get("profile", first)
    shown_of(profile, explored, visit)
    gene, slider = query.get("gene", "").strip(), query.get("move", explored.first_key)
    slider = explored.gene_key(gene) if gene else slider
    reach = explored.slider(slider).reach if slider else 0.0
    return ExplorerQuery(profile, slider, _number(query.get("step", "0"), reach), _seed(query.get("seed", "0")))


def shown_of(profile: str, explored: ExploredModel, visit: Visit) -> ExploredProfile:
    """The profile of `ExplorerQuery.profile`; `ValueError` where there is none."""
    uploaded, digits = profile.startswith("u"), profile.removeprefix("u")
    number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 7 else -1
    if not uploaded:
        return explored.shown(number)
    if number not in visit.uploads:
        raise ValueError("This uploaded profile is no longer here; upload the table again.")
    return visit.uploads[number]


def _number(given: str, reach: float) -> float:
    try:
        step = float(given) if len(given) <= 20 else math.nan
    except ValueError:
        step = math.nan
    if not abs(step) <= reach * (1 + 1e-9):
        raise ValueError(f"The slider goes from {-reach:g} to {reach:g}.")
    return round(step, 4) + 0.0


def _seed(given: str) -> int:
    if not (given.isascii() and given.isdigit() and len(given) < 5 and int(given) <= MAX_SEED):
        raise ValueError(f"The seed is a whole number from 0 to {MAX_SEED}.")
    return int(given)
