"""Signals to real processes: the exit code, one sentence, no child that stays, nothing half made."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests import programs

ROOT = Path(__file__).parents[2]
SLOW = (pytest.mark.slow, pytest.mark.guard)
ENDING = Path(__file__).with_name("ending.py")
SECONDS = 200.0  # that a busy machine may take
SENTENCES = {
    signal.SIGTERM: (75, "Stopped by SIGTERM; what is finished is kept, start again to go on.\n"),
    signal.SIGHUP: (75, "Stopped by SIGHUP; what is finished is kept, start again to go on.\n"),
    signal.SIGUSR1: (75, "Stopped by SIGUSR1; what is finished is kept, start again to go on.\n"),
    signal.SIGINT: (130, "Interrupted; what is finished is kept, start again to go on.\n"),
}


def until(there: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not there():
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.05)


def family(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def all_gone(children: list[psutil.Process]) -> bool:
    return not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.attack(kind=6)
@pytest.mark.parametrize("number", SENTENCES)
def test_a_signal_undoes_what_is_half_made(tmp_path: Path, number: signal.Signals) -> None:
    with programs.start(ENDING, "write", tmp_path) as running:
        until((tmp_path / "begun").exists)
        os.kill(running.pid, number)
        ended = running.wait(SECONDS)
    assert (ended.returncode, ended.stderr) == SENTENCES[number]
    assert [path.name for path in tmp_path.iterdir()] == ["begun"]


@pytest.mark.attack(kind=6)
@pytest.mark.parametrize("work", ["lossy", "lossy training"])
def test_an_interrupt_that_python_loses_comes_again(work: str, tmp_path: Path) -> None:
    with programs.start(ENDING, work, tmp_path) as running:
        until((tmp_path / "begun").exists)
        os.kill(running.pid, signal.SIGINT)
        ended = running.wait(SECONDS)
    assert (ended.returncode, ended.stderr) == SENTENCES[signal.SIGINT]
    assert not (tmp_path / "job1").exists()


@pytest.mark.attack(kind=6)
def test_a_second_ctrl_c_ends_what_does_not_listen(tmp_path: Path) -> None:
    with programs.start(ENDING, "ignore", tmp_path) as running:
        until((tmp_path / "begun").exists)
        os.kill(running.pid, signal.SIGINT)
        time.sleep(0.3)
        os.kill(running.pid, signal.SIGINT)
        assert running.wait(SECONDS).returncode == 130


@pytest.mark.attack(kind=6)
@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.parametrize("to_all", [False, True])  # as schedulers and terminals do
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_build(tmp_path: Path, number: signal.Signals, to_all: bool) -> None:
    with programs.start(ENDING, "jobs", tmp_path) as running:
        until(lambda: len(list(tmp_path.glob("job*"))) == 2)
        children = family(running.pid)
        assert len(children) >= 2
        os.kill(running.pid, number)
        for child in children if to_all else ():
            child.send_signal(number)
        ended = running.wait(SECONDS)
        until(lambda: all_gone(children))
    code, said = SENTENCES.get(number, (-signal.SIGKILL, ""))
    assert (ended.returncode, ended.stderr) == (code, said)
    assert len(list(tmp_path.glob("job*"))) == 2  # no worker came back for the others


@pytest.mark.attack(kind=6)
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=SLOW), signal.SIGKILL])
def test_a_stage_ends_with_its_runner(tmp_path: Path, number: signal.Signals) -> None:
    with programs.start(ENDING, "stage", tmp_path, env={"PYTHONPATH": str(ROOT)}) as running:
        until((tmp_path / "begun").exists)
        children = family(running.pid)
        assert any(str(ENDING) in child.cmdline() for child in children)
        os.kill(running.pid, number)  # of this process alone, as a scheduler or another terminal does
        ended = running.wait(SECONDS)
        until(lambda: all_gone(children))
    assert ended.returncode == SENTENCES.get(number, (-signal.SIGKILL, ""))[0]
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "product").exists() and not list(tmp_path.glob(".tmp-*"))


@pytest.mark.attack(kind=6)
def test_a_stage_that_was_stopped_stops_its_runner(tmp_path: Path) -> None:
    with programs.start(ENDING, "stage", tmp_path, env={"PYTHONPATH": str(ROOT)}) as running:
        until((tmp_path / "begun").exists)
        (child,) = (child for child in family(running.pid) if str(ENDING) in child.cmdline())
        child.send_signal(signal.SIGTERM)
        ended = running.wait(SECONDS)
    assert (ended.returncode, ended.stderr) == SENTENCES[signal.SIGTERM]


@pytest.mark.attack(kind=6, ends="unharmed")
def test_nohup_is_respected(tmp_path: Path) -> None:
    (tmp_path / "deaf.py").write_text(
        "import runpy, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
        f"sys.argv = ['deaf.py', 'write', {str(tmp_path)!r}]; runpy.run_path({str(ENDING)!r}, run_name='__main__')"
    )
    with programs.start(tmp_path / "deaf.py") as running:
        until((tmp_path / "begun").exists)
        os.kill(running.pid, signal.SIGHUP)
        time.sleep(0.3)
        assert psutil.pid_exists(running.pid)
        os.kill(running.pid, signal.SIGTERM)
        assert running.wait(SECONDS).returncode == 75
