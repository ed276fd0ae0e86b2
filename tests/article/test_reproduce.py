import json
import os
import re
import subprocess
import sys
from pathlib import Path

import anndata
import pytest
from click.testing import CliRunner

from rnagan.article.experiments import Cohort, experiments
from rnagan.commands.main import command_modules, main
from rnagan.config.reproduction import Settings
from rnagan.training.step_rate import items_a_second
from rnagan.training.tile_inputs import TileInputs

ROOT = Path(__file__).parents[2]


@pytest.fixture
def external(inputs: TileInputs, tmp_path: Path) -> Path:
    """Test profiles under other names, as of another cohort."""
    profiles = anndata.read_h5ad(inputs.expression)
    profiles = profiles[profiles.obs["split"] == "test"].copy()
    profiles.obs_names = [f"EXT{k}" for k in range(profiles.n_obs)]
    profiles.obs["donor"] = profiles.obs_names.to_list()
    profiles.write_h5ad(tmp_path / "external.h5ad")
    return tmp_path / "external.h5ad"


def options(inputs: TileInputs, out: Path) -> list[str]:
    paths = {"shards": inputs.shards, "cohort": inputs.cohort, "expression": inputs.expression}
    return [*(f"--{name}={path}" for name, path in paths.items()), f"--out={out}", "--preset=toy"]


def test_every_experiment_leaves_something_of_its_own(inputs: TileInputs, tmp_path: Path) -> None:
    cohort = Cohort(str(inputs.shards), inputs.cohort, inputs.expression)
    stages = experiments(cohort, Settings.read("toy"), tmp_path, 3)
    with_external = experiments(Cohort(**vars(cohort) | {"external": tmp_path}), Settings.read("toy"), tmp_path, 3)
    assert {stage.name for stage in with_external} - {stage.name for stage in stages} == {"external"}
    assert len({stage.product for stage in with_external}) == len(with_external)
    for stage in with_external:
        name = stage.command.split()[1]
        assert stage.command.startswith("rnagan ") and name.replace("-", "_") in command_modules()
    launched = experiments(Cohort(**vars(cohort) | {"launch": tmp_path}), Settings.read("toy"), tmp_path, 3)
    modules = [re.search(r" -m rnagan\.commands\.(\w+) ", stage.command) for stage in launched]
    assert [found[1] for found in modules if found] == ["train_vae", "compute_fid", "compute_fid", "pretrain_simclr"]
    assert any(f"--launch {tmp_path} " in stage.command for stage in launched if stage.name == "modes")


def test_a_rate_is_of_what_went_through() -> None:
    rate = items_a_second(lambda: sum(1 for _ in range(10_000)), seconds=0.2)
    assert 1e5 < rate < 1e10


def test_inputs_that_are_missing_are_named(inputs: TileInputs, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["reproduce", *options(inputs, tmp_path / "out"), "--external=gone.h5ad"])
    assert done.exit_code == 1 and "gone.h5ad does not exist." in done.output and not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_whole_reproduction_at_toy_size(inputs: TileInputs, external: Path, truth: Path, tmp_path: Path) -> None:
    out = tmp_path / "reproduction"
    command = [sys.executable, "-m", "rnagan", "reproduce", *options(inputs, out), f"--external={external}"]
    command += [f"--truth={truth}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def run(*more: str) -> str:
        done = subprocess.run([*command, *more], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    printed = run("--dry-run")
    assert not out.exists() and "In all" in printed and re.search(r"^modes +192 +images +24 ", printed, re.MULTILINE)
    run()
    numbers = json.loads((out / "reproduction.json").read_text())["numbers"]
    by_what = {row["what"]: row for row in numbers}
    assert any(what.startswith("gan: frechet_efficientnet_lite0_60") for what in by_what)
    assert by_what["accuracy, scratch"]["article"] == "76.71% ± 4.51%"
    assert any(row["where"] == "figure 4D" for row in numbers)
    page = (out / "report.html").read_text()
    assert all(f"Figure {name}" in page for name in ("4D:", "5", "6", "S2", "S4")) and page.count("<img") >= 13
    assert run().count("is done.") == 15
