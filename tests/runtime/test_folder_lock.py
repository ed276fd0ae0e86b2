"""Two runs on one folder: real processes that start together, are killed, stand still, whose pid is given again."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from rnagan.commands.main import main
from rnagan.config.tiling import TilingConfig
from rnagan.data.build_jobs import BuildOptions
from rnagan.io.files import read_json
from rnagan.runtime import folder_lock
from rnagan.runtime.folder_lock import PREFIX, SILENT_SECONDS, FolderInUse, FolderLock, locked
from rnagan.slides.premade_tiles import pack_tiles
from rnagan.tracking.run_folder import read_metrics
from rnagan.training.tile_inputs import TileInputs
from tests import programs

HOLD = """
import sys, time
from rnagan.runtime.folder_lock import FolderLock
try:
    lock = FolderLock(sys.argv[1], "a test", sys.argv[2])
except ValueError as error:
    sys.exit(str(error))
print("holds", flush=True)
sys.stdin.read()
lock.release()
"""

# A training that stands still as soon as it has its folder.
STANDS_STILL = """
import os, signal
from rnagan.commands.train_vae import main
from rnagan.training import run

class Stands(run.FolderLock):
    def __init__(self, *words):
        super().__init__(*words)
        os.kill(os.getpid(), signal.SIGSTOP)

run.FolderLock = Stands
main()
"""

Holder = Callable[..., subprocess.Popen]


@pytest.fixture
def holder() -> Iterator[Holder]:
    """holder(folder, settings) starts a process that takes the folder, and holds it until its input ends."""
    started: list[subprocess.Popen] = []

    def start(folder: Path, settings: str = "") -> subprocess.Popen:
        words = [sys.executable, "-c", HOLD, str(folder), settings]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def holds(process: subprocess.Popen) -> bool:
    """Whether it got the folder; it has said so, or ended, when this returns."""
    assert process.stdout is not None
    return process.stdout.readline() == "holds\n"


def claims(folder: Path) -> list[Path]:
    return sorted(folder.glob(PREFIX + "*"))


def change_claim(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def grow_old(path: Path) -> None:
    then = time.time() - SILENT_SECONDS - 5
    os.utime(path, (then, then))


@pytest.mark.attack(kind=5)
def test_of_processes_that_start_together_one_gets_the_folder(tmp_path: Path, holder: Holder) -> None:
    started = [holder(tmp_path / "run") for _ in range(5)]
    (winner,) = [process for process in started if holds(process)]
    sentence = rf"{tmp_path}/run is in use: a test writes there since .*process {winner.pid}\). Wait until it has ended"
    for process in started:
        if process is not winner:
            _, said = process.communicate()
            assert process.returncode == 1 and said.count("\n") == 1 and re.match(sentence, said), said
    winner.communicate("")
    assert not claims(tmp_path / "run")


@pytest.mark.attack(kind=5, ends="unharmed")
def test_the_folder_of_a_killed_owner_is_taken_over(tmp_path: Path, holder: Holder) -> None:
    owner = holder(tmp_path)
    assert holds(owner)
    owner.send_signal(signal.SIGSTOP)  # silent, and yet there
    grow_old(claims(tmp_path)[0])
    with pytest.raises(FolderInUse):
        FolderLock(tmp_path, "x")
    owner.kill()  # not waited for: a process that has ended, and isn't gone yet
    while Path(f"/proc/{owner.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    with locked(tmp_path, "x"):
        assert len(claims(tmp_path)) == 1
    assert not claims(tmp_path)


@pytest.mark.attack(kind=5, ends="unharmed")
def test_a_pid_that_was_given_again_is_not_the_owner(tmp_path: Path, holder: Holder) -> None:
    owner = holder(tmp_path)
    assert holds(owner)
    claim = claims(tmp_path)[0]
    change_claim(claim, since="1")
    with locked(tmp_path, "x"):
        assert not claim.exists()


@pytest.mark.attack(kind=5)
@pytest.mark.parametrize(
    ("there", "here", "taken"),
    [
        ({}, {}, False),
        ({"job": "7"}, {"SLURM_JOB_ID": "7"}, False),  # another part of the same job
        ({"job": "7"}, {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}, True),  # it went back to the queue
        ({"job": "7", "restarts": 1}, {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"}, True),
        ({"job": "8"}, {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}, False),
    ],
)
def test_an_owner_on_another_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holder: Holder, there: dict, here: dict, taken: bool
) -> None:
    """A requeued job takes over; others wait until its claim was silent for ten minutes, or somebody deletes it."""
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    owner = holder(tmp_path)
    assert holds(owner)
    claim = claims(tmp_path)[0]
    change_claim(claim, host="node2", place="node2 another boot", **there)
    for name, value in here.items():
        monkeypatch.setenv(name, value)
    if taken:
        FolderLock(tmp_path, "x").release()
        return
    with pytest.raises(
        FolderInUse, match=rf"host node2, process {owner.pid}\).* after 10 minutes, or delete {claim} now"
    ):
        FolderLock(tmp_path, "x")
    assert claims(tmp_path) == [claim]
    grow_old(claim)
    FolderLock(tmp_path, "x").release()
    assert not claims(tmp_path)


@pytest.mark.attack(kind=5)
def test_a_claim_that_is_not_whole_counts_until_it_is_old(tmp_path: Path) -> None:
    claim = tmp_path / f"{PREFIX}node2-1-aa"
    for text in ("", "[1]", '{"host": "node2"}'):
        claim.write_text(text)
        with pytest.raises(FolderInUse, match=f"or delete {claim} now"):
            FolderLock(tmp_path, "x")
    grow_old(claim)
    FolderLock(tmp_path, "x").release()


def test_equal_settings_share_a_folder_and_others_are_refused(tmp_path: Path, holder: Holder) -> None:
    first, second = holder(tmp_path, "a"), holder(tmp_path, "a")
    assert holds(first) and holds(second)
    third = holder(tmp_path, "b")
    assert not holds(third) and "a test with other settings writes there" in third.communicate()[1]
    first.communicate("")
    assert not holds(holder(tmp_path, "")) and len(claims(tmp_path)) == 1
    second.communicate("")
    assert holds(holder(tmp_path, "b"))


def test_a_process_may_hold_a_folder_several_times_over(tmp_path: Path) -> None:
    with locked(tmp_path, "outer"):
        with locked(tmp_path, "inner"):
            assert len(claims(tmp_path)) == 2
        assert len(claims(tmp_path)) == 1


def test_an_owner_gives_a_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_lock, "BEAT_SECONDS", 0.05)
    with locked(tmp_path, "x"):
        (claim,) = claims(tmp_path)
        grow_old(claim)
        until = time.monotonic() + 20
        while time.time() - claim.stat().st_mtime > 60:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_folder_that_nobody_can_write_to_needs_no_lock() -> None:
    with locked("/sys/kernel", "x"):
        pass


@pytest.mark.attack(kind=5)
def test_two_builds_of_other_settings(tmp_path: Path, holder: Holder) -> None:
    """Parts and repeated builds have equal settings, and share a folder."""
    Image.new("RGB", (24, 24), (90, 60, 30)).save(tmp_path / "tile.png")
    (tmp_path / "tiles.csv").write_text("path,tissue,donor\ntile.png,lung,a\n")

    def build(tile_px: int) -> int:
        return pack_tiles(tmp_path / "tiles.csv", tmp_path / "out", TilingConfig(tile_px=tile_px), BuildOptions()).made

    assert build(24) == 1
    record, before = read_json(tmp_path / "out/a.record.json"), sorted((tmp_path / "out").iterdir())
    (tmp_path / "out/a.record.json").unlink()
    other = holder(tmp_path / "out", "settings of another build")
    assert holds(other)
    with pytest.raises(FolderInUse, match=rf"out is in use: a test writes there .*process {other.pid}"):
        build(24)
    assert not (tmp_path / "out/a.record.json").exists()
    other.kill()
    other.communicate()
    same = holder(tmp_path / "out", record["options_digest"])
    assert holds(same) and build(24) == 1
    with pytest.raises(FolderInUse, match="out is in use"):
        build(32)
    same.communicate("")
    assert sorted((tmp_path / "out").iterdir()) == before


@pytest.mark.attack(kind=5)
@pytest.mark.parametrize("name", ["generate-tiles", "simulate-cohort", "build-profiles", "compare-runs", "demo"])
def test_a_command_refuses_a_folder_that_another_writes_to(
    trained: Path, toy_profiles: Path, inputs: TileInputs, tmp_path: Path, holder: Holder, name: str
) -> None:
    words = {
        "generate-tiles": ["--model", trained, "--profiles", inputs.expression, "--n", "1"],
        "simulate-cohort": ["--donors", "1"],
        "build-profiles": ["--expression", toy_profiles / "profiles.h5ad"],
        "compare-runs": [trained, trained],
        "demo": ["--scale", "toy", "--shards", tmp_path / "data"],
    }
    assert holds(holder(tmp_path / "out"))
    refused = CliRunner().invoke(main, [name, *map(str, words[name]), "--out", str(tmp_path / "out")])
    assert refused.exit_code == 1 and re.match(r"Error: .*out is in use: a test writes there since", refused.output)
    assert [path.name[: len(PREFIX)] for path in (tmp_path / "out").iterdir()] == [PREFIX]


@pytest.mark.attack(kind=5)
@pytest.mark.slow
@pytest.mark.guard
def test_two_trainings_on_one_folder(toy_profiles: Path, tmp_path: Path) -> None:
    """The second is refused while the first is there, though it stands still; killed, it is no hindrance."""
    options = ["--hidden", "16", "--latent", "4", "--epochs", "3", "--batch-size", "50", "--threads", "1"]
    said = ["--expression", toy_profiles / "profiles.h5ad", "--out", tmp_path / "run", *options]
    words = ["rnagan", "train-vae", *said]
    (tmp_path / "stands.py").write_text(STANDS_STILL)
    environment = {"MLFLOW_TRACKING_URI": f"file:{tmp_path}/mlruns"}
    first = threading.Thread(target=programs.run, args=[tmp_path / "stands.py", *said], kwargs={"env": environment})
    first.start()
    until = time.monotonic() + 200
    while not claims(tmp_path / "run"):
        assert time.monotonic() < until
        time.sleep(0.02)
    owner = json.loads(claims(tmp_path / "run")[0].read_text())
    second = programs.run(*words, env=environment)
    assert second.returncode == 1 and "Traceback" not in second.stderr
    assert "run is in use: training of a β-VAE writes there since" in second.stderr
    assert f"(host {owner['host']}, process {owner['pid']})" in second.stderr
    os.kill(owner["pid"], signal.SIGKILL)
    first.join()
    programs.run(*words, env=environment).check()
    undisturbed = [tmp_path / "other" if word == tmp_path / "run" else word for word in words]
    programs.run(*undisturbed, env=environment).check()
    for name in ("run", "other"):
        assert not claims(tmp_path / name)
    shown = [[row["images"] for row in read_metrics(tmp_path / name)] for name in ("run", "other")]
    assert shown[0] == shown[1] and len(shown[0]) >= 3
    models = [sorted((tmp_path / name / "model").glob("*.safetensors")) for name in ("run", "other")]
    assert [path.read_bytes() for path in models[0]] == [path.read_bytes() for path in models[1]] != []


@pytest.mark.attack(kind=5)
@pytest.mark.slow
@pytest.mark.guard
def test_every_process_of_a_launch_refuses_a_folder_in_use(toy_profiles: Path, tmp_path: Path, holder: Holder) -> None:
    """The first holds the folder for all: the others neither wait for it nor train alone."""
    assert holds(holder(tmp_path / "run"))
    words = ["rnagan", "train-vae", "--expression", toy_profiles / "profiles.h5ad", "--out", tmp_path / "run"]
    refused = programs.run(*words, "--batch-size", "50", "--threads", "1", processes=2, timeout=120)
    assert refused.returncode == 1 and "run is in use: a test writes there since" in refused.stderr
    assert "Traceback" not in refused.stderr and not (tmp_path / "run/metrics.jsonl").exists()
