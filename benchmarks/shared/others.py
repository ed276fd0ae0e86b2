"""What else runs on the cores of a measurement."""

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

QUIET_SHARE = 0.1


def own_cores(quick: bool) -> list[int]:
    """All that this process may use; the last alone if `quick`, where threads would only wait for one another."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[-1:] if quick else cores


def foreign_seconds(cores: Iterable[int], pid: int) -> float:
    """Seconds that the cores have been busy since boot with what isn't this process and its children."""
    return _busy_seconds(cores) - _own_seconds(pid)


def wait_for_quiet(cores: Iterable[int], most_seconds: int) -> None:
    """Return when nothing much has run on the cores for a second, or after so long: what was started may still work."""
    cores = list(cores)
    for _ in range(most_seconds):
        before = _busy_seconds(cores)
        time.sleep(1)
        if _busy_seconds(cores) - before < QUIET_SHARE * len(cores):
            return


def _busy_seconds(cores: Iterable[int]) -> float:
    wanted, ticks = {f"cpu{core}" for core in cores}, 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *times = line.split()
        if name in wanted:
            user, nice, system, _idle, _waiting, irq, softirq, steal, *_ = map(int, times)
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def _own_seconds(pid: int) -> float:
    """Also of those of its children that have ended."""
    if not psutil.pid_exists(pid):
        return 0.0
    process, total = psutil.Process(pid), 0.0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total
