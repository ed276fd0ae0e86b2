"""Who takes part in the race of loaders, and how they are compared."""

import dataclasses

from shared.race import Entry, Outcome
from shared.report import rounded

FEW_ROUNDS = 2  # for what no headline needs
PEERS = {
    "webdataset": ("webdataset", {"decoder": "rgb8"}),
    "webdataset, simplejpeg": ("webdataset", {"decoder": "simplejpeg"}),
    "lmdb": ("lmdb", {"open_once": False}),
    "lmdb, opened once": ("lmdb", {"open_once": True}),
    "mosaicml": ("mosaicml", {}),
    "litdata": ("litdata", {}),
}
OTHERS = ("mosaicml", "litdata")
MINOR = ("webdataset, simplejpeg, 0 workers", "webdataset, simplejpeg, 2 workers", "mosaicml, 0 workers")
ALONE = ("webdataset", "lmdb", "mosaicml", "litdata")  # with one worker too
HEADLINES = ("ratio_limit", "ratio_webdataset", "ratio_lmdb", "ratio_other")
OURS, OURS_IN_PROCESSES, OURS_ALONE = "ours", "ours, 2 processes", "ours, 1 thread"
LIMIT, LIMIT_ALONE = "limit", "limit, 1 process"


@dataclasses.dataclass(frozen=True)
class Variant(Entry):
    """A loader with a number of workers. `family`: the loader, whatever their number; None for what isn't one."""

    family: str | None


def variants(rounds: int) -> list[Variant]:
    """With two workers, or none, in all rounds; one worker, and what is never the best, in the first few."""
    few = min(rounds, FEW_ROUNDS)
    return [
        Variant(OURS, "rnagan", {"threads": 2, "workers": 0}, rounds, "ours"),
        Variant(LIMIT, "limit", {"processes": 2}, rounds, None),
        *(
            _peer(name, workers, few if _name(name, workers) in MINOR else rounds)
            for name in PEERS
            for workers in (0, 2)
        ),
        Variant(OURS_IN_PROCESSES, "rnagan", {"threads": 1, "workers": 2}, few, "ours, in processes"),
        Variant(OURS_ALONE, "rnagan", {"threads": 1, "workers": 0}, few, "ours"),
        Variant(LIMIT_ALONE, "limit", {"processes": 1}, few, None),
        *(_peer(name, 1, few) for name in ALONE),
    ]


def ratios(outcome: Outcome, ours: str, limit: str, workers: tuple[int, ...]) -> dict[str, float | None]:
    """Ours over the limit, and over each peer with the best of these numbers of workers."""
    found = {"limit": outcome.ratio(ours, limit)}
    for name in PEERS:
        best = best_of(outcome, name, workers)
        found[name.replace(", ", "_").replace(" ", "_")] = outcome.ratio(ours, best) if best else None
    found["other"] = min((found[name] for name in OTHERS if found[name]), default=None)
    return {f"ratio_{name}": rounded(ratio) for name, ratio in found.items()}


def best_of(outcome: Outcome, peer: str, workers: tuple[int, ...]) -> str | None:
    """The entry of a peer that is fastest by its median."""
    names = [_name(peer, number) for number in workers]
    return max((name for name in names if name in outcome.rates), key=outcome.median, default=None)


def _peer(name: str, workers: int, rounds: int) -> Variant:
    worker, option = PEERS[name]
    return Variant(_name(name, workers), worker, option | {"workers": workers}, rounds, name)


def _name(peer: str, workers: int) -> str:
    return f"{peer}, {workers} worker" + ("" if workers == 1 else "s")
