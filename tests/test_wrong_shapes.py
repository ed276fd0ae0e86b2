"""JSON and YAML of the right syntax and the wrong shape: each reader refuses it in a sentence that names the file."""

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from rnagan import generation
from rnagan.api import read_model_record
from rnagan.article.stages import run_stages
from rnagan.comparison.evaluation_scores import read_results
from rnagan.config.base import load_config
from rnagan.config.gan import GANConfig
from rnagan.config.vae import VAEConfig
from rnagan.data.index import DamagedShard, open_dataset
from rnagan.data.set_digest import write_digest
from rnagan.data.verify import check_slide
from rnagan.expression.transform import ExpressionTransform
from rnagan.io.matrix import open_matrix
from rnagan.models.resnet import open_backbone, save_backbone
from rnagan.models.trained_vae import load_vae
from rnagan.simulation import cohort as simulation
from rnagan.tracking.evaluations import record_evaluation, store_of
from rnagan.tracking.run_folder import RunFolder, checkpoint_path
from rnagan.tracking.run_log import new_record
from rnagan.training.checkpoint import Moments, best_checkpoint, mark_best, newest_whole, save_checkpoint

SAVED = Path(__file__).parent / "saved"
FIELDS = 20  # of a file that are tried, about
WRONG = (None, True, 2.5, "x", [1], {"a": 1}, 10**30)


def open_run(folder: Path) -> None:
    run = RunFolder.open(folder)
    assert run.state and run.status and run.seconds >= 0
    new_record(folder, "rnagan", True)


def load_model(folder: Path) -> None:
    if read_model_record(folder) is None:
        raise ValueError(f"{folder} holds another kind of model")


def load_transform(folder: Path) -> None:
    ExpressionTransform.load(folder)


def open_records(folder: Path) -> None:
    check_slide(folder, "D8-lung-slide")
    write_digest(folder)


def open_results(folder: Path) -> None:
    for path in folder.glob("evaluation_run*.json"):
        store_of(path)
    read_results(folder)


def newest(folder: Path) -> None:
    newest_whole(folder)


def run_no_stage(folder: Path) -> None:
    run_stages([], folder)


SAVED_FILES: dict[str, tuple[str, str, Callable[[Path], Any]]] = {
    "run.json": ("run", "run.json", open_run),
    "row of metrics": ("run", "metrics.jsonl", open_run),
    "settings of a GAN": ("run", "config.yaml", lambda folder: load_config(GANConfig, folder / "config.yaml")),
    "model.json of a run": ("run", "model/model.json", open_run),
    "model.json of a GAN": ("run/model", "model.json", load_model),
    "model.json of a β-VAE": ("run/model/vae", "model.json", load_vae),
    "settings of a β-VAE": (
        "run/model/vae",
        "config.yaml",
        lambda folder: load_config(VAEConfig, folder / "config.yaml"),
    ),
    "transform.json": ("run/model/vae", "transform.json", load_transform),
    "record": ("shards", "D8-lung-slide.record.json", open_records),
    "dataset.json": ("shards", "dataset.json", open_dataset),
    "evaluation.json": ("evaluation", "evaluation.json", open_results),
    "fid.json": ("fid", "fid.json", open_results),
    "nearest.json": ("nearest", "nearest.json", open_results),
    "confounders.json": ("confounders", "confounders.json", open_results),
    "generated.json": ("generated", "generated.json", generation._take_over),
}


def make_checkpoint(folder: Path) -> None:
    state = {"images": 3, "steps": 1, "made_from": {"shards": "ab"}, "mlflow_run": None}
    moments = Moments({"0.exp_avg": torch.zeros(2)}, [{"lr": 0.1, "params": [0]}])
    save_checkpoint(checkpoint_path(folder, 3), {"net": {"a": torch.zeros(2)}}, {"adam": moments}, state)
    mark_best(folder, checkpoint_path(folder, 3), "frechet", 2.0)


def make_evaluation(folder: Path) -> None:
    scores = {"frechet": {"value": 2.0, "low": 1.0, "high": 3.0}}
    record_evaluation(folder, "fid", "abc", scores, {"tiles": 3})


def make_stages(folder: Path) -> None:
    done = {"name": "a", "command": "c", "seconds": 1.0, "peak_memory_gb": 1.0, "finished": True, "made_from": ""}
    (folder / "stages.json").write_text(json.dumps([done]))


def make_backbone(folder: Path) -> None:
    about = {"backbone": "resnet18", "norm": "group", "donors": ["ab"], "made_from": {"shards": "ab"}}
    save_backbone(folder, torch.nn.Linear(2, 2), about)


def make_simulation(folder: Path) -> None:
    (folder / "simulation.json").write_text(json.dumps({"rnagan": "0", "config": {"genes": 100}, "samples": 3}))


MADE_FILES: dict[str, tuple[Callable[[Path], None], str, Callable[[Path], Any]]] = {
    "state.json": (make_checkpoint, "checkpoints/000000000003/state.json", newest),
    "best.json": (make_checkpoint, "best.json", best_checkpoint),
    "evaluation_run.json": (make_evaluation, "evaluation_run.json", open_results),
    "stages.json": (make_stages, "stages.json", run_no_stage),
    "backbone.json": (make_backbone, "backbone.json", open_backbone),
    "simulation.json": (make_simulation, "simulation.json", simulation._settings_of),
}
FORMATS = [*SAVED_FILES, *MADE_FILES]


@pytest.fixture
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Callable[[], Any]]:
    """A file of a format in a folder of its own, and what reads it."""
    folder = tmp_path / "folder"
    if request.param in SAVED_FILES:
        of, name, read = SAVED_FILES[request.param]
        shutil.copytree(SAVED / of, folder)
    else:
        make, name, read = MADE_FILES[request.param]
        folder.mkdir()
        make(folder)
    return folder / name, lambda: read(folder)


def values_of(path: Path) -> Any:
    text = path.read_text().splitlines()[-1] if path.suffix == ".jsonl" else path.read_text()
    return yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)


def write(path: Path, value: Any) -> None:
    path.write_text(yaml.safe_dump(value) if path.suffix == ".yaml" else json.dumps(value) + "\n")


def places(value: Any, at: tuple = ()) -> Iterator[tuple]:
    """Where every field is; of lists and of fields that are alike, two."""
    if at:
        yield at
    inside = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    alike = len(inside) > 3 and all(isinstance(each, dict) for _, each in inside)
    for name, each in inside[:2] if alike or isinstance(value, list) else inside:
        yield from places(each, (*at, name))


def changed(value: Any, at: tuple, by: Any) -> Any:
    new = copy.deepcopy(value)
    place = new
    for name in at[:-1]:
        place = place[name]
    if by is places:
        del place[at[-1]]
    else:
        place[at[-1]] = by
    return new


def complaint(read: Callable[[], Any], path: Path) -> str | None:
    """What is wrong with how a file is refused; None where it is taken or refused in a sentence that names it."""
    try:
        read()
    except (ValueError, FileNotFoundError) as error:
        named = path.name in str(error) or str(path.parent) in str(error)
        return None if named and "\n" not in str(error) else f"says {error}"
    except Exception as error:
        return f"raises {type(error).__name__}: {error}"
    return None


@pytest.mark.attack(kind=3)
@pytest.mark.usefixtures("no_mlflow")
@pytest.mark.parametrize("opened", FORMATS, indirect=True)
def test_a_field_of_a_wrong_type_or_none_is_refused_by_name(opened: tuple[Path, Callable[[], Any]]) -> None:
    path, read = opened
    read()
    right, found = values_of(path), []
    fields = list(places(right))
    for at in fields[:: -(-len(fields) // FIELDS)]:
        for by in (places, *(WRONG[::3] if path.suffix == ".yaml" else WRONG)):  # YAML is slow to read
            write(path, changed(right, at, by))
            if said := complaint(read, path):
                found.append(f"{'/'.join(map(str, at))} {'dropped' if by is places else by!r}: {said}")
    for by in WRONG:
        write(path, by)
        if said := complaint(read, path):
            found.append(f"{by!r}: {said}")
    assert not found, "\n".join(found)


@pytest.mark.attack(kind=3)
@pytest.mark.parametrize("value", ["many", None, [1], 2.5])
def test_settings_of_a_run_are_refused_by_name(tmp_path: Path, value: Any) -> None:
    run = Path(shutil.copytree(SAVED / "run", tmp_path / "run"))
    write(run / "config.yaml", values_of(run / "config.yaml") | {"images": value})
    with pytest.raises(ValueError, match=r"config\.yaml has .* as 'images', which must be a whole number"):
        open_run(run)


TEXTS = {
    "nested": "[" * 200_000,
    "nested objects": '{"a":' * 200_000,
    "nested and closed": "[" * 100_000 + "]" * 100_000,
    "many digits": '{"images": ' + "9" * 5_000 + "}",
    "twice": '{"format": "a", "format": "b"}',
    "not a number": '{"images": NaN}',
    "infinite": '{"images": 1e999}',
    "empty": "",
    "cut": '{"images": 3',
}


@pytest.mark.attack(kind=2)
@pytest.mark.usefixtures("no_mlflow")
@pytest.mark.parametrize("opened", [name for name in FORMATS if "settings" not in name], indirect=True)
def test_json_that_python_stumbles_over_is_refused_by_name(opened: tuple[Path, Callable[[], Any]]) -> None:
    path, read = opened
    found = []
    for name, text in TEXTS.items():
        path.write_text(text + "\n")
        found += [f"{name}: {said}" for said in [complaint(read, path)] if said]
    path.write_bytes(b'{"images": "\xff\xfe"}\n')
    found += [f"not UTF-8: {said}" for said in [complaint(read, path)] if said]
    assert not found, "\n".join(found)


ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.attack(kind=2)
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (ALIASES, r"the alias \*a: write it out"),
        ("base: &b {lr: 1}\nother:\n  <<: *b\n", r"the alias \*b: write it out"),
        ("a: " + "[" * 5_000, "nested too deeply"),
        ("a: " + "9" * 5_000, "too many digits"),
        ("a: 0x" + "f" * 5_000, "too many digits"),
        ("beta: 1\nbeta: 2\n", "'beta' comes twice"),
        ("a: " + "x" * 300_000, "larger than"),
        ("1: 2\n", "must hold `name: value` lines"),
    ],
)
def test_yaml_that_asks_for_the_world(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"config\.yaml.*{sentence}") as error:
        load_config(VAEConfig, tmp_path / "config.yaml")
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.attack(kind=3)
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda table: table.drop(columns="tiles"), "isn't the table of a set of shards"),
        (lambda table: table.drop(columns="bytes"), "isn't the table of a set of shards"),
        (lambda table: table.assign(tiles=["many", "few"]), "isn't the table of a set of shards"),
        (lambda table: pd.DataFrame({"slide": np.zeros(2**24 + 1, bool)}), "it claims 16,777,217 rows"),
    ],
)
def test_a_table_of_slides_of_another_shape_is_refused_by_name(
    tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], sentence: str
) -> None:
    shards = Path(shutil.copytree(SAVED / "shards", tmp_path / "shards"))
    change(pd.read_parquet(shards / "slides.parquet")).to_parquet(shards / "slides.parquet")
    with pytest.raises(DamagedShard, match=rf"slides\.parquet.*{sentence}"):
        open_dataset(shards)


@pytest.mark.attack(kind=3)
def test_an_expression_table_of_very_many_rows_is_refused_by_name(tmp_path: Path) -> None:
    pd.DataFrame({"TP53": np.zeros(2**24 + 1, np.int8)}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"x\.parquet claims 16,777,217 rows, and 16,777,216 are read; split it"):
        open_matrix(tmp_path / "x.parquet")
