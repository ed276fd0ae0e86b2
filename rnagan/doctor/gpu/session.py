"""All checks of a GPU, each in a process of its own with a limit of its own; what is found is on disk after each."""

import dataclasses
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from rnagan.doctor.gpu.catalogue import CHECKS, Check
from rnagan.doctor.launched import end_all
from rnagan.io.files import read_json, write_json

OK, FAILED, LEFT_OUT, TOO_LONG = "ok", "failed", "left out", "too long"
LAST_LINES = 20  # of what a failed check said, that are kept
CPU_FACTOR = 4  # on a check's limit: a CPU is slower, and busy with other work


@dataclasses.dataclass(frozen=True)
class Session:
    """`device`: cuda or cpu; `quick`: small sizes, as on a CPU; `names`: the checks to run; `minutes`: for all."""

    device: str
    quick: bool
    names: tuple[str, ...]
    minutes: float

    def run(self, out: Path, say: Callable[[str], None]) -> dict[str, Any]:
        """Run the checks in order and write `out` after each. Checks that fail don't keep the others from running."""
        began = time.monotonic()
        found: dict[str, Any] = {"device": self.device, "quick": self.quick, "checks": {}}
        with tempfile.TemporaryDirectory(prefix="rnagan-gpu-") as folder:
            work = Path(folder)
            write_json(work / "settings.json", {"device": self.device, "quick": self.quick})
            for check in (one for one in CHECKS if one.name in self.names):
                left = 60 * self.minutes - (time.monotonic() - began)
                one = self._one(check, work, left, found["checks"])
                found["checks"][check.name] = one
                found["seconds"] = round(time.monotonic() - began, 1)
                write_json(out, found)
                say(row(check.name, one))
        return found

    def _one(self, check: Check, work: Path, left: float, before: dict[str, Any]) -> dict[str, Any]:
        why = self._why_not(check, left, before)
        if why:
            return {"status": LEFT_OUT, "seconds": 0.0, "why": why}
        limit = min(check.seconds * (CPU_FACTOR if self.device == "cpu" else 1), left)
        began, log = time.monotonic(), work / f"{check.name}.log"
        command = [sys.executable, "-m", "rnagan.doctor.gpu.run_check", check.name, str(work)]
        with open(log, "wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                end_all(process)
        result: dict[str, Any] = {"seconds": round(time.monotonic() - began, 1)}
        said = {"said": log.read_text(errors="replace").splitlines()[-LAST_LINES:]}
        answer = work / f"{check.name}.json"
        if answer.is_file():
            result |= read_json(answer)
            return result if result["status"] != FAILED else result | said
        if code is None:
            return result | {"status": TOO_LONG, "why": f"it wasn't done after {limit:.0f} s"} | said
        ended = f"it ended with {code}" if code >= 0 else f"signal {-code} ended it"
        return result | {"status": FAILED, "why": ended} | said

    def _why_not(self, check: Check, left: float, before: dict[str, Any]) -> str:
        """Why a check can't run here and now; "" where it can."""
        if check.gpu_only and self.device == "cpu":
            return "it is for GPUs"
        if missing := [name for name in check.packages if importlib.util.find_spec(name) is None]:
            return f"{', '.join(missing)} isn't installed"
        if absent := [name for name in check.after if before.get(name, {}).get("status") != OK]:
            return f"it needs what {', '.join(absent)} makes"
        return "" if left > 1 else "no time is left; see --minutes"


def passed(found: dict[str, Any]) -> bool:
    """Whether no check failed or took too long."""
    return not any(one["status"] in (FAILED, TOO_LONG) for one in found["checks"].values())


def row(name: str, one: dict[str, Any]) -> str:
    """A check as a line: status, seconds, and what was found in a few words."""
    return f"{one['status']:<9} {one['seconds']:6.1f} s  {name:<11} {one.get('summary') or one.get('why', '')}"


def check_device(device: str) -> None:
    """Refuse a GPU where there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "PyTorch sees no GPU on this machine, so nothing was checked; --device cpu runs the same checks at small "
            "size on the CPU."
        )


def with_what_they_need(names: Sequence[str]) -> tuple[str, ...]:
    """The checks of these names, and those whose products they need; raises `ValueError` for an unknown one."""
    known = {check.name: check for check in CHECKS}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"There is no check {', '.join(unknown)}; choose of {', '.join(known)}.")
    wanted = list(names or known)
    for name in wanted:
        wanted += [other for other in known[name].after if other not in wanted]
    return tuple(name for name in known if name in wanted)
