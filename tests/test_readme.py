"""The commands and the Python of README.md and of docs/ run, word for word, at toy size; links lead somewhere."""

import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from functools import partial
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
import simplejpeg
import yaml
from accelerate.state import AcceleratorState
from click.testing import CliRunner

from rnagan.article.demos import SCALES, simulated
from rnagan.commands.main import main
from rnagan.data.build_profiles import build_profiles
from rnagan.data.set_digest import write_digest
from rnagan.data.writer import ShardWriter
from rnagan.doctor import reading
from rnagan.evaluation import tile_measurements
from rnagan.expression.h5ad import Expression, write_expression
from rnagan.training import step_rate
from tests.spatial import made_section

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Pages whose commands run here, in this order: a page uses what those before it made.
PAGES = (
    "docs/walkthrough.md",
    "README.md",
    "docs/data.md",
    "docs/spatial.md",
    "docs/training.md",
    "docs/generators.md",
    "docs/latent.md",
    "docs/evaluation.md",
    "docs/privacy.md",
    "docs/classification.md",
    "docs/explorer.md",
    "docs/reader-study.md",
    "docs/tracking.md",
    "docs/reproduce.md",
)
TABLES = ("docs/architecture.md", "docs/formats.md", "docs/gpu.md")  # pages without commands
# Hours, and data of their own.
RESULTS = tuple(f"docs/results-{name}.md" for name in ("gan", "vae", "real-tiles", "cohorts", "spots"))
TOY = {  # appended to a command, so these win over what the page says
    "rnagan simulate-cohort": "--donors 40 --slide-donors 20 --genes 60 --tiles-across 2 --tiles-down 2 --processes 1",
    "rnagan build-tiles": "--tile-px 64 --mpp 1.0 --processes 1",
    "rnagan build-spots": "--tile-px 64 --mpp 2.0 --margin-px 8 --processes 1",
    "rnagan train-vae": "--epochs 2 --hidden 16 --latent 8 --beta 0.0001",
    "rnagan train-rnagan": "--resolution 64 --images 32 --batch-size 8 --generator-width 4 --critic-width 4 "
    "--validation-tiles 16",
    "rnagan train-flow": "--images 16 --batch-size 8 --width 8 --levels 2 --layers 1 --block-px 4 --sampling-steps 2 "
    "--validation-tiles 16",
    "rnagan compare-generators": "--seeds 1 --n 1 --tiles 16 --copy-tiles 8 --set images=16 --set batch_size=8 "
    "--set gan.generator_width=4 --set gan.critic_width=4 --set flow.width=8 --set flow.levels=2 --set flow.layers=1 "
    "--set flow.block_px=4 --set flow.sampling_steps=2",
    "accelerate launch": "--images 32 --batch-size 8 --generator-width 4 --critic-width 4",
    "rnagan evaluate-faithfulness": "--n 2",
    "rnagan generate-tiles": "--n 2",
    "rnagan nearest-tiles": "--tiles 8 --training-tiles 24",
    "rnagan compute-fid": "--tiles 20 --map-tiles 0 --cache features",
    "rnagan compare-spectra": "--n 2",
    "rnagan pretrain-simclr": "--epochs 1 --batch-size 32 --threads 1 --precision float32",
    "rnagan finetune-classifier": "--epochs 1 --folds 2 --per-class 8 --threads 1",
    "rnagan evaluate-external": "--n 4 --epochs 1 --per-class 8 --validation-share 0.5 --threads 1",
    "rnagan confounder-report": "--n 1 --draws 99",
    "rnagan audit-privacy": "--tiles 2 --copies 8",
    "rnagan serve-quiz": "--each 4 --rounds 4",
    "rnagan serve-reader-study": "--each 2 --repeats 1",
    "rnagan reproduce": "--preset toy",
    "rnagan perturb": "--n 1 --donors 2 --steps 3",
}
OTHERS = {  # options that pages name of programs that aren't ours
    "--help": "click",
    "--gpus-per-task": "srun",
    "--nproc_per_node": "torchrun",
    "--all": "benchmarks/real_pairs.py",
}
ELSEWHERE = {  # commands that another check runs
    "make demo": "tests/article/test_demo.py, at short scale",
    "make explore": "a server",
    "make test": "this",
    "make install": ".ci/run",
    "make lint": ".ci/run",
    "make servers": ".ci/run",
    "make test-guards": ".ci/run",
    "make test-slow": "weekly.yaml",
    "make test-slurm": ".ci/run",
    "make test-oldest": "weekly.yaml",
    "make bench": "by hand",
    "mlflow ui": "a server",
    ".venv/bin/pre-commit install": "changes the repository",
    ".venv/bin/python -m pytest": "this",
}


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def commands(page: str) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", text_of(page), flags=re.DOTALL)
    joined = [re.sub(r" \\\n +", " ", block) for block in blocks]
    lines = [line.split(" # ")[0].strip() for block in joined for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def python_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text_of(page), flags=re.DOTALL)


def elsewhere(command: str) -> str | None:
    return next((known for known in ELSEWHERE if command == known or command.startswith(known + " ")), None)


def run(command: str) -> None:
    """Run a command of a page at toy size: `rnagan` in this process, another one as a shell would."""
    settings = dict(re.findall(r"\b([A-Z_]+)=(\w+) ", command.partition("accelerate")[0]))  # of the environment
    words = shlex.split(command)[len(settings) :]
    words += TOY.get(" ".join(words[:2]), "").split()
    if words[0] == "rnagan":
        AcceleratorState._reset_state(reset_partial_state=True)  # each command would be a process of its own
        done = CliRunner().invoke(main, words[1:])
        assert done.exit_code == 0, f"{shlex.join(words)}\n{done.output}\n{done.exception!r}"
        return
    environment = os.environ | settings | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    other = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert other.returncode == 0, f"{shlex.join(words)}\n{other.stdout}\n{other.stderr}"


def run_python(block: str) -> None:
    exec(compile(block, "page", "exec"), {"__name__": "__main__"})


def write_gene_sets(cohort: Path) -> None:
    """sets.gmt: the genes of each programme of the simulated cohort."""
    programmes = pd.read_csv(cohort / "programmes.csv").groupby("programme")["gene"]
    Path("sets.gmt").write_text("".join("\t".join([name, "", *genes]) + "\n" for name, genes in programmes))


def write_own_data(cohort: Path) -> None:
    """slides/, samples.csv and expression.tsv: a simulated cohort under names that follow no project's rules."""
    truth = pd.read_csv(cohort / "truth.csv")
    donor = "p" + truth["donor"].str.removeprefix("SIM-")
    own = pd.DataFrame({"sample": donor + "_" + truth["tissue"], "donor": donor, "tissue": truth["tissue"]})
    own["slide"] = own["sample"] + ".svs"
    Path("slides").mkdir()
    for slide, name in zip(truth["slide"], own["slide"], strict=True):
        if truth["has_slide"][truth["slide"] == slide].item():
            shutil.copy(cohort / "slides" / f"{slide}.svs", Path("slides") / name)
    own[truth["has_slide"]].to_csv("samples.csv", index=False)
    table = pd.read_csv(cohort / "expression.gct.gz", sep="\t", skiprows=2).drop(columns="Description")
    names = dict(zip(truth["sample"], own["sample"], strict=True))
    table.rename(columns=names | {"Name": "gene"}).to_csv("expression.tsv", sep="\t", index=False)


def write_sections(table: Path) -> None:
    """Five Visium sections of as many donors, with their images."""
    rows = []
    for n in range(5):
        made = made_section.make_section(n)
        outs = made_section.write_space_ranger(Path(f"runs/S{n}/outs"), made)
        image = made_section.write_image(Path(f"images/S{n}.tif"), made.image)
        rows.append({"section": f"S{n}", "donor": f"P{n}", "tissue": "breast", "path": outs, "image": image})
    made_section.write_table(table, rows)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: launch configs and scripts, and none of the project's products."""
    monkeypatch.chdir(tmp_path)
    for name in ("launch_configs", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.fixture
def toy_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the commands' options don't say is small too."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name, steps in (("train_tissue_classifier", 10), ("train_condition_regressor", 10)):
        monkeypatch.setattr(tile_measurements, name, partial(getattr(tile_measurements, name), steps=steps))
    monkeypatch.setattr(step_rate, "COUNTED_SECONDS", 0.2)
    monkeypatch.setattr(reading, "SECONDS", 0.2)


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.timeout(1500)
@pytest.mark.usefixtures("mirrored_evaluations", "toy_process")
def test_commands_and_python_of_the_pages_run(workplace: Path, mlflow_store: Path) -> None:
    stores = [workplace / runs / "mlflow.db" for runs in ("runs/demo", "runs/mine", "runs")]
    for store in stores:  # empty, so that no command waits for migrations
        store.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(mlflow_store, store)
    for page in PAGES:
        if page == "README.md":
            write_own_data(Path("shards/data/demo/cohort"))
        if page == "docs/spatial.md":
            write_sections(Path("sections.csv"))
        if page == "docs/training.md":
            write_gene_sets(Path("shards/data/demo/cohort"))
        for command in commands(page):
            if elsewhere(command) is None:
                run(command)
        for block in python_of(page):
            run_python(block)
    assert len(list(Path("runs/demo/generated").glob("*/*.png"))) > 0
    assert len(list(Path("runs/mine/generated").glob("*/*.png"))) > 0
    for store in stores:
        assert sqlite3.connect(store).execute("select count(*) from runs").fetchone()[0] > 0


def test_python_of_the_shards_readme_runs(workplace: Path, capsys: pytest.CaptureFixture) -> None:
    rows = [("a", "Lung", "GTEX-1117F-0226"), ("b", "Colon", "GTEX-1117F-0326")]
    for _, _, slide in rows:
        with ShardWriter(workplace / "shards/data/lung", slide) as shard:
            for n in range(40):
                image = simplejpeg.encode_jpeg(np.full((256, 256, 3), 3 * n, np.uint8), 90, "RGB")
                shard.add(f"{slide}_x{n}_y0", image, {"slide": slide}, n, 0)
            shard.commit("done", {}, {}, {"tile_px": 256, "mpp": 0.5}, {})
    write_digest(workplace / "shards/data/lung")
    cohort = "".join(f"{sample},{sample},{tissue},train,{slide},\n" for sample, tissue, slide in rows)
    Path("cohort.csv").write_text("sample,donor,tissue,split,slide,site\n" + cohort)
    samples = [f"GTEX-{n:04d}.1" for n in range(30)]
    obs = pd.DataFrame({"donor": samples, "tissue": "Lung", "split": "train"}, index=samples)
    values, genes = np.ones((30, 7), np.float32), [f"ENSG{n:011d}" for n in range(7)]
    write_expression(workplace / "expression.h5ad", Expression(values, obs, genes, genes, "tpm"), "digest")
    build_profiles(workplace / "expression.h5ad", workplace / "shards/data/profiles")
    capsys.readouterr()
    blocks = python_of("shards/README.md")
    assert len(blocks) == 5
    for block in blocks:
        shown = "\nprint(tuple(batch[1].shape), batch[1].dtype)" if "_batches(" in block else ""
        run_python(block + shown)
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["(64, 3, 256, 256) torch.uint8", "(128, 7) torch.float32"]


def test_every_page_is_run_or_says_that_it_cannot_be() -> None:
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert pages - set(TABLES) == {page for page in PAGES if page != "README.md"} | set(RESULTS)
    assert not any(map(commands, TABLES))
    for page in RESULTS:
        assert page.removeprefix("docs/") in "".join(text_of(other) for other in PAGES)


def test_every_command_of_the_pages_is_run_somewhere() -> None:
    written = [command for page in (*PAGES, "CONTRIBUTING.md") for command in commands(page)]
    assert {elsewhere(command) for command in written} - {None} == set(ELSEWHERE)
    assert all(elsewhere(command) for command in commands("CONTRIBUTING.md"))


def test_options_of_the_results_pages_are_known() -> None:
    """Their commands take hours and data that aren't here, so only their words are checked."""
    for page in RESULTS:
        for command in commands(page):
            words = shlex.split(command)
            if words[0] != "rnagan":
                continue
            wanted = main.get_command(click.Context(main), words[1])
            assert wanted is not None, f"{page}: {command}"
            unknown = {word.partition("=")[0] for word in words if word.startswith("--")} - options_of(wanted)
            assert not unknown, f"{page}: `{command}` has unknown options {unknown}"


def options_of(command: click.Command) -> set[str]:
    """Options of a command, and of the commands in it."""
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    return known.union(*map(options_of, inner))


def test_commands_and_options_that_sentences_name_are_known() -> None:
    context = click.Context(main)
    ours = {name: main.get_command(context, name) for name in main.list_commands(context)}
    known = {name: options_of(command) for name, command in ours.items() if command is not None}
    every, met = set().union(*known.values()), set()
    for page in (*PAGES, *TABLES, *RESULTS, "shards/README.md", "CONTRIBUTING.md"):
        for code in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)):
            named = set(re.findall(r"\brnagan ([a-z][a-z-]+)", code))
            assert named <= set(known), f"{page}: `{code}` names no command"
            start = re.match(r"(?:rnagan )?([a-z-]+)", code)
            taken = known.get(start[1], every) if start else every
            options = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", code))
            assert options <= taken | set(OTHERS), f"{page}: `{code}` names {options - taken}, which there aren't"
            met |= options
    assert set(OTHERS) <= met


def test_pages_and_demo_say_the_same_commands() -> None:
    for stage in simulated(Path("runs/demo"), Path("shards/data/demo"), SCALES["full"]):
        assert stage.command in commands(PAGES[0]), f"make demo runs `{stage.command}`, which {PAGES[0]} doesn't say"


@pytest.mark.parametrize("page", [*PAGES, *TABLES, *RESULTS, "shards/README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if path.startswith("http"):
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page} links to {link}, which isn't there"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{page} links to {link}, which has no such heading"


def test_every_picture_is_shown() -> None:
    shown = "".join(text_of(page) for page in (*PAGES, *TABLES, *RESULTS))
    for path in (ROOT / "docs").glob("*.png"):
        assert f"{path.name})" in shown, f"{path.name} is on no page"


@pytest.mark.parametrize("page", [*PAGES, *TABLES, *RESULTS])
def test_every_page_shows_a_picture(page: str) -> None:
    assert re.search(r"^(!\[.+\]\(\S+\.png\)|```mermaid)$", text_of(page), flags=re.MULTILINE), page


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200


def test_architecture_names_every_folder() -> None:
    assert "docs/architecture.md" in README.split("## Architecture")[1]
    for folder in (ROOT / "rnagan").iterdir():
        if folder.is_dir() and (folder / "__init__.py").is_file():
            assert f"`{folder.name}/`" in text_of("docs/architecture.md"), (
                f"{folder.name}/ isn't in docs/architecture.md"
            )


def test_workflow_and_hooks_run_what_make_and_ci_run() -> None:
    jobs = yaml.safe_load(text_of(".github/workflows/ci.yaml"))["jobs"]
    assert [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step][-1] == ".ci/run"
    weekly = yaml.safe_load(text_of(".github/workflows/weekly.yaml"))["jobs"]
    made = {job: [step["run"] for step in weekly[job]["steps"] if "run" in step] for job in weekly}
    assert made == {"oldest": ["make test-oldest"], "slow": ["make servers", "make test-slow"]}
    (source,) = yaml.safe_load(text_of(".pre-commit-config.yaml"))["repos"]
    recipe = text_of("Makefile").split("\nlint:")[1].split("\n\n")[0]
    of_make = re.findall(r"\$\(BIN\)/(.*)", recipe)
    assert source["repo"] == "local" and [hook["entry"] for hook in source["hooks"]] == [
        f".venv/bin/{tool}" for tool in of_make
    ]


def test_the_page_of_formats_names_tests_that_there_are() -> None:
    named = re.findall(r"`((?:\w+/)*)(test_\w+)(\.py)?`", text_of("docs/formats.md"))
    files = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
    functions = "".join(path.read_text() for path in files.values())
    assert len(named) > 20
    for folder, name, is_file in named:
        if is_file:
            assert (ROOT / "tests" / folder / f"{name}.py").is_file() if folder else f"{name}.py" in files, name
        else:
            assert f"def {name}(" in functions, name
