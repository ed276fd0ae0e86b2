"""How a process ends: a signal undoes what is half made, ends all child processes and gives a known exit code.

Whatever the command, it ends with 75 after SIGTERM, SIGUSR1 or SIGHUP (started again, it goes on), with 130 after
Ctrl-C. Trainings answer the first two themselves, with a checkpoint (rnagan/training/run.py).

Python can't be kept from losing an exception: one that comes while a C module is imported, or in a `__del__`, is gone.
So long work asks now and then whether one was lost (`raise_lost_interrupt`).
"""

import contextlib
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from rnagan.io.files import has_ended

STOPPED, INTERRUPTED = 75, 130  # sysexits' EX_TEMPFAIL; what shells say of Ctrl-C
CLEAN_UP_SECONDS = 10.0  # after which a signalled process ends as it is
PARENT_GONE_SECONDS = 30.0  # the same after it has lost its launcher: a training writes a checkpoint
OUTLIVE_SECONDS = 30.0  # that a worker of a loader goes on for after SIGTERM
FOLLOWED = "RNAGAN_FOLLOWED"  # environment: the process that started this one, with which it ends
_POLL_SECONDS = 0.5
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """Another signal than Ctrl-C asked the process to end. Libraries know it as a Ctrl-C."""


class _Answer:
    """Turns the first signal into an exception of the main thread, and sees to it that the process then ends."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.said = False

    @property
    def exit_code(self) -> int:
        return INTERRUPTED if self.number == signal.SIGINT else STOPPED

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self.number is not None:  # it is ending; Ctrl-C once more is from someone who won't wait
            if number == signal.SIGINT:
                self.end_now()
            return
        self.number = number
        limit = threading.Timer(CLEAN_UP_SECONDS, self.end_now)
        limit.daemon = True
        limit.start()
        raise self.interrupt()

    def interrupt(self) -> KeyboardInterrupt:
        """What the signal raises in the main thread."""
        return KeyboardInterrupt() if self.number == signal.SIGINT else Stopped()

    def end_now(self) -> None:
        """End without waiting for anything; what is half made is removed by the next start."""
        end_children()
        if not self.said:
            self.say()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(self.exit_code)

    def say(self) -> None:
        """One sentence, unless another process says it."""
        self.said = True
        if self.number is None or os.environ.get("RANK", "0") != "0" or FOLLOWED in os.environ:
            return
        how = "Interrupted" if self.number == signal.SIGINT else f"Stopped by {signal.Signals(self.number).name}"
        with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
            print(f"{how}; what is finished is kept, start again to go on.", file=sys.stderr, flush=True)


_answer: _Answer | None = None  # of the command that runs


@contextlib.contextmanager
def answered_signals() -> Iterator[None]:
    """The whole of a command: a signal in this block ends the process with one sentence and its exit code."""
    global _answer
    if _answer is not None or threading.current_thread() is not threading.main_thread():  # only it can answer them
        yield
        return
    _answer = answer = _Answer()
    before, show = {number: signal.getsignal(number) for number in SIGNALS}, sys.unraisablehook

    def show_unraisable(lost: "sys.UnraisableHookArgs") -> None:
        if answer.number is None or not isinstance(lost.exc_value, KeyboardInterrupt):
            show(lost)

    sys.unraisablehook = show_unraisable
    for number, handler in before.items():
        if handler not in (signal.SIG_IGN, None):  # as nohup has it, and a shell for what it starts in the background
            signal.signal(number, answer)
    _follow_launcher()
    try:
        yield
    except BaseException as error:
        signalled = answer.number is not None
        if not signalled:
            if not isinstance(error, KeyboardInterrupt):
                raise
            answer.number = signal.SIGTERM if isinstance(error, Stopped) else signal.SIGINT  # a stage's
        end_children()
        answer.say()
        if signalled:
            before = {}  # whatever else comes, the process is ending
        raise SystemExit(answer.exit_code) from None
    finally:
        _answer, sys.unraisablehook = None, show
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def raise_lost_interrupt() -> None:
    """Raise again what a signal raised, where it never arrived: code that is interrupted doesn't go on to this call."""
    if _answer is not None and _answer.number is not None:
        raise _answer.interrupt()


def end_children() -> None:
    """Kill the worker processes of this one."""
    for child in multiprocessing.active_children():
        with contextlib.suppress(OSError, ValueError):
            child.kill()


@contextlib.contextmanager
def signals_ignored(*numbers: signal.Signals) -> Iterator[None]:
    """Processes that begin in this block ignore these signals: they are their parent's to answer."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def serve_parent() -> None:
    """Called in a worker process of a loader: it ends with its parent, however that ends, and not before.

    Schedulers send SIGTERM to every process of a job; the parent needs its workers for its last steps.
    """
    parent, show = multiprocessing.parent_process(), sys.excepthook
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(STOPPED)

    def show_of_living_parent(*raised: Any) -> None:  # what hands memory over says so where nobody is left to take it
        parent.join(1)
        if parent.is_alive():
            show(*raised)

    def outlive(_number: int, _frame: FrameType | None) -> None:
        limit = threading.Timer(OUTLIVE_SECONDS, os._exit, (STOPPED,))
        limit.daemon = True
        limit.start()

    sys.excepthook = show_of_living_parent
    threading.Thread(target=end_with_parent, name="end with parent", daemon=True).start()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, outlive)
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def following(environment: dict[str, str]) -> dict[str, str]:
    """The environment for a command that is to end with this process, also where this one is killed."""
    return environment | {FOLLOWED: str(os.getpid())}


def _follow_launcher() -> None:
    """Stop, as after SIGTERM, once the launcher or the runner of stages is gone that started this process."""
    followed = {int(os.environ[FOLLOWED])} if FOLLOWED in os.environ else set()
    parent = os.getppid()
    if is_launched():
        followed.add(parent)
    if followed:
        watch = threading.Thread(target=_watch, args=(followed, parent), name="follow launcher", daemon=True)
        watch.start()


def is_launched() -> bool:
    """Whether accelerate's launcher or torchrun is right above this process."""
    try:
        words = psutil.Process(os.getppid()).cmdline()
    except psutil.Error:
        return False
    return is_accelerate_launch(words) or "TORCHELASTIC_RUN_ID" in os.environ


def is_accelerate_launch(words: list[str]) -> bool:
    """Whether a command line starts with accelerate launch, accelerate-launch or -m accelerate.commands.launch."""
    names = [Path(word).name for word in words[:4]]
    return ("accelerate", "launch") in itertools.pairwise(names) or any(
        name in ("accelerate-launch", "accelerate.commands.launch") for name in names
    )


def _watch(followed: set[int], parent: int) -> None:
    while not any(_is_gone(pid, parent) for pid in followed):
        time.sleep(_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PARENT_GONE_SECONDS)
    end_children()
    os._exit(STOPPED)


def _is_gone(pid: int, parent: int) -> bool:
    return os.getppid() != pid if pid == parent else has_ended(pid)
