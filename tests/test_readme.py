"""The README's commands and its Python run, word for word, at toy size."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import simplejpeg

from rnagan.article.demos import SCALES, simulated
from rnagan.article.stages import words_of
from rnagan.data.build_profiles import build_profiles
from rnagan.data.manifest import write_digest
from rnagan.data.writer import ShardWriter
from rnagan.expression.h5ad import Expression, write_expression

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TOY = {  # appended to a command, so these win over what the README says
    "rnagan simulate-cohort": "--donors 40 --slide-donors 20 --genes 60 --tiles-across 2 --tiles-down 2",
    "rnagan train-vae": "--epochs 2 --hidden 16 --latent 8 --beta 0.0001",
    "rnagan train-rnagan": "--images 32 --batch-size 8 --generator-width 4 --critic-width 4",
    "accelerate launch": "--images 32 --batch-size 8 --generator-width 4 --critic-width 4",
    "rnagan evaluate-faithfulness": "--n 2",
    "rnagan nearest-tiles": "--tiles 8",
    "rnagan compute-fid": "--tiles 20 --map-tiles 0 --cache features",
    "rnagan compare-spectra": "--n 2",
    "rnagan pretrain-simclr": "--epochs 1 --batch-size 128 --threads 1 --precision float32",
    "rnagan finetune-classifier": "--epochs 1 --folds 2 --per-class 8 --threads 1",
    "rnagan evaluate-external": "--n 4 --epochs 1 --per-class 8 --validation-share 0.5 --threads 1",
    "rnagan confounder-report": "--n 1 --draws 99",
    "rnagan reproduce": "--preset toy",
    "rnagan perturb": "--n 1 --donors 2 --steps 3",
}
ELSEWHERE = {  # commands that another check runs
    "make demo": "tests/article/test_demo.py, at short scale",
    "make test": "this",
    "make lint": ".ci/run",
    "make test-slow": ".ci/run",
    "make test-slurm": ".ci/run",
    "make bench": "by hand",
    "mlflow ui": "a server",
}


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    joined = [re.sub(r" \\\n +", " ", block) for block in blocks]
    lines = [line.split(" # ")[0].strip() for block in joined for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def elsewhere(command: str) -> str | None:
    return next((known for known in ELSEWHERE if command == known or command.startswith(known + " ")), None)


def is_elsewhere(command: str) -> bool:
    return elsewhere(command) is not None


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the launch configs and a script to launch, and without the project's products."""
    place = tmp_path_factory.mktemp("readme")
    for name in ("tools", "launch_configs"):
        (place / name).symlink_to(ROOT / name)
    return place


def run(words: list[str], cwd: Path, settings: dict[str, str] | None = None) -> str:
    environment = os.environ | (settings or {})
    environment |= {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(1500)
def test_commands_and_python_of_the_readme_run(workplace: Path) -> None:
    ran = [command for command in commands() if not is_elsewhere(command)]
    assert len(ran) >= 10
    for command in ran:
        settings = dict(re.findall(r"\b([A-Z_]+)=(\w+) ", command.partition("accelerate")[0]))  # of the environment
        words = words_of(command)[len(settings) :]
        name = " ".join(command.split()[len(settings) :][:2])
        run([*words, *TOY.get(name, "").split()], workplace, settings)
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)):
        (workplace / f"block_{number}.py").write_text(block)
        run([sys.executable, f"block_{number}.py"], workplace)
    assert len(list((workplace / "runs/demo/generated").glob("*/*.png"))) > 0
    assert (workplace / "runs/demo/mlflow.db").is_file()


def test_python_of_the_shards_readme_runs(tmp_path: Path) -> None:
    rows = [("a", "Lung", "GTEX-1117F-0226"), ("b", "Colon", "GTEX-1117F-0326")]
    for _, _, slide in rows:
        with ShardWriter(tmp_path / "shards/data/lung", slide) as shard:
            for n in range(40):
                image = simplejpeg.encode_jpeg(np.full((256, 256, 3), 3 * n, np.uint8), 90, "RGB")
                shard.add(f"{slide}_x{n}_y0", image, {"slide": slide}, n, 0)
            shard.commit("done", {}, {}, {"tile_px": 256, "mpp": 0.5}, {})
    write_digest(tmp_path / "shards/data/lung")
    cohort = "".join(f"{sample},{sample},{tissue},train,{slide},\n" for sample, tissue, slide in rows)
    (tmp_path / "cohort.csv").write_text("sample,donor,tissue,split,slide,site\n" + cohort)
    samples = [f"GTEX-{n:04d}.1" for n in range(30)]
    obs = pd.DataFrame({"donor": samples, "tissue": "Lung", "split": "train"}, index=samples)
    values, genes = np.ones((30, 7), np.float32), [f"ENSG{n:011d}" for n in range(7)]
    write_expression(tmp_path / "expression.h5ad", Expression(values, obs, genes, genes, "tpm"), "digest")
    build_profiles(tmp_path / "expression.h5ad", tmp_path / "shards/data/profiles")
    text = (ROOT / "shards/README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 5
    printed = []
    for number, block in enumerate(blocks):
        shown = "\nprint(tuple(batch[1].shape), batch[1].dtype)" if "_batches(" in block else ""
        (tmp_path / f"block_{number}.py").write_text(block + shown)
        printed += run([sys.executable, f"block_{number}.py"], tmp_path).splitlines()
    assert printed == ["(64, 3, 256, 256) torch.uint8", "(128, 7) torch.float32"]


def test_every_command_of_the_readme_is_run_somewhere() -> None:
    known = [command for command in commands() if is_elsewhere(command)]
    assert {elsewhere(command) for command in known} == set(ELSEWHERE)


def test_readme_and_demo_say_the_same_commands() -> None:
    for stage in simulated(Path("runs/demo"), Path("shards/data/demo"), SCALES["full"]):
        assert stage.command in commands(), f"make demo runs `{stage.command}`, which the README doesn't say"


def test_architecture_names_every_folder() -> None:
    section = README.split("## Architecture")[1].split("## Develop")[0]
    for folder in (ROOT / "rnagan").iterdir():
        if folder.is_dir() and (folder / "__init__.py").is_file():
            assert f"{folder.name}/`" in section, f"{folder.name}/ is not in the README's architecture section"
