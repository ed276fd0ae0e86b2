import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from rnagan.article import stages as module
from rnagan.article.demos import SCALES, simulated, spots, unpaired
from rnagan.article.stages import Stage, StageFailed, run_stages, starting, words_of
from rnagan.commands.main import main

ROOT = Path(__file__).parents[2]


def log(folder: Path, name: str, extra: str = "true") -> Stage:
    """A stage that notes each of its runs in a file, then does something else."""
    return Stage(name, f"sh -c 'echo {name} >> {folder / 'log'}; {extra}'")


def leaving(folder: Path, name: str) -> Stage:
    """The same, of a stage that leaves a product, which says that it is done."""
    product = folder / f"{name}.product"
    return Stage(name, log(folder, name, f"touch {product}").command, str(product))


def ran(folder: Path) -> list[str]:
    """The names noted since the last call."""
    names = (folder / "log").read_text().split() if (folder / "log").exists() else []
    (folder / "log").unlink(missing_ok=True)
    return names


def test_second_run_asks_every_command_again_and_keeps_the_seconds_of_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 30.0, 100.0, 102.0, 200.0, 260.0])  # 30 s of work, 2 s to find it done, 60 s of other work
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    for seconds in (30.0, 30.0, 60.0):
        records = run_stages([log(tmp_path, "a")], tmp_path)
        assert ran(tmp_path) == ["a"]
        assert [record["seconds"] for record in records] == [seconds]
        assert json.loads((tmp_path / "stages.json").read_text()) == records


def test_changed_command_starts_its_seconds_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 30.0, 100.0, 102.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    run_stages([log(tmp_path, "a")], tmp_path)
    assert run_stages([log(tmp_path, "a", "echo other")], tmp_path)[0]["seconds"] == 2.0


def test_failed_stage_keeps_the_earlier_ones(tmp_path: Path) -> None:
    stages = [log(tmp_path, "a"), log(tmp_path, "b", f"test -e {tmp_path / 'mended'} || exit 3"), log(tmp_path, "c")]
    with pytest.raises(StageFailed, match=r"b failed \(exit code 3\); mend what it says and start again, what is done"):
        run_stages(stages, tmp_path)
    assert ran(tmp_path) == ["a", "b"]
    assert [record["finished"] for record in json.loads((tmp_path / "stages.json").read_text())] == [True, False]
    (tmp_path / "mended").touch()
    assert all(record["finished"] for record in run_stages(stages, tmp_path))
    assert ran(tmp_path) == ["a", "b", "c"]


def test_seconds_and_memory_of_an_interrupted_stage_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 10)  # every look at the clock is ten seconds after the last
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    memory = {"bytes": 3e9}
    monkeypatch.setattr(module, "_tree_memory", lambda _: memory["bytes"])
    stages = [Stage("a", f"sh -c 'sleep 0.3; test -e {tmp_path / 'go'}'"), Stage("b", "sleep 0.3")]
    with pytest.raises(StageFailed):
        run_stages(stages, tmp_path)
    memory["bytes"] = 1e9
    (tmp_path / "go").touch()
    records = run_stages(stages, tmp_path)
    assert [record["seconds"] for record in records] == [20.0, 10.0]
    assert [record["peak_memory_gb"] for record in records] == [3.0, 1.0]


def test_ctrl_c_is_kept_in_the_record(tmp_path: Path) -> None:
    program = (  # a job in the background ignores SIGINT unless it says otherwise
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from pathlib import Path; from rnagan.article.stages import Stage, run_stages; "
        f"run_stages([Stage('a', 'true'), Stage('b', 'sleep 30')], Path({str(tmp_path)!r}))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    for line in process.stdout:
        if "sleep 30" in line:
            break
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    assert process.wait(timeout=20) != 0
    process.stdout.close()
    records = json.loads((tmp_path / "stages.json").read_text())
    assert [(record["name"], record["finished"]) for record in records] == [("a", True), ("b", False)]
    assert 0 < records[1]["seconds"] < 20


def test_memory_of_children_counts(tmp_path: Path) -> None:
    hungry = "import time; block = bytearray(200_000_000); time.sleep(1)"
    child = f"sh -c '{sys.executable} -c \"{hungry}\"; true'"
    (record,) = run_stages([Stage("hungry", child)], tmp_path)
    assert 0.19 < record["peak_memory_gb"] < 0.5


def test_commands_run_beside_this_interpreter(tmp_path: Path) -> None:
    run_stages([Stage("which", f"sh -c 'command -v python > {tmp_path / 'which'}'")], tmp_path)
    assert Path((tmp_path / "which").read_text().strip()).parent == Path(sys.executable).parent


def test_rnagan_in_a_command_line_is_that_of_this_interpreter(tmp_path: Path) -> None:
    (record,) = run_stages([Stage("help", "rnagan sync-mlflow --help")], tmp_path)
    assert record["finished"] and record["command"] == "rnagan sync-mlflow --help"
    assert words_of("rnagan demo --out 'a b'") == [sys.executable, "-m", "rnagan", "demo", "--out", "a b"]
    assert words_of("sh -c rnagan") == ["sh", "-c", "rnagan"]


def test_a_launch_config_starts_the_module_of_a_command() -> None:
    assert starting("train-vae") == ("rnagan", "train-vae")
    *words, module = starting("train-vae", Path("launch.yaml"))
    assert words == ["accelerate", "launch", "--quiet", "--config_file", "launch.yaml", "-m"]
    assert importlib.import_module(module).main is main.get_command(click.Context(main), "train-vae")


def test_command_reports_a_failed_stage_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rnagan.article import demos

    monkeypatch.setattr(demos, "simulated", lambda *_: [Stage("cohort", "false")])
    options = [f"--out={tmp_path / 'out'}", f"--shards={tmp_path / 'data'}"]
    failed = CliRunner().invoke(main, ["demo", *options])
    assert failed.exit_code == 1 and failed.exception.__class__ is SystemExit
    assert failed.output.splitlines()[-1] == (
        "Error: cohort failed (exit code 1); mend what it says and start again, what is done is kept."
    )
    bad = CliRunner().invoke(main, ["demo", *options, "--data", str(tmp_path / "none")])
    missing = f"Error: The data folder {tmp_path / 'none/spatial/her2st'} does not exist; docs/walkthrough.md says"
    assert bad.output.startswith(missing) and bad.exit_code == 1


@pytest.mark.parametrize("scale", SCALES)
def test_pipelines_name_commands_and_options_that_exist(scale: str) -> None:
    """Every word of every command line that starts with -- is an option of the command that it starts."""
    out, data = Path("runs/x"), Path("shards/data/x")
    source = Path("source")
    real = (*spots(out, data, source, SCALES[scale]), *unpaired(out, data, source, SCALES[scale]))
    for stage in (*simulated(out, data, SCALES[scale]), *real):
        words = stage.command.split()
        assert words[0] == "rnagan"
        command = main.get_command(click.Context(main), words[1])
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        own = [word for word in words[2:] if word.startswith("--")]
        assert own and set(own) <= known, stage.name


def test_what_left_its_product_is_left_out_until_something_before_it_changes(tmp_path: Path) -> None:
    stages = [leaving(tmp_path, name) for name in ("a", "b", "c")]

    def run_now(made_from: str = "these") -> list[str]:
        records = run_stages(stages, tmp_path, made_from)
        assert [record["name"] for record in records] == ["a", "b", "c"] and all(r["finished"] for r in records)
        return ran(tmp_path)

    assert run_now() == ["a", "b", "c"] and run_now() == []
    (tmp_path / "b.product").unlink()
    assert run_now() == ["b", "c"] and run_now() == []  # c may have read what b left
    assert run_now("others") == ["a", "b", "c"]
    stages[1] = Stage("b", f"{stages[1].command} ", stages[1].product)
    assert run_now("others") == ["b", "c"]
