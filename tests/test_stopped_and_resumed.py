"""A build and a training that a signal stops end in the bytes of undisturbed ones, when they are started again."""

import hashlib
import os
import signal
import time
from pathlib import Path

import pytest

from rnagan.config.base import load_config
from rnagan.config.simulation import SimulationConfig
from rnagan.config.vae import VAEConfig
from rnagan.simulation.cohort import simulate_cohort
from tests import programs

CODES = {signal.SIGTERM: 75, signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}
SLOW = (pytest.mark.slow, pytest.mark.guard)
NUMBERS = [number if number == signal.SIGTERM else pytest.param(number, marks=SLOW) for number in CODES]
SECONDS = 200.0  # that a busy machine may take
CONFIG = SimulationConfig(donors=12, slide_donors=4, genes=50, tiles_across=2, tiles_down=2)
AWAY = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def stop(words: tuple[object, ...], sign: Path, number: signal.Signals) -> None:
    """Start a command, and send it a signal once a path is there."""
    with programs.start(*words, env=AWAY) as running:
        end = time.monotonic() + SECONDS
        while not sign.exists():
            assert time.monotonic() < end, running.wait(1)
            time.sleep(0.01)
        os.kill(running.pid, number)
        ended = running.wait(SECONDS)
    assert ended.returncode == CODES[number] and "Traceback" not in ended.stderr, ended
    assert number == signal.SIGKILL or not list(sign.parent.rglob(".tmp-*"))


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("calm") / "cohort"
    simulate_cohort(CONFIG, out, processes=1)
    return out


@pytest.mark.attack(kind=6, ends="unharmed")
@pytest.mark.parametrize("number", NUMBERS)
def test_a_build(calm: Path, tmp_path: Path, number: signal.Signals) -> None:
    words = ("rnagan", "simulate-cohort", "--processes", 1, "--out", tmp_path / "cohort", *programs.options_of(CONFIG))
    stop(words, tmp_path / "cohort/slides", number)
    programs.run(*words).check()
    assert digests(tmp_path / "cohort") == digests(calm)


@pytest.mark.attack(kind=6, ends="unharmed")
@pytest.mark.parametrize("number", NUMBERS)
def test_a_training(toy_profiles: Path, toy_vae: Path, tmp_path: Path, number: signal.Signals) -> None:
    options = programs.options_of(load_config(VAEConfig, toy_vae / "config.yaml"))
    words = ("rnagan", "train-vae", "--expression", toy_profiles / "profiles.h5ad", "--out", tmp_path / "run", *options)
    stop(words, tmp_path / "run/metrics.jsonl", number)
    programs.run(*words, env=AWAY).check()
    assert digests(tmp_path / "run/model") == digests(toy_vae / "model")
