"""Trainers and scores as SLURM jobs: stopped, requeued and gone on, and on two nodes, against runs outside SLURM.

Marked `slurm`: they need the two virtual nodes of tests/slurm/cluster.sh (`make test-slurm` starts them).
"""

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rnagan.config.base import Config
from rnagan.config.gan import GANConfig
from rnagan.config.simclr import SimCLRConfig
from rnagan.config.vae import VAEConfig
from rnagan.evaluation.features import make_extractor
from rnagan.evaluation.fid import RESULT, compute_fid
from rnagan.evaluation.test_set import EvaluationInputs
from rnagan.io.files import sha256_of_file
from rnagan.runtime.distributed import Processes
from rnagan.tracking.run_folder import latest_checkpoint
from rnagan.tracking.run_log import read_metrics
from rnagan.training.tile_inputs import TileInputs
from tests.slurm.jobs import ENVIRONMENT, ROOT, run, state_of, wait_until

CommandLine = Callable[[GANConfig, TileInputs, Path], list[str]]
ONE_NODE = ("--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=1", "--mem-per-cpu=3000", "--time=20")
TWO_NODES = ("--nodes=2", *ONE_NODE[1:])
pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]


@dataclasses.dataclass(frozen=True)
class Job:
    """A batch script that was submitted: its number, its run folder and what it prints."""

    number: str
    out: Path
    log: Path


def submit(script: str, sizes: tuple[str, ...], out: Path, *options: str) -> Job:
    log = out.with_name(f"{out.name}.txt")
    words = (*sizes, f"--output={log}", f"launch_configs/{script}.sbatch", f"--out={out}", *options)
    return Job(run("sbatch", "--parsable", *words).strip(), out, log)


def stop_after_a_checkpoint(jobs: list[Job]) -> None:
    """As SLURM does before the time limit; every job is back in the queue, or goes on already."""
    waiting = list(jobs)

    def all_are_asked() -> bool:
        for job in list(waiting):
            if latest_checkpoint(job.out) is not None:
                run("scancel", "--batch", "--signal=USR1", job.number)
                waiting.remove(job)
        return not waiting

    wait_until(all_are_asked, "no checkpoint")
    for job in jobs:
        wait_until(lambda job=job: "Restarts=1" in state_of(job.number), "the job wasn't requeued")
        assert "Stopped at" in job.log.read_text()


def end_of(job: Job) -> str:
    """What SLURM says of the job when it is done, which ended well."""
    wait_until(lambda: "JobState=COMPLETED" in state_of(job.number), "the job didn't finish")
    assert "ExitCode=0:0" in state_of(job.number)
    return state_of(job.number)


def settings_of(config: Config) -> list[str]:
    return [
        f"--{name.replace('_', '-')}={value}" for name, value in config.to_dict().items() if value not in ("", False)
    ]


def digests(folder: Path | None) -> dict[str, str]:
    assert folder is not None
    return {path.name: sha256_of_file(path) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def config(small: GANConfig) -> GANConfig:
    return small.replace(images=1600, checkpoint_every=400, log_every=400, sample_every=10_000, keep_checkpoints=9)


def test_a_requeued_job_ends_in_the_bits_of_one_that_nothing_stopped(
    nodes: None, config: GANConfig, inputs: TileInputs, tmp_path: Path, command_line: CommandLine
) -> None:
    """One by launch_configs/train_rnagan.sbatch; the other by accelerate launch on each node, as
    launch_configs/slurm_nodes.yaml says, with the CPUs of the two virtual nodes in place of GPUs."""
    launch = (
        'accelerate launch --config_file launch_configs/slurm_nodes.yaml --main_process_ip "$(hostname)" '
        '--machine_rank "$SLURM_NODEID" --num_processes 2 tools/train_rnagan.py "$@"'
    )
    srun = ("srun", "--nodes=2", "--ntasks-per-node=1", "--mem=3000", "--export=ALL,ACCELERATE_USE_CPU=true")
    unstopped = tmp_path / "unstopped"
    printed = run(*srun, "bash", "-c", launch, "-", *command_line(config, inputs, unstopped))
    assert printed.count("(2 × 4)") == 1  # one run of two processes

    job = submit("train_rnagan", TWO_NODES, tmp_path / "run", *command_line(config, inputs, tmp_path / "run"))
    stop_after_a_checkpoint([job])
    stopped_at = int(re.findall(r"Stopped at ([\d,]+) images", job.log.read_text())[0].replace(",", ""))
    assert 400 <= stopped_at < 1600
    assert "NumNodes=2" in end_of(job)
    assert "Finished at 1,600 images" in job.log.read_text() and "(2 × 4)" in job.log.read_text()
    assert digests(latest_checkpoint(job.out)) == digests(latest_checkpoint(unstopped))
    assert [row["images"] for row in read_metrics(job.out)] == sorted({400, 800, 1200, 1600, stopped_at})


def test_jobs_of_one_node_go_back_to_the_queue_and_go_on(nodes: None, inputs: TileInputs, tmp_path: Path) -> None:
    """A β-VAE and SimCLR, at the same time; their own tests prove that they go on in the same bits."""
    vae = VAEConfig(hidden="512,512", latent=16, epochs=600, patience_epochs=600, batch_size=8, threads=1)
    simclr = SimCLRConfig(
        backbone="resnet18", epochs=4, batch_size=16, log_every=16, checkpoint_every=48, precision="float32", threads=1
    )
    jobs = [
        submit("train_vae", ONE_NODE, tmp_path / "vae", f"--expression={inputs.expression}", *settings_of(vae)),
        submit("pretrain_simclr", ONE_NODE, tmp_path / "simclr", f"--shards={inputs.shards}", *settings_of(simclr)),
    ]
    stop_after_a_checkpoint(jobs)
    before = [read_metrics(job.out) for job in jobs]
    hosts = {re.findall(r"BatchHost=(\S+)", end_of(job))[0] for job in jobs}
    assert hosts == {"virtual1", "virtual2"}
    for job, rows, product in zip(jobs, before, ("model/vae.safetensors", "backbone.safetensors"), strict=True):
        after = read_metrics(job.out)
        assert 0 < len(rows) < len(after) and after[: len(rows)] == rows  # to their seconds: it didn't start over
        assert (job.out / product).is_file()


def test_two_nodes_score_as_one_process(nodes: None, inputs: TileInputs, trained: Path, tmp_path: Path) -> None:
    paths = EvaluationInputs(trained, inputs.shards, inputs.cohort, inputs.expression)
    options = [
        *(f"--{name}={getattr(paths, name)}" for name in ("model", "shards", "cohort", "expression")),
        *("--extractor=efficientnet_lite0", "--tiles=60", "--map-tiles=0", f"--cache={tmp_path / 'cache'}"),
    ]
    # PYTHON of several words, as a container's
    through = (*TWO_NODES, "--export=ALL,PYTHON=env THROUGH=env python")
    job = submit("compute_fid", through, tmp_path / "two", *options)
    one = compute_fid(
        *(paths, tmp_path / "one", make_extractor("efficientnet_lite0", None, "cpu"), tmp_path / "other-cache"),
        Processes(0, 1),
        count=60,
        map_tiles=0,
    )
    assert "NumNodes=2" in end_of(job)
    two = json.loads((job.out / RESULT).read_text())
    assert two["protocol"] == one["protocol"] and len(two["scores"]) == len(one["scores"])
    for of_two, of_one in zip(two["scores"], one["scores"], strict=True):
        assert of_two["name"] == of_one["name"] and of_two["value"] == pytest.approx(of_one["value"], rel=1e-4)
    assert job.log.read_text().count(f"{job.out / RESULT}") == 1  # said by one of them


def test_tasks_that_know_nothing_of_one_another_are_refused(
    cluster: None, config: GANConfig, inputs: TileInputs, tmp_path: Path, command_line: CommandLine
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
