"""Memory that a contender takes beyond its imports."""

import re
from pathlib import Path

_AFTER_IMPORTS: list[float] = []


def start_counting() -> None:
    """Call when all is imported and nothing is built."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    _AFTER_IMPORTS[:] = [_gigabytes("VmRSS")]


def peak_gb() -> float:
    """Highest resident memory since `start_counting`, less what the imports took."""
    return _gigabytes("VmHWM") - _AFTER_IMPORTS[0]


def _gigabytes(name: str) -> float:
    (kilobytes,) = re.findall(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) * 1024 / 1e9
