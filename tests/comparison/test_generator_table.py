"""A table of generators: its rows, their budgets, and cells that are kept, gone on with, or refused by name."""

import dataclasses
import functools
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from rnagan.api import RNAGAN
from rnagan.commands.main import main
from rnagan.comparison import generator_scores
from rnagan.comparison.generator_cells import RESULT, TRAINED, Cell, Result, Sources, Trained, make_cell
from rnagan.comparison.generator_page import binding, write_table
from rnagan.comparison.generator_rows import DEFAULT_ROWS, NEVER, read_rows
from rnagan.comparison.generator_scores import Evaluation
from rnagan.comparison.generator_table import Budget, compare_generators, witness_of_rows
from rnagan.comparison.timed_training import compute_for
from rnagan.config.base import load_config
from rnagan.config.gan import GANConfig
from rnagan.evaluation import test_set, tile_measurements
from rnagan.evaluation.faithfulness import evaluate, scores_of
from rnagan.evaluation.features import make_extractor
from rnagan.evaluation.fid import compute_fid
from rnagan.evaluation.test_set import EvaluationInputs, EvaluationSet
from rnagan.evaluation.tile_networks import train_condition_regressor, train_tissue_classifier
from rnagan.io.files import read_json, write_json
from rnagan.models.tile_generator import NO_OPTIONS, SamplingOptions
from rnagan.runtime.distributed import processes
from rnagan.tracking.run_folder import latest_checkpoint, run_digest
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs
from tests import programs

HOW = Evaluation(
    split="test",
    n=2,
    tiles=16,
    extractors=("handmade",),
    witness="handmade",
    copies=12,
    train_donors=0,
    curves=True,
    calibrated=False,
    seed=0,
    truth=None,
    consecutive=(),
    device=torch.device("cpu"),
)


@pytest.fixture
def sources(inputs: TileInputs) -> Sources:
    assert inputs.expression is not None
    return Sources(inputs.shards, inputs.cohort, inputs.expression, inputs.vae, None)


@pytest.fixture
def cell(trained: Path, sources: Sources, tmp_path: Path) -> Cell:
    """A cell whose training has ended: its run is `trained`."""
    (row,) = read_rows(["wgan_gp"], ["resolution=32"])
    made = make_cell(row, 0, tmp_path / "cells", 9, False, {})
    made.open()
    shutil.copytree(trained, made.run)
    write_json(made.folder / TRAINED, {"seconds": 9.0, "images": 96, "model": run_digest(trained)})
    return made


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, train in (
        ("train_tissue_classifier", functools.partial(train_tissue_classifier, steps=20)),
        ("train_condition_regressor", functools.partial(train_condition_regressor, steps=6)),
    ):
        monkeypatch.setattr(tile_measurements, name, train)
    monkeypatch.setattr(generator_scores, "TRUNCATIONS", (0.5, 1.0))
    monkeypatch.setattr(generator_scores, "TIMED_TILES", 12)


def test_rows_and_the_settings_that_win() -> None:
    rows = {
        row.name: row for row in read_rows([], ["batch_size=16", "gan.generator-width=8", "two_critics.batch_size=4"])
    }
    assert list(rows) == list(DEFAULT_ROWS) and rows["flow"].family == "flow"
    widths = {name: row.config.to_dict().get("generator_width") for name, row in rows.items()}
    assert widths == {"wgan_gp": 8, "relativistic": 8, "features": 8, "two_critics": 8, "flow": None}
    assert [row.config.batch_size for row in rows.values()] == [16, 16, 16, 4, 16]
    assert all(row.config.images == NEVER and row.config.validate_every == 0 for row in rows.values())
    (own,) = read_rows(["mine=gan:relativistic"], ["mine.flips=no", "generator_turns=false", "images=64"])
    assert (own.config.flips, own.config.generator_turns, own.config.images) == (False, False, 64)
    assert (
        witness_of_rows(list(rows.values())) == "efficientnet_lite2" and witness_of_rows([own]) == "efficientnet_lite0"
    )


def test_where_each_offline_network_was_a_critic_neither_is_the_witness() -> None:
    rows = read_rows(["one=gan:features", "two=gan:features"], ["two.backbone=efficientnet_lite2"])
    assert [row.config.backbone for row in rows] == ["efficientnet_lite0", "efficientnet_lite2"]
    assert witness_of_rows(rows) == "handmade" and witness_of_rows(rows[:1]) == "efficientnet_lite2"


def test_an_evaluation_that_cannot_be_is_refused_before_anything_is_trained(
    sources: Sources, truth: Path, tmp_path: Path
) -> None:
    rows, budget = read_rows(["wgan_gp"], ["resolution=32"]), Budget(9, (0,), 1, False)
    short = tmp_path / "short.csv"
    short.write_text("\n".join(truth.read_text().splitlines()[:4]))
    for changed, sentence in (
        ({"extractors": ("nothing",)}, "There is no extractor nothing"),
        ({"calibrated": True, "split": "validation"}, "--calibrate needs validation donors' own tiles"),
        ({"consecutive": ("S1", "S2")}, "--consecutive is for spots, and .* has no positions"),
        ({"truth": short}, "short.csv lacks 11 samples"),
        ({"device": torch.device("mps")}, "Nothing is trained on mps"),
    ):
        for dry_run in (True, False):
            with pytest.raises(ValueError, match=sentence):
                how = dataclasses.replace(HOW, **changed)
                compare_generators(rows, sources, budget, how, tmp_path / "out", dry_run)
    assert not (tmp_path / "out").exists()
    assert (
        "1 cells"
        in compare_generators(rows, sources, budget, dataclasses.replace(HOW, truth=truth), tmp_path, True)[-1]
    )


@pytest.mark.parametrize(
    ("rows", "settings", "sentence"),
    [
        (["nothing"], [], "There is no row 'nothing'"),
        (["a=b:c"], [], "is no row: say NAME=FAMILY:PRESET"),
        (["a=gan:nothing"], [], "There is no preset 'nothing'"),
        (["flow=gan:faithful"], [], "as another family is"),
        (["../a=gan:faithful"], [], "is no name of a row"),
        (["flow", "flow"], [], "Two rows have one name"),
        ([], ["batch_size"], "is no setting: say SETTING=VALUE"),
        ([], ["nobody.batch_size=4"], "there is no row and no family nobody"),
        ([], ["batch_sizes=4"], "No row has a setting batch_sizes"),
        (["flow"], ["flow.backbone_px=4"], "Row flow: 'backbone_px' is no setting of FlowConfig"),
        ([], ["gan.batch_size=many"], "Row wgan_gp: batch_size must be a int, not 'many'"),
    ],
)
def test_wrong_rows_and_settings(rows: list[str], settings: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        read_rows(rows, settings)


def test_a_budget_counts_processor_time_and_not_waiting() -> None:
    busy = [sys.executable, "-c", "while True: pass"]
    code, spent = compute_for(busy, 1.0)
    assert code == -signal.SIGTERM and spent >= 1.0
    waits = [sys.executable, "-c", "import time; time.sleep(2)"]
    code, spent = compute_for(waits, 1.0)
    assert code == 0 and spent < 1.0
    assert compute_for(waits, 0.6, by_clock=True)[0] == -signal.SIGTERM
    stop = threading.Event()
    stop.set()
    assert compute_for(busy, 100, stop=stop)[0] == -signal.SIGTERM


def test_a_cell_is_named_after_what_decides_its_training(tmp_path: Path) -> None:
    def name(*settings: str, seconds: float = 9, seed: int = 0, made_from: str = "tiles") -> str:
        (row,) = read_rows(["wgan_gp"], settings)
        return make_cell(row, seed, tmp_path, seconds, False, {"shards": made_from}).folder.name

    usual = name()
    others = [name("batch_size=4"), name(seconds=8), name(seed=1), name(made_from="others")]
    others += [name("threads=2"), name("loader_threads=4")]  # with which it comes further in as many seconds
    assert usual == name() and len({usual, *others}) == 7


@pytest.mark.attack(kind=6)
def test_a_budget_that_the_start_takes_is_said(cell: Cell, sources: Sources, tmp_path: Path) -> None:
    short = make_cell(cell.row, 0, tmp_path / "cells", 0.1, False, {})
    short.open()
    with pytest.raises(ValueError, match=r"wgan_gp, seed 0: its start took all of the \d+ s.*raise --seconds"):
        short.train(sources, threading.Event())
    assert not (short.folder / TRAINED).exists()
    # A model of before the newest checkpoint, from which a later start never came to a step.
    (cell.folder / TRAINED).unlink()
    newest = latest_checkpoint(cell.run)
    assert newest is not None
    newest.rename(newest.with_name("000000200"))
    write_json(cell.folder / "spent.json", {"last": 9.0, "at": {}})
    with pytest.raises(ValueError, match="its start took all of the 9 s"):
        cell.train(sources, threading.Event())


def test_rows_of_equal_settings_have_cells_of_their_own_and_are_trained_on_the_device_that_was_asked_for(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Mapping[str, str]] = []

    def train(cell: Cell, _sources: Sources, _stop: threading.Event, environment: Mapping[str, str]) -> Trained:
        trained.append(environment)
        return {"seconds": 9.0, "images": 96, "model": cell.row.name}

    known = next(iter(_results().values()))
    monkeypatch.setattr(Cell, "train", train)
    monkeypatch.setattr(
        Cell, "evaluate", lambda cell, _sources, own, *_: known | {"row": cell.row.name, "model": own["model"]}
    )
    rows = read_rows(["one=gan:wgan_gp", "two=gan:wgan_gp"], ["resolution=32"])
    compare_generators(rows, sources, Budget(9, (0,), 1, False), HOW, tmp_path)
    assert [(each["row"], each["model"]) for each in read_json(tmp_path / "generators.json")] == [
        ("one", "one"),
        ("two", "two"),
    ]
    assert [environment["ACCELERATE_USE_CPU"] for environment in trained] == ["true", "true"]


@pytest.mark.attack(kind=2)
def test_a_foreign_or_damaged_cell_is_refused_by_name(cell: Cell, sources: Sources, tmp_path: Path) -> None:
    cell.open()  # again: it is its own
    assert cell.trained() is not None
    foreign = make_cell(cell.row, 1, tmp_path / "cells", 9, False, {})
    shutil.copytree(cell.folder, foreign.folder)
    with pytest.raises(ValueError, match=rf"{foreign.folder.name} holds the cell of another request"):
        foreign.open()
    (foreign.folder / "request.json").unlink()
    with pytest.raises(ValueError, match=rf"{foreign.folder.name} is no cell of this table"):
        foreign.open()
    (cell.run / "model/config.yaml").write_text((cell.run / "model/config.yaml").read_text() + "\n")
    with pytest.raises(ValueError, match=rf"{cell.folder.name}.* isn't the model that this cell trained"):
        cell.trained()
    shutil.rmtree(cell.run / "model")
    with pytest.raises(ValueError, match=rf"{cell.folder.name} has lost its model"):
        cell.trained()
    (cell.folder / "request.json").write_text("{")
    with pytest.raises(ValueError, match=rf"{cell.folder.name}/request.json"):
        cell.open()


@pytest.mark.usefixtures("_quick")
def test_a_cell_is_evaluated_once_and_shown(
    cell: Cell, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = cell.trained()
    assert trained is not None
    result = cell.evaluate(sources, trained, HOW, tmp_path / "features")
    scores = result["scores"]
    frechet = next(name for name in scores if name.startswith("all/frechet_handmade_16"))
    assert {"copies/share", "copies/called"} <= set(scores) and result["seconds_per_1000_tiles"] > 0
    measured = binding(scores, "r")
    assert set(measured) == set(binding(scores, "slope")) and not any("site_stain" in name for name in measured)
    assert [point["value"] for point in result["curve"]] == [0.5, 1.0] and result["curve"][0]["option"] == "truncation"
    assert result["curve"][1]["scores"] == scores and result["curve"][0]["scores"][frechet] != scores[frechet]
    with monkeypatch.context() as patch:
        patch.setattr(EvaluationSet, "generated", None)
        patch.setattr(EvaluationSet, "generated_of", None)
        assert cell.evaluate(sources, trained, HOW, tmp_path / "features") == result
    lines = write_table(tmp_path, [(cell, result)], HOW)
    table = pd.read_csv(tmp_path / "generators.csv")
    assert table["row"].tolist() == ["wgan_gp"] and table[frechet].tolist() == [scores[frechet]["value"]]
    assert read_json(tmp_path / "generators.json") == [result]
    page = (tmp_path / "generators.html").read_text()
    assert "<script" not in page and not re.search(r"https?://|url\(", page)
    assert page.count("data:image/png;base64,") >= 3  # the curve, and a picture a tissue
    assert any("frechet handmade 16" in line for line in lines)
    (cell.folder / RESULT).write_text((cell.folder / RESULT).read_text().replace('"scores"', '"score"'))
    with pytest.raises(ValueError, match=r"cell\.json.*Delete it to evaluate the cell again"):
        cell.evaluate(sources, trained, HOW, tmp_path / "features")


@pytest.mark.usefixtures("_quick")
def test_a_cell_opens_its_model_and_generates_once_and_has_the_figures_of_the_commands(
    cell: Cell, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = dataclasses.replace(HOW, extractors=("handmade", "tests.evaluation.pixels:make"))
    trained = cell.trained()
    assert trained is not None
    opened: list[Path] = []
    generated: list[str] = []
    open_model, generate = test_set.open_model, RNAGAN.generate_numbered

    def noted_model(folder: Path, *given: Any, **options: Any) -> RNAGAN:
        opened.append(folder)
        return open_model(folder, *given, **options)

    def noted_tiles(model: RNAGAN, latents: Any, names: list[str], numbers: list[int], seed: int) -> Any:
        generated.extend(f"{model.sampling} {name} {k}" for name, k in zip(names, numbers, strict=True))
        return generate(model, latents, names, numbers, seed)

    with monkeypatch.context() as patch:
        patch.setattr(test_set, "open_model", noted_model)
        patch.setattr(RNAGAN, "generate_numbered", noted_tiles)
        patch.setattr(generator_scores, "nearest_of_set", lambda *_, **__: {"share": 0, "copies": [], "ratio": 0})
        patch.setattr(generator_scores, "seconds_per_1000", lambda *_: 1.0)
        result = cell.evaluate(sources, trained, how, tmp_path / "features")
    assert opened == [cell.run] and len(generated) == len(set(generated)) == 2 * (16 + 2 * 11)
    inputs = EvaluationInputs(cell.run, sources.shards, sources.cohort, sources.expression)
    for point, options in zip(result["curve"], (SamplingOptions(truncation=0.5), NO_OPTIONS), strict=True):
        out, found = tmp_path / f"commands-{point['value']}", {}
        for name in how.extractors:
            extractor, asked = make_extractor(name), {"count": 16, "options": options, "map_tiles": 0}
            fid = compute_fid(inputs, out / extractor.name, extractor, out / "cache", processes(), **asked)
            found |= {f"{score['part']}/{score['name']}": score for score in fid["scores"]}
        found |= scores_of(evaluate(inputs, out, n=2, train_donors=0, options=options))
        own = {name: score for name, score in point["scores"].items() if not name.startswith("copies/")}
        assert own == generator_scores._plain(found) and any("pixels" in name for name in own)


def _results() -> dict[str, Result]:
    """A result as a cell has it, of two rows and two seeds, with figures that are known."""
    scores = {
        "all/frechet_efficientnet_lite0_16": {"value": 50.0},
        "all/frechet_handmade_16": {"value": 9.0},
        "faithfulness/lung/air_fraction/r": {"value": 0.5, "low": 0.1, "high": 0.8},
        "faithfulness/lung/air_fraction/slope": {"value": 2.0},
        "faithfulness/lung/site_stain/r": {"value": 1.0},
        "retrieval/lung/generated/tissue/rank": {"value": 0.25},
        "retrieval/lung/real/tissue/rank": {"value": 0.01},
    }
    plain = {"asked": "0", "family": "gan", "preset": "p", "budget_seconds": 9.0, "seconds": 9.0, "images": 96}
    plain |= {"counted": "processor time", "model": "0" * 64, "split": "test", "split_by": "donor", "few_tiles": ""}
    plain |= {"tiles_per_profile": 2, "notes": [], "pictures": [], "seconds_per_1000_tiles": 1.0, "curve": []}
    found = {}
    for row, seed, r, slope, backbone in (
        ("one", 0, 0.5, 2.0, "none"),
        ("one", 1, 0.7, 1.0, "none"),
        ("two", 0, 0.9, 0.8, "efficientnet_lite0"),
    ):
        own = scores | {
            "faithfulness/lung/air_fraction/r": {"value": r},
            "faithfulness/lung/air_fraction/slope": {"value": slope},
        }
        found[f"{row}{seed}"] = plain | {"row": row, "seed": seed, "scores": own, "settings": {"backbone": backbone}}
    return found  # type: ignore[return-value]


def test_means_over_seeds_and_the_best_of_a_line(cell: Cell, tmp_path: Path) -> None:
    write_table(tmp_path, [(cell, result) for result in _results().values()], HOW)
    page = (tmp_path / "generators.html").read_text()
    rows = dict(re.findall(r"<tr><td>([^<]+?) ?(?:<small>.*?</small>)?</td>\n(.*?)</tr>", page, re.DOTALL))
    text = {name: re.sub(r"<(?!/?span)[^>]*>|\n", "", cells) for name, cells in rows.items()}
    assert text["r, mean"] == '<span>0.6 (0.5 to 0.7)</span><span class="best">0.9</span>'  # without the site's stain
    assert text["slope, mean"] == '<span>1.5 (1 to 2)</span><span class="best">0.8</span>'
    assert text["place of the right one"].count("0.25") == 2
    assert (
        "best" not in text["frechet efficientnet lite0 16"] and "in training" in text["frechet efficientnet lite0 16"]
    )
    assert text["frechet handmade 16"].count('class="best"') == 2  # alike


def test_real_pairs_come_first() -> None:
    scores = {
        "real_pairs/S4/eosin/r": {"value": 0.3},
        "real_pairs/S4/place": {"value": 0.4},
        "real_pairs/S4/place/ridge": {"value": 0.2},
        "on_real_tiles/breast/nuclear_density/r": {"value": 0.9},
    }
    assert binding(scores, "r") == {"S4/eosin": 0.3}  # type: ignore[arg-type]
    assert binding(scores, "place") == {"real_pairs/S4/place": 0.4}  # type: ignore[arg-type]


TOY = (
    "--row wgan_gp --set resolution=32 --set batch_size=8 --set gan.generator_width=4 --set gan.critic_width=4 "
    "--n 1 --tiles 16 --copy-tiles 8 --extractor handmade --extractor efficientnet_lite0"
)
FLOW = "--row flow --set flow.width=8 --set flow.levels=2 --set flow.layers=1 --set flow.block_px=4"
AWAY = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.timeout(1500)
@pytest.mark.usefixtures("no_mlflow")
@pytest.mark.attack(kind=6, ends="unharmed")
def test_a_table_that_is_stopped_goes_on_to_the_model_of_an_undisturbed_training(
    inputs: TileInputs, tmp_path: Path
) -> None:
    paths = {"shards": inputs.shards, "cohort": inputs.cohort, "expression": inputs.expression, "vae": inputs.vae}
    given = [str(word) for name, path in paths.items() for word in (f"--{name}", path)]
    # The images of a row end its training before the budget does, so that another training has as many.
    ends = ["--set", "images=2000", "--set", "checkpoint_every=400"]
    out = tmp_path / "table"
    words = ["rnagan", "compare-generators", *given, *TOY.split(), *ends, "--out", out]
    with programs.start(*words, env=AWAY) as running:
        end = time.monotonic() + 400
        while not list(out.glob("cells/wgan_gp-*/run/checkpoints/*/state.json")):
            assert time.monotonic() < end, running.wait(1)
            time.sleep(0.05)
        os.kill(running.pid, signal.SIGTERM)
        ended = running.wait(60)
    assert ended.returncode == 75 and "Traceback" not in ended.stderr, ended
    (cell,) = out.glob("cells/wgan_gp-*")
    assert not (cell / TRAINED).exists() and latest_checkpoint(cell / "run") is not None
    programs.run(*words, env=AWAY, timeout=900).check()
    table = pd.read_csv(out / "generators.csv")
    assert table["row"].tolist() == ["wgan_gp"] and table["images"].tolist() == [2000]
    train_gan(load_config(GANConfig, cell / "settings.yaml"), inputs, tmp_path / "calm")
    assert table["model"].tolist() == [run_digest(tmp_path / "calm")]


def test_a_dry_run_shows_rows_and_makes_nothing(sources: Sources, tmp_path: Path) -> None:
    words = [
        "compare-generators",
        *sources.words(),
        *TOY.split(),
        *FLOW.split(),
        "--dry-run",
        "--out",
        str(tmp_path / "out"),
    ]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0 and "2 cells, 1 at once; witness: efficientnet_lite0." in done.output, done.output
    assert not (tmp_path / "out").exists()
    done = CliRunner().invoke(main, [*words, "--set", "resolution=64"])
    assert done.exit_code == 1 and "say --set resolution=32." in done.output
    done = CliRunner().invoke(main, [*words, "--embedding", "obsm:X"])
    assert done.exit_code == 2 and "Give --vae or --embedding" in done.output
