"""Trainings under a real launcher that is ended alone: no process stays, and each has its checkpoint."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from rnagan.config.vae import VAEConfig
from tests import programs

pytestmark = [pytest.mark.slow, pytest.mark.guard]
ROOT = Path(__file__).parents[2]
SECONDS = 200.0  # that a busy machine may take
CONFIG = VAEConfig(hidden="16", latent=4, epochs=4000, patience_epochs=4000, batch_size=30, threads=1)


@pytest.mark.attack(kind=6, ends="unharmed")
@pytest.mark.parametrize("launch", ["cpu_one_process", "cpu_two_processes"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ranks_end_with_their_launcher(toy_profiles: Path, tmp_path: Path, launch: str, number: signal.Signals) -> None:
    words = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--config_file"]
    words += [str(ROOT / f"launch_configs/{launch}.yaml"), "-m", "rnagan.commands.train_vae"]
    words += [
        "--expression",
        str(toy_profiles / "profiles.h5ad"),
        "--out",
        str(tmp_path / "run"),
        *programs.options_of(CONFIG),
    ]
    away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)}
    launcher = subprocess.Popen(words, env=os.environ | away, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ranks: list[psutil.Process] = []
    try:
        end = time.monotonic() + SECONDS
        while not (tmp_path / "run/metrics.jsonl").is_file() or not (tmp_path / "run/metrics.jsonl").stat().st_size:
            assert time.monotonic() < end and launcher.poll() is None
            time.sleep(0.05)
        ranks = psutil.Process(launcher.pid).children(recursive=True)
        assert ranks
        launcher.send_signal(number)
        launcher.wait(SECONDS)
        _, alive = psutil.wait_procs(ranks, SECONDS / 4)
        assert not alive
    finally:
        for process in ranks:
            if process.is_running():
                process.kill()
        launcher.kill()
        launcher.wait()
    assert any((tmp_path / "run/checkpoints").iterdir()) and not (tmp_path / "run/model").exists()
