"""A table of generators: each row trained for the same budget on the same cohort, and evaluated alike."""

import dataclasses
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from rnagan.comparison.generator_cells import Cell, Result, Sources, Trained, make_cell
from rnagan.comparison.generator_page import write_table
from rnagan.comparison.generator_rows import GeneratorRow
from rnagan.comparison.generator_scores import Evaluation, check_evaluation
from rnagan.data.index import open_dataset
from rnagan.evaluation.features import HANDMADE, took_part
from rnagan.models.backbones import LITE
from rnagan.runtime.devices import environment_of
from rnagan.runtime.ends import Stopped, raise_lost_interrupt

CELLS, FEATURES = "cells", "features"


@dataclasses.dataclass(frozen=True)
class Budget:
    """`seconds` of computing of each training, `by_clock` on a GPU; `seeds` of each row; `at_once` trainings."""

    seconds: float
    seeds: tuple[int, ...]
    at_once: int
    by_clock: bool


def witness_of_rows(rows: Sequence[GeneratorRow]) -> str:
    """The offline network that took part in no row's training; handmade features where each did in one."""
    backbones = {row.config.backbone for row in rows}
    return next((name for name in LITE if not any(took_part(name, own) for own in backbones)), HANDMADE)


def compare_generators(
    rows: Sequence[GeneratorRow], sources: Sources, budget: Budget, how: Evaluation, out: Path, dry_run: bool = False
) -> list[str]:
    """Train and evaluate every row on every seed, and write `out/generators.csv`, `.json` and `.html` after each cell;
    returns the table's lines for a terminal.

    Raises `ValueError` where rows or their evaluation don't fit the data, a cell's folder is another's or damaged, or a
    training fails; what is finished is kept.
    """
    environment, shards = environment_of(how.device), open_dataset(sources.shards)
    for row in rows:
        if shards.tile_px % row.config.resolution:
            raise ValueError(
                f"Row {row.name}: {shards.address} holds tiles of {shards.tile_px} px, which don't shrink evenly to "
                f"resolution {row.config.resolution}; say --set resolution={shards.tile_px}."
            )
    sizes = {row.config.resolution for row in rows}
    if len(sizes) > 1:
        raise ValueError(
            f"Rows of {' and '.join(map(str, sorted(sizes)))} px can't be compared; say --set resolution=…."
        )
    check_evaluation(how, shards, sources.cohort, sources.expression, {row.config.where for row in rows})
    made_from = sources.digests(shards.digest)
    cells = [
        make_cell(row, seed, out / CELLS, budget.seconds, budget.by_clock, made_from)
        for seed in budget.seeds
        for row in rows
    ]
    if dry_run:
        return [*_planned(cells), f"{len(cells)} cells, {budget.at_once} at once; witness: {how.witness}."]
    for cell in cells:
        cell.open()
        cell.trained()  # a damaged one is refused before anything is computed
    found: dict[Path, Result] = {}
    for cell, trained in _trainings(cells, sources, budget.at_once, environment):
        found[cell.folder] = cell.evaluate(sources, trained, how, out / FEATURES)
        done = [(each, found[each.folder]) for each in cells if each.folder in found]
        lines = write_table(out, done, how)
    return lines


def _trainings(
    cells: Sequence[Cell], sources: Sources, at_once: int, environment: Mapping[str, str]
) -> Iterator[tuple[Cell, Trained]]:
    """Each cell when it is trained, so many at once; where the block around fails or is stopped, all stop."""
    stop = threading.Event()
    waiting = list(cells)
    with ThreadPoolExecutor(at_once) as pool:
        running: dict[Future[Trained | None], Cell] = {}
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    cell = waiting.pop(0)
                    running[pool.submit(cell.train, sources, stop, environment)] = cell
                done, _ = wait(running, timeout=1, return_when=FIRST_COMPLETED)
                raise_lost_interrupt()
                for future in done:
                    cell, trained = running.pop(future), future.result()
                    if trained is None:
                        raise Stopped  # its training was stopped by a signal of its own
                    yield cell, trained
        finally:
            stop.set()


def _planned(cells: Sequence[Cell]) -> list[str]:
    lines = []
    for cell in cells:
        config = cell.config.to_dict()
        state = "trained" if cell.folder.exists() and cell.trained() else "to train"
        named = ("width", "generator_width", "critic_width", "pixel_loss", "backbone", "batch_size", "resolution")
        said = ", ".join(f"{name} {config[name]}" for name in named if name in config)
        lines.append(f"{cell.name}: {cell.row.family}, preset {cell.row.preset} ({said}); {state}, {cell.folder}")
    return lines
