"""Every command, as `rnagan NAME` and as its script: `--help` at once, one sentence for a user's mistake; every launch
config starts what it says."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from rnagan.commands.main import command_modules, main, short_help
from tests import programs

ROOT = Path(__file__).parents[1]
SCRIPTS = {path.stem: path for folder in ("shards", "tools") for path in (ROOT / folder).glob("*.py")}
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
LAUNCH_CONFIGS = sorted((ROOT / "launch_configs").glob("*.yaml"))
MISTAKES = {
    "build-tiles": (["--slides", "nowhere", "--out", "out"], "nowhere"),
    "build-spots": (["--sections", "nowhere.csv", "--out", "out"], "nowhere.csv"),
    "check-shards": (["nowhere"], "nowhere"),
    "build-cohort": (["--samples", "nowhere.tsv", "--slides", "x.csv", "--out", "c.csv"], "nowhere.tsv"),
    "build-expression": (["--table", "nowhere.gct", "--cohort", "c.csv", "--out", "e.h5ad"], "nowhere.gct"),
    "audit-privacy": (
        ["--model", "nowhere", "--shards", "s", "--cohort", "c.csv", "--expression", "e.h5ad", "--out", "o"],
        "nowhere",
    ),
    "export-model": (
        ["--model", "nowhere", "--out", "o", "--name", "n", "--licence", "mit", "--data", "d"],
        "nowhere",
    ),
    "score-pathways": (["--profiles", "nowhere.h5ad", "--gmt", "nowhere.gmt", "--out", "p.h5ad"], "nowhere.gmt"),
    "build-profiles": (["--expression", "nowhere.h5ad", "--out", "profiles"], "nowhere.h5ad"),
    "simulate-cohort": (["--out", "c", "--donors", "20", "--slide-donors", "30"], "slide_donors"),
    "train-vae": (["--expression", "nowhere.h5ad", "--out", "run"], "nowhere.h5ad"),
    "train-rnagan": (["--shards", "s", "--cohort", "c", "--out", "run", "--resolution", "60"], "power of two"),
    "train-flow": (
        ["--shards", "s", "--cohort", "c", "--expression", "e", "--vae", "v", "--out", "run", "--resolution", "60"],
        "powers of two",
    ),
    "generate-tiles": (["--model", "m", "--profiles", "nowhere.h5ad", "--out", "t"], "nowhere.h5ad"),
    "evaluate-faithfulness": (
        ["--model", "nowhere", "--shards", "s", "--cohort", "c", "--expression", "e", "--out", "o"],
        "nowhere",
    ),
    "evaluate-vae": (["--vae", "nowhere", "--expression", "e.h5ad", "--out", "o"], "nowhere"),
    "compare-spectra": (
        ["--model", "nowhere", "--shards", "s", "--cohort", "c", "--out", "o"],
        "nowhere",
    ),
    "compute-fid": (
        ["--model", "nowhere", "--shards", "s", "--cohort", "c", "--out", "o", "--extractor", "efficientnet_lite0"],
        "nowhere",
    ),
    "nearest-tiles": (["--model", "nowhere", "--shards", "s", "--cohort", "c", "--out", "o"], "nowhere"),
    "pretrain-simclr": (["--shards", "s", "--out", "o", "--batch-size", "1"], "batch_size must be at least 2"),
    "finetune-classifier": (
        ["--shards", "s", "--cohort", "c", "--out", "o", "--config", "nowhere"],
        "nowhere",
    ),
    "evaluate-external": (
        ["--model", "m", "--profiles", "p", "--shards", "s", "--cohort", "c", "--out", "o", "--epochs", "0"],
        "epochs must be at least 1",
    ),
    "edit-profiles": (
        ["shift", "--vae", "nowhere", "--profiles", "e.h5ad", "--to", "lung", "--out", "o.h5ad"],
        "nowhere",
    ),
    "compare-modes": (
        ["--shards", "nowhere", "--cohort", "c", "--expression", "e", "--vae", "v", "--out", "o"],
        "nowhere",
    ),
    "perturb": (["--model", "nowhere", "--profiles", "e.h5ad", "--genes", "A", "--out", "o"], "nowhere"),
    "confounder-report": (
        ["--model", "nowhere", "--shards", "s", "--cohort", "c", "--expression", "e", "--out", "o"],
        "nowhere",
    ),
    "sync-mlflow": (["nowhere"], "nowhere"),
    "compare-generators": (
        ["--shards", "s", "--cohort", "c", "--expression", "e", "--vae", "v", "--out", "o", "--row", "nothing"],
        "There is no row 'nothing'",
    ),
    "compare-runs": (["nowhere", "elsewhere", "--out", "o"], "nowhere"),
    "reproduce": (
        ["--shards", "s", "--cohort", "nowhere.csv", "--expression", "e", "--out", "o"],
        "nowhere.csv",
    ),
    "doctor": (["--shards", "nowhere"], "nowhere"),
    "gpu-check": (["--check", "nothing"], "There is no check nothing"),
    "demo": (["--data", "nowhere"], "nowhere"),
    "explore": (["--model", "nowhere", "--profiles", "nowhere.h5ad"], "nowhere"),
    "serve-quiz": (["--out", "o", "--source", "real=nowhere"], "nowhere"),
    "serve-reader-study": (["--out", "o", "--source", "real=nowhere"], "nowhere"),
    "analyse-reader-study": (["--scores", "nowhere.csv", "--out", "o"], "nowhere.csv"),
}


SCRIPT = '''"""The command `rnagan {name}` as a script."""

from rnagan.commands.{module} import main

if __name__ == "__main__":
    main()
'''
HEAVY = ("torch", "pandas", "scipy", "mlflow", "accelerate", "dask", "matplotlib")


def test_every_command_has_a_script_a_mistake_and_a_sentence() -> None:
    assert set(SCRIPTS) == set(command_modules()) == {name.replace("-", "_") for name in MISTAKES}
    for module in command_modules():
        assert 20 < len(short_help(module)) < 120, module
        assert SCRIPTS[module].read_text() == SCRIPT.format(name=module.replace("_", "-"), module=module)


@pytest.mark.parametrize("module", command_modules())
def test_help(module: str) -> None:
    done = CliRunner().invoke(main, [module, "--help"])
    assert done.exit_code == 0 and "Usage:" in done.output


def test_help_needs_no_heavy_import() -> None:
    program = (
        "import sys; from rnagan.commands.main import command_modules, main; "
        "[main.get_command(None, module) for module in command_modules()]; "
        f"print(*sorted(sys.modules.keys() & {set(HEAVY)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    "start", [["-m", "rnagan", "train-rnagan"], [SCRIPTS["train_rnagan"]]], ids=["rnagan", "script"]
)
def test_help_answers_in_under_a_second(start: list[str | Path]) -> None:
    seconds = []
    while len(seconds) < 3 and not (seconds and seconds[-1] < 1.0):  # the best of three: this machine may be busy
        began = time.monotonic()
        done = subprocess.run([sys.executable, *start, "--help"], capture_output=True, text=True, env=ENVIRONMENT)
        seconds.append(time.monotonic() - began)
        assert done.returncode == 0 and "Usage:" in done.stdout
    assert min(seconds) < 1.0


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_costs_one_sentence_and_no_traceback(name: str, tmp_path: Path) -> None:
    arguments, named = MISTAKES[name]
    done = programs.run("rnagan", name, *arguments, cwd=tmp_path)
    message = done.stderr.strip().splitlines()[-1]
    assert done.returncode != 0 and message.startswith("Error: ") and named in message
    assert "Traceback" not in done.stderr


def test_a_script_answers_a_mistake_alike(tmp_path: Path) -> None:
    arguments, _ = MISTAKES["perturb"]
    starts = ("rnagan", "perturb"), (SCRIPTS["perturb"],)
    command, script = (programs.run(*start, *arguments, cwd=tmp_path) for start in starts)
    assert (script.returncode, script.stderr) == (command.returncode, command.stderr)


@pytest.mark.parametrize("path", LAUNCH_CONFIGS, ids=lambda path: path.name)
def test_launch_config_says_how_it_is_started_and_is_known_to_accelerate(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    first = path.read_text().splitlines()[0]
    assert (
        first.startswith("# ") and "accelerate launch" in first and f"--config_file launch_configs/{path.name}" in first
    )
    loaded = load_config_from_file(str(path))
    assert loaded.num_processes == yaml.safe_load(path.read_text())["num_processes"]
