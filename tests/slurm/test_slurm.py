"""Shards built by SLURM jobs that are killed on the way, against those of one process on this machine.

Marked `slurm`: they need the two virtual nodes of tests/slurm/cluster.sh (`make test-slurm` starts them).
"""

import hashlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from rnagan.runtime.ends import signals_ignored
from tests.slurm.jobs import ENVIRONMENT, NODES, PATIENCE_SECONDS, ROOT, is_over, run, wait_until

SECTION = "### A trial run"  # of shards/README.md
TRIAL = "shards/data/trial"  # its folder
SLIDES, BROKEN = 40, 3
SETTINGS = ("--tile-px", "32")  # small tiles: enough work to be killed in the middle of it


@pytest.fixture(scope="module")
def trial_commands() -> list[str]:
    """Those of shards/README.md's trial run, in order; the first simulates its cohort."""
    section = (ROOT / "shards/README.md").read_text(encoding="utf-8").split(SECTION)[1]
    lines = re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL)[0].replace(" \\\n", " ").splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert len(commands) >= 12
    return commands


@pytest.fixture(scope="module")
def simulated(cluster: None, trial_commands: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort of the trial run, forty slides, all of them whole; read it, never write into it."""
    place = tmp_path_factory.mktemp("simulated")
    run("bash", "-c", trial_commands[0], cwd=place)
    return place / TRIAL / "cohort"


@pytest.fixture(scope="module")
def slides(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty slides: one truncated, one that is no slide, one that doesn't say its resolution."""
    cohort = Path(shutil.copytree(simulated, tmp_path_factory.mktemp("slurm") / "cohort"))
    paths = sorted((cohort / "slides").iterdir())
    assert len(paths) == SLIDES
    truncated, text, unresolved = paths[2], paths[7], paths[12]
    os.truncate(truncated, truncated.stat().st_size // 4)
    text.write_text("not a slide")
    told, silent = b"|AppMag = 20|MPP = 0.5", b"|NoMag_ = 20|NoM = 0.5"
    data = unresolved.read_bytes()
    assert data.count(told) >= 2
    unresolved.write_bytes(data.replace(told, silent))
    return cohort / "slides"


@pytest.fixture(scope="module")
def reference(slides: Path) -> Path:
    """What one process makes of them."""
    out = slides.parents[1] / "reference"
    build(slides, out, "--processes", "1")
    failures = pd.read_csv(out / "failures.csv")
    assert sorted(failures["reason"]) == ["no resolution", "unreadable", "unreadable"]
    assert len(shards(out)) == SLIDES - BROKEN
    return out


def build(slides: Path, out: Path, *options: str) -> None:
    run(*build_command(slides, out), *options, code=1)  # some slides failed


def build_command(slides: Path, out: Path) -> list[str]:
    words = (sys.executable, "shards/build_tiles.py", "--slides", slides, "--out", out, *SETTINGS, "--no-qc")
    return list(map(str, words))


def shards(out: Path) -> dict[str, str]:
    """SLIDE → sha256 of its tar."""
    return {tar.stem: hashlib.sha256(tar.read_bytes()).hexdigest() for tar in out.glob("*.tar")}


def committed(out: Path) -> dict[str, int]:
    """SLIDE → when its record was put in place, ns."""
    return {path.name.split(".")[0]: path.stat().st_mtime_ns for path in out.glob("*.record.json")}


def assert_same(out: Path, reference: Path) -> None:
    assert shards(out) == shards(reference)
    assert committed(out).keys() == committed(reference).keys()
    assert (out / "dataset.json").read_bytes() == (reference / "dataset.json").read_bytes()
    failures = pd.concat(map(pd.read_csv, out.glob("failures*.csv"))).sort_values("slide", ignore_index=True)
    pd.testing.assert_frame_equal(failures, pd.read_csv(reference / "failures.csv"))


def submit(slides: Path, out: Path) -> str:
    """Two tasks of shards/build_tiles.sbatch; the array's number."""
    log = out.with_name(out.name + "_%a.txt")
    sizes = ("--array=1-2", "--cpus-per-task=1", f"--output={log}")
    return run("sbatch", "--parsable", *sizes, "shards/build_tiles.sbatch", slides, out, *SETTINGS, "--no-qc").strip()


def told_of(job: str, name: str) -> list[str]:
    """A field of each task of a job, as SLURM's controller knows it."""
    return re.findall(rf"\b{name}=(\S+)", run("scontrol", "show", "job", job))


@pytest.mark.slurm
def test_a_killed_job_array_goes_on_where_it_was(nodes: None, slides: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "array"
    killed = submit(slides, out)
    wait_until(lambda: all(len(list(out.glob(f"*{t}.record.json"))) >= 3 for t in ("CTX", "LNG")), "no shards")
    run("scancel", "--batch", "--signal=KILL", killed)
    wait_until(is_over, "the killed tasks didn't end")
    assert told_of(killed, "ExitCode") == ["0:9", "0:9"]  # by the signal
    assert set(told_of(killed, "BatchHost")) == NODES
    before = committed(out)
    assert 6 <= len(before) < SLIDES - BROKEN
    assert not (out / "dataset.json").exists()  # neither came to its end

    again = submit(slides, out)
    wait_until(is_over, "the array didn't end")
    assert told_of(again, "ExitCode") == ["1:0", "1:0"]  # both parts hold broken slides
    assert set(told_of(again, "BatchHost")) == NODES
    assert_same(out, reference)
    after = committed(out)
    assert {slide: after[slide] for slide in before} == before
    logs = [(tmp_path / f"array_{task}.txt").read_text() for task in (1, 2)]
    made = [int(re.findall(r"(\d+) made", log)[-1]) for log in logs]
    assert sum(made) == SLIDES - BROKEN - len(before) and min(made) > 0


@pytest.mark.slurm
def test_an_array_that_would_leave_slides_out_is_refused(nodes: None, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    words = ("--array=2-3", "--cpus-per-task=1", f"--output={log}", "shards/build_tiles.sbatch", ROOT, tmp_path / "out")
    run("sbatch", "--wait", *words, code=2)
    assert "the array must be 1-n" in log.read_text() and not (tmp_path / "out").exists()


def dask_settings(folder: Path) -> Path:
    """Settings for both virtual nodes, logs in `folder`."""
    settings = yaml.safe_load((ROOT / "tests/slurm/two_nodes.yaml").read_text())
    path = folder / "slurm.yaml"
    path.write_text(yaml.safe_dump(settings | {"log_directory": str(folder), "shared_temp_directory": str(folder)}))
    return path


def workers() -> dict[str, psutil.Process]:
    """Node → the process on it that cuts slides, a child of Dask's nanny."""
    jobs, found = set(run("squeue", "--me", "--noheader", "--format=%A").split()), {}
    for process in psutil.process_iter(["cmdline"]):
        if "--multiprocessing-fork" not in (process.info["cmdline"] or []):
            continue
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        if environment.get("SLURM_JOB_ID") in jobs:
            found[environment["SLURMD_NODENAME"]] = process
    return found


def slide_at_hand(worker: psutil.Process, out: Path) -> str | None:
    for file in worker.open_files():
        path = Path(file.path)
        if path.suffix == ".tar" and path.parent.parent == out:
            return path.stem
    return None


def kill_at_work(out: Path) -> str:
    """SIGKILL a worker that has a slide half made; the slide."""
    for worker in itertools.cycle(workers().values()):
        worker.suspend()
        slide = slide_at_hand(worker, out)
        if slide:
            worker.send_signal(signal.SIGKILL)
            return slide
        worker.resume()
        time.sleep(0.01)
    raise AssertionError("no worker")


@pytest.mark.slurm
def test_a_killed_worker_and_jobs_that_end_cost_no_slide(
    nodes: None, slides: Path, reference: Path, tmp_path: Path
) -> None:
    out = tmp_path / "dask"
    running = subprocess.Popen(
        [*build_command(slides, out), "--slurm", str(dask_settings(tmp_path))], cwd=ROOT, env=ENVIRONMENT
    )

    def logs() -> list[str]:
        return [path.read_text() for path in tmp_path.glob("*.err")]

    def deaths() -> int:
        return sum("was killed by signal 9" in log for log in logs())

    try:
        wait_until(lambda: workers().keys() == NODES, "no workers on both nodes")
        wait_until(lambda: len(committed(out)) >= 6, "no shards")
        lost = kill_at_work(out)
        assert lost not in committed(out)
        wait_until(lambda: deaths() == 1, "the worker wasn't missed")
        assert len(logs()) == 2
        run("scancel", "--me")  # both jobs; others take their place
        assert len(committed(out)) < SLIDES - BROKEN
        assert running.wait(PATIENCE_SECONDS) == 1
    finally:
        running.kill()
    assert_same(out, reference)
    assert lost in shards(out)
    assert len(logs()) > 2 and deaths() == 1
    assert not [log for log in logs() if "tcp://" in log] and sum("tls://" in log for log in logs()) >= 2
    assert not list(tmp_path.glob(".dask-jobqueue*"))  # the keys of the run


@pytest.mark.slurm
def test_jobs_that_slurm_refuses_are_told(nodes: None, tmp_path: Path) -> None:
    settings = dask_settings(tmp_path)
    settings.write_text(settings.read_text().replace("queue: main", "queue: nowhere"))
    code = "from rnagan.runtime.workers import Path, Workers, run_each; import sys\n"
    code += "list(run_each(abs, [1], Workers(slurm=Path(sys.argv[1]))))"
    done = subprocess.run([sys.executable, "-c", code, settings], env=ENVIRONMENT, capture_output=True, text=True)
    assert "ValueError: SLURM refuses the jobs that" in done.stderr and "Invalid partition name" in done.stderr


@pytest.mark.slurm
@pytest.mark.timeout(900)
def test_the_trial_run_of_the_readme(simulated: Path, trial_commands: list[str], tmp_path: Path) -> None:
    """Word for word, from a folder like the project's top, where its first command finds its cohort made."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/slurm").symlink_to(ROOT / "tests/slurm")
    shutil.copytree(ROOT / "shards", tmp_path / "shards", ignore=shutil.ignore_patterns("data"))
    shutil.copytree(simulated, tmp_path / TRIAL / "cohort")
    script = "\n".join(f'{command}\necho "exit code $?"' for command in trial_commands)
    output = run("bash", "-c", script, cwd=tmp_path)
    codes = re.findall(r"^exit code (\d+)$", output, flags=re.MULTILINE)
    assert codes == ["1" if "# exit code 1" in command else "0" for command in trial_commands], output
    trial = tmp_path / TRIAL
    assert len(shards(trial / "local")) == SLIDES - BROKEN
    for out in (trial / "array", trial / "dask"):
        assert_same(out, trial / "local")


@pytest.mark.parametrize("path", ["shards/slurm.yaml", "tests/slurm/two_nodes.yaml"])
def test_settings_make_a_job_script(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = yaml.safe_load((ROOT / path).read_text())
    assert settings.pop("jobs") >= 2
    with signals_ignored(signal.SIGINT):  # which dask-jobqueue takes for itself
        from dask_jobqueue import SLURMCluster
    with SLURMCluster(**settings, scheduler_options={"dashboard_address": "127.0.0.1:0"}) as cluster:
        script = cluster.job_script()
    assert f"#SBATCH --cpus-per-task={settings['cores']}\n" in script and f"#SBATCH -t {settings['walltime']}" in script
    assert settings["processes"] == 1 or f"--nworkers {settings['processes']}" in script
