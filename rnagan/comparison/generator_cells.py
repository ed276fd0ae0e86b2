"""A cell of a table of generators: one row trained on one seed within the budget, and what it is evaluated by.

A cell is a folder that is named after the digest of its training: what is finished is kept, what was stopped goes on.
"""

import dataclasses
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from rnagan.api import digest_of_folder, model_folder, read_model_record
from rnagan.comparison.generator_rows import GeneratorRow
from rnagan.comparison.generator_scores import Evaluation, Figure, Point, scores_of_model
from rnagan.comparison.timed_training import train_within
from rnagan.config.base import Config
from rnagan.evaluation.test_set import EvaluationInputs
from rnagan.io.files import read_json, sha256_of_file, write_json
from rnagan.io.provenance import KEY, asked
from rnagan.runtime import progress
from rnagan.tracking.run_folder import latest_checkpoint

VERSION = 1  # of what decides a cell beside its request; another one makes cells anew
REQUEST, TRAINED, RESULT = "request.json", "trained.json", "cell.json"


@dataclasses.dataclass(frozen=True)
class Sources:
    """What all rows are trained on: as rnagan train-rnagan takes it. One of `vae` and `embedding` is given."""

    shards: Path | str
    cohort: Path
    expression: Path
    vae: Path | None
    embedding: str | None

    def digests(self, shards_digest: str) -> dict[str, Any]:
        """What they hold, by name."""
        vae = None if self.vae is None else sha256_of_file(model_folder(self.vae) / "model.json")
        tables = {"cohort": sha256_of_file(self.cohort), "expression": sha256_of_file(self.expression)}
        return {"shards": shards_digest, "vae": vae, "embedding": self.embedding, **tables}

    def words(self) -> list[str]:
        """As options of a training."""
        given = {"shards": self.shards, "cohort": self.cohort, "expression": self.expression, "vae": self.vae}
        given["embedding"] = self.embedding
        return [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]


class Request(TypedDict):
    """request.json: the digest of a cell's training, and what it is of."""

    asked: str
    row: str
    family: str
    preset: str
    seed: int
    budget_seconds: float
    by_clock: bool


class Trained(TypedDict):
    """trained.json: a training that has used its budget."""

    seconds: float
    images: int
    model: str


class Result(TypedDict):
    """cell.json: a row of the table."""

    asked: str
    row: str
    family: str
    preset: str
    seed: int
    settings: dict[str, Any]
    budget_seconds: float
    seconds: float
    counted: str
    images: int
    model: str
    split: str
    split_by: str
    tiles_per_profile: int
    scores: dict[str, Figure]
    few_tiles: str
    notes: list[str]
    pictures: list[str]
    seconds_per_1000_tiles: float
    curve: list[Point]


@dataclasses.dataclass(frozen=True)
class Cell:
    """`folder`: the cell's; `training`: the digest of its training; `seconds`: its budget of computing, counted by the
    clock or by the processors' time."""

    row: GeneratorRow
    seed: int
    folder: Path
    training: str
    seconds: float
    by_clock: bool

    @property
    def name(self) -> str:
        return f"{self.row.name}, seed {self.seed}"

    @property
    def config(self) -> Config:
        return self.row.config.replace(seed=self.seed)

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def open(self) -> None:
        """Make the folder, or see that the one there is this cell's. Raises `ValueError` where it isn't."""
        own: Request = {
            "asked": self.training,
            "row": self.row.name,
            "family": self.row.family,
            "preset": self.row.preset,
            "seed": self.seed,
            "budget_seconds": self.seconds,
            "by_clock": self.by_clock,
        }
        path = self.folder / REQUEST
        if path.is_file():
            if read_json(path, Request)["asked"] != self.training:
                raise ValueError(
                    f"{self.folder} holds the cell of another request; move it away, or choose another --out."
                )
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise ValueError(f"{self.folder} is no cell of this table (it has no {REQUEST}); move it away.")
        else:
            write_json(path, own)

    def trained(self) -> Trained | None:
        """What its training left, None where that isn't finished. Raises `ValueError` where its model was changed."""
        path = self.folder / TRAINED
        if not path.is_file():
            return None
        found = read_json(path, Trained)
        try:
            folder = model_folder(self.run)
        except FileNotFoundError:
            raise ValueError(f"{self.folder} has lost its model; delete the folder to train it again.") from None
        record = read_model_record(folder)
        if record is None or not found["model"] == record["digest"] == digest_of_folder(folder):
            raise ValueError(
                f"{folder} isn't the model that this cell trained; delete {self.folder} to train it again."
            )
        return found

    def train(
        self, sources: Sources, stop: threading.Event, environment: Mapping[str, str] = os.environ
    ) -> Trained | None:
        """Train within the budget; None where `stop` came first. Raises `ValueError` where the training fails, or the
        budget ends before there is a model of what it learnt."""
        if (found := self.trained()) is not None:
            return found
        settings = self.folder / "settings.yaml"
        self.config.save(settings)
        progress.say(f"{self.name}: training for {self.seconds:,.0f} s of computing.")
        words = [{"gan": "train-rnagan", "flow": "train-flow"}[self.row.family], *sources.words()]
        words += ["--preset", self.row.preset, "--config", str(settings), "--out", str(self.run)]
        seconds = train_within(words, self.folder, self.run, self.seconds, self.by_clock, stop, environment)
        if seconds is None:
            return None
        newest, there = latest_checkpoint(self.run), (self.run / "model/model.json").is_file()
        record = read_model_record(self.run / "model") if there else None
        if record is None or (newest is not None and record["images"] < int(newest.name)):
            raise ValueError(
                f"{self.name}: its start took all of the {seconds:,.0f} s of computing that it had, so there is no "
                "model of what it learnt; raise --seconds."
            )
        trained: Trained = {"seconds": round(seconds, 1), "images": record["images"], "model": record["digest"]}
        write_json(self.folder / TRAINED, trained)
        return trained

    def evaluate(self, sources: Sources, trained: Trained, how: Evaluation, features: Path) -> Result:
        """The cell's row: the one there where the same was asked of the same model, else measured now."""
        request = asked(code=False, version=VERSION, model=trained["model"], how=how.protocol())
        path = self.folder / RESULT
        if path.is_file():
            try:
                before = read_json(path, Result)
            except ValueError as error:
                raise ValueError(f"{error} Delete it to evaluate the cell again.") from None
            if before["model"] != trained["model"]:
                raise ValueError(f"{path} is of another model than the cell's; delete it to evaluate the cell again.")
            if before["asked"] == request:
                return before
        progress.say(f"{self.name}: evaluating after {trained['images']:,} images.")
        inputs = EvaluationInputs(self.run, sources.shards, sources.cohort, sources.expression, how.truth)
        found = scores_of_model(inputs, how, self.folder / "evaluation", features)
        result: dict[str, Any] = {
            KEY: request,
            "row": self.row.name,
            "family": self.row.family,
            "preset": self.row.preset,
            "seed": self.seed,
            "settings": self.config.to_dict(),
            "budget_seconds": self.seconds,
            "counted": "by the clock" if self.by_clock else "processor time",
            **trained,
            **found,
        }
        write_json(path, result)
        return read_json(path, Result)


def make_cell(
    row: GeneratorRow, seed: int, out: Path, seconds: float, by_clock: bool, made_from: dict[str, Any]
) -> Cell:
    """The cell of a row and seed in `out`. All settings are part of its digest: under a budget of seconds also those
    that decide how fast a training is decide its model."""
    digest = asked(
        code=False,
        version=VERSION,
        family=row.family,
        settings=row.config.to_dict() | {"seed": seed},
        seconds=seconds,
        by_clock=by_clock,
        made_from=made_from,
    )
    return Cell(row, seed, out / f"{row.name}-{seed}-{digest[:12]}", digest, seconds, by_clock)
