import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from rnagan.doctor.findings import Section, Verdict
from rnagan.doctor.launched import check_launch, end_all, read_launch_config

CONFIGS = Path(__file__).parents[2] / "launch_configs"
MULTI_CPU = "{distributed_type: MULTI_CPU, use_cpu: true, num_machines: 1, num_processes: 2, mixed_precision: 'no'}"


def launch(path: Path, timeout: float = 120) -> Section:
    section = Section("Launch")
    check_launch(section, read_launch_config(path), timeout)
    return section


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.distributed
def test_two_processes_come_up_and_talk() -> None:
    section = launch(CONFIGS / "cpu_two_processes.yaml")
    assert [line.verdict for line in section.lines] == [Verdict.OK, Verdict.OK], section.lines
    assert "2 of 2 processes came up, on the CPU" in section.lines[0].text
    figures = section.figures
    assert [one["rank"] for one in figures["processes"]] == [0, 1] and figures["backend"] == "gloo"
    # bytes × 2 (n − 1) / n / s
    assert figures["all_reduce_bytes_per_second"] == pytest.approx(64e6 / figures["all_reduce_seconds"])
    assert 0 < figures["latency_seconds"] < figures["all_reduce_seconds"]


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.distributed
def test_multi_cpu_silently_starts_one_process(tmp_path: Path) -> None:
    path = tmp_path / "multi_cpu.yaml"
    path.write_text(MULTI_CPU)
    (line,) = launch(path).lines
    assert line.verdict == Verdict.PROBLEM and line.text.startswith("1 of 2 processes came up")
    assert "cpu_two_processes.yaml" in line.advice


@pytest.mark.distributed
def test_a_launch_that_takes_too_long_is_killed() -> None:
    began = time.monotonic()
    (line,) = launch(CONFIGS / "cpu_two_processes.yaml", timeout=0.5).lines
    assert line.verdict == Verdict.PROBLEM and "was not done after 0.5 seconds and was killed" in line.text
    assert time.monotonic() - began < 10


def test_what_a_launcher_put_into_sessions_of_their_own_is_killed_too() -> None:
    program = "import subprocess, time; p = subprocess.Popen(['sleep', '99'], start_new_session=True); print(p.pid)"
    command = [sys.executable, "-c", f"{program}; time.sleep(99)"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, bufsize=1, env={"PYTHONUNBUFFERED": "1"}
    ) as launcher:
        started = psutil.Process(int(launcher.stdout.readline()))
        end_all(launcher)
    assert launcher.returncode == -signal.SIGKILL
    psutil.wait_procs([started], timeout=10)
    assert not started.is_running() or started.status() == psutil.STATUS_ZOMBIE


@pytest.mark.skipif(torch.cuda.device_count() >= 8, reason="there are eight GPUs")
@pytest.mark.parametrize(("name", "asked"), [("gpu_one.yaml", "1 GPU "), ("gpu_eight.yaml", "8 GPUs ")])
def test_gpus_that_are_not_here(name: str, asked: str) -> None:
    if name == "gpu_one.yaml" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    (line,) = launch(CONFIGS / name).lines
    assert line.verdict == Verdict.PROBLEM and line.text.startswith(f"It asks for {asked}")


def test_what_a_config_asks_for(tmp_path: Path) -> None:
    two = read_launch_config(CONFIGS / "cpu_two_processes.yaml")
    assert (two.processes, two.gpus, two.environment) == (2, 0, {"ACCELERATE_USE_CPU": "true"})
    assert read_launch_config(CONFIGS / "cpu_one_process.yaml").environment == {}
    assert read_launch_config(CONFIGS / "gpu_eight.yaml").gpus == 8
    path = tmp_path / "several.yaml"
    path.write_text("{num_machines: 4, num_processes: 32, gpu_ids: all}")
    (line,) = launch(path).lines
    assert line.verdict == Verdict.WARNING and "4 machines" in line.text
    for text in ("{num_machines: 1}", "{num_processes: two}"):
        path.write_text(text)
        with pytest.raises(ValueError, match="no launch config"):
            read_launch_config(path)


def test_a_strangers_config_sets_accelerates_variables_only(tmp_path: Path) -> None:
    path = tmp_path / "trap.yaml"
    path.write_text(f"# LD_PRELOAD=/tmp/trap.so ACCELERATE_USE_CPU=true accelerate launch …\n{MULTI_CPU}\n")
    assert read_launch_config(path).environment == {"ACCELERATE_USE_CPU": "true"}
