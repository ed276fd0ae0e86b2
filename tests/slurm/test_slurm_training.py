"""Training by a SLURM job on two nodes that is stopped, requeued and goes on, against a run that nothing stopped.

Marked `slurm`: they need the two virtual nodes of tests/slurm/cluster.sh (`make test-slurm` starts them).
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rnagan.config.gan import GANConfig
from rnagan.io.files import sha256_of_file
from rnagan.tracking.run_folder import latest_checkpoint
from rnagan.tracking.run_log import read_metrics
from rnagan.training.gan.inputs import GANInputs

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 400
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "RANK"} | {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
}
CommandLine = Callable[[GANConfig, GANInputs, Path], list[str]]
pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1500)]


def run(*words: object) -> str:
    done = subprocess.run(list(map(str, words)), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{words}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def wait_until(happened: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < end, f"{what} in {PATIENCE_SECONDS} s"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    settings = Path(os.environ.get("SLURM_CONF", os.devnull))
    if not settings.exists() or "NodeName=virtual[1-2] " not in settings.read_text():
        pytest.skip("SLURM_CONF names no SLURM of two virtual nodes; tests/slurm/cluster.sh starts one.")
    yield
    run("scancel", "--me")
    wait_until(lambda: not run("squeue", "--me", "--noheader").strip(), "jobs didn't end")


@pytest.fixture(scope="module")
def config(small: GANConfig) -> GANConfig:
    return small.replace(images=1600, checkpoint_every=400, log_every=400, sample_every=10_000, keep_checkpoints=9)


@pytest.fixture(scope="module")
def unstopped(
    cluster: None,
    config: GANConfig,
    inputs: GANInputs,
    tmp_path_factory: pytest.TempPathFactory,
    command_line: CommandLine,
) -> Path:
    """Two processes on this machine, under torchrun."""
    out = tmp_path_factory.mktemp("unstopped") / "run"
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    run(*torchrun, "tools/train_rnagan.py", *command_line(config, inputs, out))
    return out


def state_of(job: str) -> str:
    """What SLURM says of a job, which mustn't have failed: minutes after that it would be forgotten."""
    told = run("scontrol", "show", "job", job)
    for state in ("FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"):
        assert f"JobState={state}" not in told, told
    return told


def digests(folder: Path | None) -> dict[str, str]:
    assert folder is not None
    return {path.name: sha256_of_file(path) for path in folder.iterdir()}


def test_a_requeued_job_ends_in_the_bits_of_one_that_nothing_stopped(
    config: GANConfig, inputs: GANInputs, unstopped: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    out, log = tmp_path / "run", tmp_path / "log.txt"
    sizes = (
        "--nodes=2",
        "--ntasks-per-node=1",
        "--cpus-per-task=1",
        "--mem-per-cpu=3000",
        "--time=20",
        f"--output={log}",
    )
    script = ("launch_configs/train_rnagan.sbatch", *command_line(config, inputs, out))
    job = run("sbatch", "--parsable", f"--output={log}", *sizes, *script).strip()
    wait_until(lambda: latest_checkpoint(out) is not None, "no checkpoint")
    run("scancel", "--batch", "--signal=USR1", job)  # what SLURM does before the time limit
    wait_until(lambda: "Restarts=1" in state_of(job), "the job wasn't requeued")
    stopped_at = int(latest_checkpoint(out).name)
    assert 400 <= stopped_at < 1600 and "Stopped at" in log.read_text()
    wait_until(lambda: "JobState=COMPLETING" not in state_of(job), "the job didn't end")
    time.sleep(5)  # SLURM would wait two minutes; started within a second, the job gets the end of its first start
    run("scontrol", "update", f"jobid={job}", "StartTime=now")
    wait_until(lambda: "JobState=COMPLETED" in state_of(job), "the job didn't finish")
    assert "ExitCode=0:0" in state_of(job) and "NumNodes=2" in state_of(job)
    assert "Finished at 1,600 images" in log.read_text() and "(2 × 4)" in log.read_text()
    assert digests(latest_checkpoint(out)) == digests(latest_checkpoint(unstopped))
    assert [row["images"] for row in read_metrics(out)] == sorted({400, 800, 1200, 1600, stopped_at})


def test_accelerate_launch_on_each_node_makes_one_run(
    config: GANConfig, inputs: GANInputs, unstopped: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    """launch_configs/slurm_nodes.yaml, with the CPUs of the two virtual nodes in place of GPUs."""
    launch = (
        'accelerate launch --config_file launch_configs/slurm_nodes.yaml --main_process_ip "$(hostname)" '
        '--machine_rank "$SLURM_NODEID" --num_processes 2 tools/train_rnagan.py "$@"'
    )
    srun = ("srun", "--nodes=2", "--ntasks-per-node=1", "--mem=3000", "--export=ALL,ACCELERATE_USE_CPU=true")
    run(*srun, "bash", "-c", launch, "-", *command_line(config, inputs, tmp_path / "run"))
    assert digests(latest_checkpoint(tmp_path / "run")) == digests(latest_checkpoint(unstopped))


def test_tasks_that_know_nothing_of_one_another_are_refused(
    cluster: None, config: GANConfig, inputs: GANInputs, tmp_path: Path, command_line: CommandLine
) -> None:
    srun = ("srun", "--nodes=2", "--ntasks-per-node=1", "--mem=3000", sys.executable, "tools/train_rnagan.py")
    done = subprocess.run(
        [*srun, *command_line(config, inputs, tmp_path / "run")],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 1 and not (tmp_path / "run").exists()
    assert "Error: 2 processes were asked for and 1 started" in done.stderr
