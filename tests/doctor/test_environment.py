import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from rnagan.config.gan import GANConfig
from rnagan.doctor.environment import (
    check_mlruns,
    check_open_files,
    check_requirements,
    check_shared_memory,
    check_versions,
    worker_bytes,
)
from rnagan.doctor.findings import Section, Verdict


def section() -> Section:
    return Section("Versions")


def install(folder: Path, *requirements: str, python: str = ">=3.11") -> None:
    """Put the metadata of a package `toy` into a folder."""
    about = folder / "toy-1.0.dist-info"
    about.mkdir()
    lines = ["Metadata-Version: 2.1", "Name: toy", "Version: 1.0", f"Requires-Python: {python}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requirements]
    (about / "METADATA").write_text("\n".join(lines) + "\n")


def test_this_environment_meets_what_rnagan_requires() -> None:
    found = section()
    check_versions(found)
    assert [line.verdict for line in found.lines] == [Verdict.OK]
    assert "torch 2." in found.lines[0].text and "requirements are met" in found.lines[0].text
    assert found.figures["installed"]["torch"] and "pytest" not in found.figures["installed"]  # an extra


def test_too_old_and_missing_are_problems() -> None:
    found = section()
    check_requirements(found, [Requirement(text) for text in ("numpy>=99", "no-such-package>=1.5", "click>=8")])
    assert {line.verdict for line in found.lines} == {Verdict.PROBLEM}
    old, missing = found.lines
    assert "numpy 2" in old.text and "numpy>=99 is needed" in old.text and "'numpy>=99'" in old.advice
    assert "no-such-package is missing" in missing.text
    assert found.figures["missing"] == ["no-such-package"]


def test_requirements_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "numpy>=99", 'click>=99; extra == "dev"', 'torch>=99; python_version < "3"', python=">=99")
    monkeypatch.syspath_prepend(tmp_path)
    found = section()
    check_versions(found, "toy")
    assert [line.text.split(":")[0].split(";")[0].split()[0] for line in found.lines] == ["Python", "numpy"]


def test_package_that_is_not_installed() -> None:
    found = section()
    check_versions(found, "no-such-package")
    assert [line.verdict for line in found.lines] == [Verdict.WARNING]


SMALL = GANConfig(batch_size=8, prefetch_batches=2, resolution=32)


def shared(config: GANConfig, tile_px: int, folder: Path) -> Section:
    section = Section("Memory and files")
    check_shared_memory(section, config, tile_px, folder)
    return section


def test_a_worker_holds_its_prefetched_batches_and_the_one_in_use() -> None:
    assert worker_bytes(SMALL, 10) == 3 * 8 * 300


def test_shared_memory(tmp_path: Path) -> None:
    here = shared(SMALL, 32, tmp_path)  # a large file system stands for it
    assert here.lines[0].verdict == Verdict.OK and "(2 + 1) × 8 × 3 × 32²" in here.lines[0].text
    free = here.figures["shared_memory_free_bytes"]
    workers = free // worker_bytes(SMALL, 4096) + 2
    full = shared(SMALL.replace(loader_workers=int(workers)), 4096, tmp_path)
    assert full.lines[0].verdict == Verdict.PROBLEM and "--loader-workers 0" in full.lines[0].advice
    assert full.figures["shared_memory_needed_bytes"] == workers * worker_bytes(SMALL, 4096)
    assert shared(SMALL, 32, tmp_path / "nowhere").lines[0].verdict == Verdict.WARNING


def test_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for hard, verdict in ((1100, Verdict.WARNING), (4096, Verdict.OK), (resource.RLIM_INFINITY, Verdict.OK)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, hard=hard: (1024, hard))
        section = Section("Memory and files")
        check_open_files(section, SMALL.replace(window_slides=1024))
        assert section.lines[0].verdict == verdict


@pytest.fixture
def old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder with ./mlruns, which MLflow itself makes as older versions did, to work in; returns its run's id."""
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        client = MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
        run = client.create_run(client.create_experiment("old"))
        client.log_param(run.info.run_id, "latent", "6")
        client.set_terminated(run.info.run_id)
    return run.info.run_id


def test_an_old_store_of_mlflow_is_reported_as_mlflow_treats_it(
    old_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient, MlflowException
    from mlflow.tracking._tracking_service import utils

    found = section()
    check_mlruns(found)
    assert [line.verdict for line in found.lines] == [Verdict.WARNING] and found.figures["mlruns_experiments"] == 2
    assert "takes it for its default store instead of mlflow.db, and then refuses it" in found.lines[0].text
    assert utils._get_default_tracking_uri() == "./mlruns"
    with pytest.raises(MlflowException, match="MLFLOW_ALLOW_FILE_STORE=true"):
        MlflowClient(tracking_uri=f"{Path.cwd()}/mlruns")  # another address than the fixture's: opened stores stay open
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # as the advice has it, to read
    assert MlflowClient(tracking_uri=f"{Path.cwd()}/mlruns").get_run(old_store).data.params == {"latent": "6"}
    allowed = section()
    check_mlruns(allowed)
    assert allowed.lines == []


@pytest.mark.slow
@pytest.mark.guard
def test_the_advised_command_moves_an_old_store(old_store: str) -> None:
    from mlflow import MlflowClient

    found = section()
    check_mlruns(found)
    (command,) = re.findall(r"mlflow migrate-filestore .*?\.db", found.lines[0].advice)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(shlex.split(command), env=environment, check=True, capture_output=True)
    assert MlflowClient(tracking_uri="sqlite:///mlruns.db").get_run(old_store).data.params == {"latent": "6"}


@pytest.mark.parametrize("uri", ["./mlruns", "file:./mlruns", "file:///data/mlruns", "/data/mlruns"])
def test_a_folder_as_tracking_uri_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    found = section()
    check_mlruns(found)
    assert [line.verdict for line in found.lines] == [Verdict.PROBLEM]
    assert f"names a folder ({uri})" in found.lines[0].text
    assert f"--source {uri.removeprefix('file://').removeprefix('file:')} " in found.lines[0].advice


@pytest.mark.parametrize("uri", ["", "http://127.0.0.1:5000", "sqlite:///runs/mlflow.db", "databricks"])
def test_nothing_is_said_of_mlruns_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    (tmp_path / "mlruns" / "not-an-experiment").mkdir(parents=True)
    found = section()
    check_mlruns(found)
    assert found.lines == [] and "mlruns_experiments" not in found.figures
