"""What a run's folder says: of real runs, and of what is left of crashed ones."""

import shutil
from pathlib import Path

import pytest
import yaml

from rnagan.config.gan import GANConfig
from rnagan.config.simclr import SimCLRConfig
from rnagan.io.files import read_json, write_json
from rnagan.tracking.run_folder import (
    RunFolder,
    check_one_kind,
    find_runs,
    read_metrics,
    read_record,
    this_process,
    write_record,
)
from rnagan.tracking.run_log import RunLog


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def test_a_finished_gan(trained: Path, small: GANConfig) -> None:
    run = RunFolder.open(trained)
    assert (run.kind, run.images, run.total, run.state, run.status) == ("gan", 96, 96, "finished", "FINISHED")
    assert run.digest == read_json(trained / "model/model.json")["digest"] and run.settings == small.to_dict()
    assert run.made_from == read_json(trained / "model/model.json")["made_from"] and len(run.made_from["shards"]) == 64
    assert list(run.sample_grids()) == [48, 96] and run.seconds == read_metrics(trained)[-1]["seconds"] > 0
    record = read_record(trained)
    assert record["tags"]["tissues"] == "cortex, lung" and record["tags"]["dataset_digest"] == run.made_from["shards"]
    assert record["tags"]["model_digest"] == run.digest and record["total"] == 96 and record["resumed"] == 0


def test_a_finished_vae(toy_vae: Path) -> None:
    run = RunFolder.open(toy_vae)
    assert (run.kind, run.state, run.made_from.keys()) == ("vae", "finished", {"expression"})
    assert run.images == run.total == read_json(toy_vae / "model/model.json")["steps"] * 16
    without = {name: value for name, value in run.record.items() if name != "total"}
    write_record(toy_vae.parent / "unlike", without)
    shutil.copytree(toy_vae, toy_vae.parent / "unlike", dirs_exist_ok=True)
    write_record(toy_vae.parent / "unlike", without)  # as an earlier version wrote it: counted from the model
    assert RunFolder.open(toy_vae.parent / "unlike").total == run.total


@pytest.mark.usefixtures("no_mlflow")
def test_a_run_of_simclr_is_its_own_model(tmp_path: Path) -> None:
    log = RunLog(tmp_path, SimCLRConfig(), "simclr", main=True, total=512, made_from={"shards": "abc"})
    log.metrics(256, {"loss": 1.0})
    run = RunFolder.open(tmp_path)
    assert (run.kind, run.state, run.digest, run.made_from) == ("simclr", "256 of 512 tiles", None, {"shards": "abc"})
    write_json(tmp_path / "backbone.json", {"digest": "d" * 64, "images": 512, "made_from": {"shards": "abc"}})
    run = RunFolder.open(tmp_path)
    assert (run.kind, run.state, run.digest) == ("simclr", "finished", "d" * 64) and find_runs([tmp_path]) == [tmp_path]


def test_a_run_that_was_broken_off(run: Path) -> None:
    shutil.rmtree(run / "model")
    shutil.rmtree(run / "checkpoints")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:2]) + lines[2][: len(lines[2]) // 2])
    record = read_record(run) | {"status": "RUNNING"} | this_process()
    write_json(run / "run.json", record)
    found = RunFolder.open(run)
    assert found.state == "32 of 96 images" and found.status == "RUNNING" and found.digest is None
    assert found.made_from == record["made_from"] and len(found.made_from["shards"]) == 64
    for gone in ({"pid": 2**22 + 1}, {"pid_since": 0.0}):  # beyond what Linux numbers; another process's number since
        write_json(run / "run.json", record | gone)
        assert RunFolder.open(run).status == "KILLED"
    write_json(run / "run.json", record | {"host": "elsewhere", "pid": 2**22 + 1})
    assert RunFolder.open(run).status == "RUNNING"  # for all that is known
    (run / "run.json").unlink()
    (run / "metrics.jsonl").unlink()
    assert (RunFolder.open(run).state, RunFolder.open(run).status) == ("0 of 96 images", "KILLED")


def test_a_broken_row_is_named(run: Path) -> None:
    with open(run / "metrics.jsonl", "a") as handle:
        handle.write("\0\0\0\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line \d+, is no row of metrics; delete that line"):
        RunFolder.open(run)


def test_runs_are_found_in_a_folder_of_them(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "other")
    (tmp_path / "pictures").mkdir()
    assert find_runs([tmp_path]) == [tmp_path / "other", run]
    assert find_runs([run, tmp_path, tmp_path / "other"]) == [run, tmp_path / "other"]
    for wrong in (tmp_path / "pictures", tmp_path / "nowhere", run / "model"):
        with pytest.raises(FileNotFoundError, match=rf"{wrong} is no run folder"):
            find_runs([wrong])


def test_settings_of_another_version_are_still_a_run(run: Path) -> None:
    settings = yaml.safe_load((run / "config.yaml").read_text())
    del settings["penalty_step"]
    (run / "config.yaml").write_text(yaml.safe_dump(settings | {"of_tomorrow": 1}))
    assert RunFolder.open(run).settings["of_tomorrow"] == 1


def test_two_kinds_are_refused(trained: Path, toy_vae: Path) -> None:
    with pytest.raises(ValueError, match=r"Runs of a GAN \(trained\) and a β-VAE \(run\) have nothing to compare"):
        check_one_kind([RunFolder.open(toy_vae), RunFolder.open(trained)])
